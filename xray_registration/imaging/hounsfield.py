"""Whether voxel values are Hounsfield units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError

_PADDING_BELOW_HU = -1100.0  # no tissue is below air: such values are scanner padding
_LARGEST_HU = 70_000.0  # above any extended HU scale for metal


def check_hounsfield(hu: NDArray[Any], source: str) -> None:
    """Refuse values that cannot be Hounsfield units (air -1000, water 0, bone 200 to 2000).

    Raises:
        InputError: constant data; a range of a few units (normalised, or attenuation); nothing
            below zero (stored values whose rescale intercept was lost); values beyond any scale.
    """
    low, high = float(hu.min()), float(hu.max())
    advice = (
        "Expected Hounsfield units: air about -1000, water 0, bone above 200. "
        "Convert the file before loading it."
    )
    if low == high:
        raise InputError(f"{source}: every voxel has the value {low:g}: this is not a CT. {advice}")
    if high - low <= 20.0:
        raise InputError(
            f"{source}: CT in the wrong units: the values run from {low:g} to {high:g}, which "
            f"looks like a normalised or attenuation volume. {advice}"
        )
    if high > _LARGEST_HU:
        raise InputError(
            f"{source}: CT in the wrong units: the largest value is {high:g}, beyond any "
            f"Hounsfield scale. {advice}"
        )
    tissue_low = low
    if low < _PADDING_BELOW_HU:
        inside = hu[hu >= _PADDING_BELOW_HU]
        tissue_low = float(inside.min()) if inside.size else low
    if tissue_low >= 0.0:
        padding = "" if tissue_low == low else f" (padding of {low:g} left aside)"
        raise InputError(
            f"{source}: CT in the wrong units: no value is below 0 (smallest {tissue_low:g}, "
            f"largest {high:g}{padding}), so there is neither air nor fat. Often these are stored "
            f"values without their rescale intercept: subtract 1024 (or 1000). {advice}"
        )
    if tissue_low < _PADDING_BELOW_HU:
        raise InputError(
            f"{source}: CT in the wrong units: every value is below {_PADDING_BELOW_HU:g} "
            f"({low:g} to {high:g}). {advice}"
        )


def check_finite(array: NDArray[Any], source: str) -> None:
    """InputError naming how many voxels are NaN or infinite."""
    if not np.issubdtype(array.dtype, np.floating):
        return
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(
            f"{source}: {bad} of {array.size} voxels are NaN or infinite. Replace them with air "
            "(-1000 HU) if they are padding."
        )


def compact(array: NDArray[Any], source: str) -> NDArray[Any]:
    """int16 when that is exact, else float32."""
    if array.dtype == np.int16:
        return array
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise InputError(f"{source}: voxels of type {array.dtype} cannot be Hounsfield units.")
    low, high = array.min(), array.max()
    if low >= -32768 and high <= 32767:
        whole = array.astype(np.int16)
        if np.array_equal(whole, array):
            return whole
    return array.astype(np.float32)
