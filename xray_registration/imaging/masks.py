"""Pixels that cannot count, and the unattenuated intensity, from the image itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A plateau smaller than this share of the image is chance.
_SMALLEST_PLATEAU = 2e-4
_SMALLEST_PLATEAU_PX = 20
# A saturated background of this share says where the unattenuated beam is.
_SATURATED_BACKGROUND = 2e-3
_SAMPLES = 200_000  # a histogram of more pixels says the same


def plateau(values: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) bool: the pixels at the largest value, where a detector or display clipped it.

    The largest value of an unclipped image is rare; of a clipped one it is commoner than all of the
    values within the next 1 % of the range together.
    """
    good = values[usable]
    if good.size == 0:
        return np.zeros_like(usable)
    top, low = good.max(), good.min()
    at_top = np.count_nonzero(good == top)
    near = np.count_nonzero((good < top) & (good >= top - 0.01 * (top - low)))
    if at_top < max(_SMALLEST_PLATEAU * good.size, _SMALLEST_PLATEAU_PX) or at_top <= near:
        return np.zeros_like(usable)
    return values >= top


def estimate_i0(
    values: NDArray[np.float64], saturation: float | None, saturated_fraction: float
) -> tuple[float, str]:
    """The intensity of the unattenuated beam, and in words how it was found.

    With a saturated background it is the saturation level, a lower bound. Otherwise it is the
    centre of the brightest peak of the histogram, when there is one that holds 0.5 % of the pixels:
    open air makes such a peak. Without one it is the 99.5th percentile. An error of I0 adds a
    constant to the attenuation and leaves its gradients alone.

    Args:
        values: (N,) usable intensities, >= 0.
        saturation: raw level of saturated pixels, None without any.
        saturated_fraction: their share of the image.
    """
    if saturation is not None and saturated_fraction >= _SATURATED_BACKGROUND:
        return saturation, "saturation level of the background (a lower bound)"
    values = values[:: max(1, values.size // _SAMPLES)]
    brightest, high = (float(v) for v in np.quantile(values, [0.995, 0.999]))
    if high <= 0:
        return max(float(values.max()), float(np.finfo(np.float64).tiny)), "largest intensity"
    bins = 100
    counts, edges = np.histogram(values, bins=bins, range=(0.0, 1.1 * high))
    smooth = np.convolve(counts, np.ones(3) / 3.0, mode="same")
    for n in range(bins - 2, bins // 3, -1):
        is_peak = smooth[n] >= smooth[n - 1] and smooth[n] > smooth[n + 1]
        around = values[(values >= edges[n - 1]) & (values <= edges[n + 2])]
        if is_peak and around.size >= 0.005 * values.size:
            # A peak stands above what lies below it; the shoulder of the anatomy does not.
            valley = smooth[max(0, n - 8) : n].min()
            if smooth[n] >= 1.5 * valley:
                return float(np.median(around)), "brightest peak of the histogram (open beam)"
    return brightest, "99.5th percentile (no open beam found)"
