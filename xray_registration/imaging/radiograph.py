"""The radiograph: an attenuation-like image, the pixels that count, and how both were obtained.

What a pixel value means is declared, never guessed:

- ``intensity``: photon count, I = I0 exp(-L); bone is dark by definition.
- ``attenuation``: L itself, the line integral of mu; bone is bright by definition.
- ``display``: some unknown monotone window of either, with a polarity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.imaging import masks
from xray_registration.imaging.blades import field_between_blades, shows_a_patient
from xray_registration.imaging.collimation import open_field
from xray_registration.imaging.radiograph_checks import (
    KINDS,
    POLARITIES,
    Kind,
    Polarity,
    check_finite,
    check_words,
    given_i0,
    given_mask,
    grey,
)
from xray_registration.imaging.radiograph_files import read_radiograph_file
from xray_registration.imaging.resampling import area_resample

__all__ = [
    "KINDS",
    "POLARITIES",
    "Kind",
    "Polarity",
    "Radiograph",
    "load_radiograph",
    "make_radiograph",
]

#: Intensities below this part of I0 (attenuation above 9.2) are noise; the logarithm stops here.
INTENSITY_FLOOR = 1e-4
_SMALLEST_USABLE_FRACTION = 0.01


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One X-ray image, ready to be compared with line integrals.

    Attributes:
        attenuation: (H, W) float32, read-only, finite, bone bright. Line integral of mu
            (dimensionless) up to a constant for intensity and attenuation kinds; a monotone
            function of it scaled to 0..1 for the display kind.
        mask: (H, W) bool, read-only; True = usable. Masked pixels hold finite filler.
        kind: what the file or message held.
        i0: unattenuated intensity (intensity kind), in the units of the raw image; else None.
        source: file or topic, for messages.
        i0_origin: how i0 was found, for reports ("given", "saturation level ...", ...).
        masked: reason ("given", "collimated", "saturated", "dead") to fraction of all pixels.
    """

    attenuation: NDArray[np.float32]
    mask: NDArray[np.bool_]
    kind: Kind
    i0: float | None = None
    source: str = "image"
    i0_origin: str = ""
    masked: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        attenuation = np.ascontiguousarray(self.attenuation, dtype=np.float32).view()
        mask = np.ascontiguousarray(self.mask, dtype=np.bool_).view()
        if attenuation.ndim != 2 or mask.shape != attenuation.shape:
            raise InputError(
                f"{self.source}: attenuation of shape {attenuation.shape} and mask of shape "
                f"{mask.shape}; expected one (H, W) for both."
            )
        if not np.all(np.isfinite(attenuation)):
            raise InputError(f"{self.source}: the attenuation image holds NaN or infinite values.")
        attenuation.setflags(write=False)
        mask.setflags(write=False)
        object.__setattr__(self, "attenuation", attenuation)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "masked", dict(self.masked))

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.attenuation.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.attenuation.shape[1])

    @property
    def usable_fraction(self) -> float:
        """Share of pixels that the mask lets through."""
        return float(self.mask.mean())

    def without(self, pixels: NDArray[np.bool_], cause: str) -> Radiograph:
        """With ``pixels`` (H, W) not usable either; ``cause`` names their share in ``masked``."""
        taken = pixels & self.mask
        masked = {**self.masked, cause: float(taken.mean())}
        return replace(self, mask=self.mask & ~taken, masked=masked)

    def resized(self, width: int, height: int) -> Radiograph:
        """Area-averaged to (height, width), as `Camera.resized`; masked pixels carry no weight.

        A result pixel is usable when usable pixels cover at least half of it. The average is taken
        of attenuations, not of intensities: the moving image is a line integral, and -log of a
        mean intensity is biased towards the thin side wherever a bone edge crosses the pixel,
        while the mean attenuation is not. (The price, a noise bias of 1/(2N) at N photons, is below
        0.01 from 50 photons on, and masked pixels without photons do not enter.)

        Raises:
            InputError: larger than the image.
        """
        if not (0 < width <= self.width and 0 < height <= self.height):
            raise InputError(
                f"{self.source}: cannot shrink {self.width}x{self.height} to {width}x{height}."
            )
        if (width, height) == (self.width, self.height):
            return self
        attenuation, mask = area_resample(self.attenuation, self.mask, width, height)
        return replace(self, attenuation=attenuation, mask=mask)

    def binned(self, n: int) -> Radiograph:
        """Mean of n x n blocks, as `Camera.binned`: an incomplete last row or column is dropped."""
        if n < 1 or n > min(self.width, self.height):
            raise InputError(f"{self.source}: binning {n} of a {self.width}x{self.height} image.")
        whole = self.cropped(0, 0, self.width // n * n, self.height // n * n)
        return whole.resized(self.width // n, self.height // n)

    def cropped(self, x0: int, y0: int, width: int, height: int) -> Radiograph:
        """Columns x0..x0+width-1 and rows y0..y0+height-1, as `Camera.cropped`."""
        inside = x0 >= 0 and y0 >= 0 and x0 + width <= self.width and y0 + height <= self.height
        if not inside or width < 1 or height < 1:
            raise InputError(
                f"{self.source}: crop x0={x0}, y0={y0}, {width}x{height} leaves the "
                f"{self.width}x{self.height} image."
            )
        part = np.s_[y0 : y0 + height, x0 : x0 + width]
        return replace(self, attenuation=self.attenuation[part], mask=self.mask[part])

    def flipped_horizontally(self) -> Radiograph:
        """Columns reversed, as `Camera.flipped_horizontally`."""
        return replace(self, attenuation=self.attenuation[:, ::-1], mask=self.mask[:, ::-1])

    def rotated_90(self, k: int = 1) -> Radiograph:
        """np.rot90 k times (anticlockwise as displayed), as `Camera.rotated_90`."""
        return replace(self, attenuation=np.rot90(self.attenuation, k), mask=np.rot90(self.mask, k))


def make_radiograph(
    raw: ArrayLike,
    kind: Kind,
    i0: float | None = None,
    polarity: Polarity | None = None,
    mask: ArrayLike | None = None,
    source: str = "image",
    auto_mask: bool = True,
    saturation_level: float | None = None,
) -> Radiograph:
    """From raw pixel values to a `Radiograph`.

    Args:
        raw: (H, W) numbers; (H, W, 3 or 4) with equal channels is taken as grey.
        kind: what the values are, see the module's docstring.
        i0: unattenuated intensity in raw units; None: estimated from the image's own background
            (the saturation level where the background is saturated).
        polarity: of the display kind, "bone_bright" when None. For the other kinds the polarity
            follows from the kind; saying the opposite is an error.
        mask: (H, W), True = usable.
        source: file or topic named in errors.
        auto_mask: also mask collimated borders, saturated and (intensity) dead pixels.
        saturation_level: raw value at and above which a pixel is saturated; None: found from a
            plateau of equal values at the top.

    Raises:
        InputError: shape, type, colour; NaN or infinite pixels that `mask` does not cover;
            constant image; negative intensities; contradicting polarity; hardly a usable pixel.
    """
    check_words(kind, polarity, source)
    values = grey(np.asarray(raw), source)
    usable, masked = given_mask(values, mask, source)
    values = values.astype(np.float64)
    check_finite(values, usable, source)
    good = values[usable]
    if good.min() == good.max():
        raise InputError(f"{source}: every pixel has the value {good[0]:g}: a constant image.")
    if i0 is not None and kind != "intensity":
        raise InputError(f"{source}: i0 belongs to the kind 'intensity', not to {kind!r}.")
    if kind == "intensity" and good.min() < 0:
        raise InputError(
            f"{source}: the smallest intensity is {good.min():g}; photon counts are not negative. "
            "If these are line integrals, the kind is 'attenuation'."
        )
    values[~np.isfinite(values)] = np.median(good)

    bone_dark = kind == "intensity" or (kind == "display" and polarity == "bone_dark")
    saturated = np.zeros_like(usable)
    if auto_mask:
        saturated = _mask_automatically(values, usable, masked, kind, bone_dark, saturation_level)
    elif saturation_level is not None:
        saturated = values >= saturation_level
        masked["saturated"] = float(np.mean(usable & saturated))
        usable &= ~saturated
    if usable.mean() < _SMALLEST_USABLE_FRACTION:
        reasons = ", ".join(f"{why} {100 * share:.1f} %" for why, share in masked.items())
        raise InputError(
            f"{source}: only {100 * usable.mean():.2f} % of the pixels are usable ({reasons}); "
            f"expected at least {100 * _SMALLEST_USABLE_FRACTION:g} %."
        )

    origin = ""
    if kind == "intensity":
        if i0 is not None:
            i0, origin = given_i0(i0, source), "given"
        else:
            level = float(values[saturated].min()) if saturated.any() else None
            i0, origin = masks.estimate_i0(values[usable], level, float(saturated.mean()))
        attenuation = -np.log(np.maximum(values, i0 * INTENSITY_FLOOR) / i0)
    elif kind == "attenuation":
        attenuation = values
    else:
        low, high = float(values[usable].min()), float(values[usable].max())
        if low == high:
            raise InputError(f"{source}: every usable pixel has the value {low:g}.")
        attenuation = (values - low) / (high - low)
        if bone_dark:
            attenuation = 1.0 - attenuation
    return Radiograph(
        attenuation=attenuation.astype(np.float32),
        mask=usable,
        kind=kind,
        i0=i0,
        source=source,
        i0_origin=origin,
        masked=masked,
    )


def load_radiograph(
    path: str | Path,
    kind: Kind,
    i0: float | None = None,
    polarity: Polarity | None = None,
    mask: ArrayLike | None = None,
    auto_mask: bool = True,
    saturation_level: float | None = None,
    frame: int | None = None,
) -> Radiograph:
    """Read a radiograph from PNG, TIFF, NPY or DICOM and make a `Radiograph` of it.

    Stored values are used (after DICOM's modality rescale or LUT; no VOI window). For the display
    kind, pictures stored with white as zero (MONOCHROME1, TIFF min-is-white) are inverted first, so
    that `polarity` speaks of the picture as it is displayed.

    Args:
        frame: of a multi-frame DICOM, from 0; None: the first.
        others: as `make_radiograph`.

    Raises:
        InputError: as `make_radiograph`, and for files that are missing, empty, corrupt, of another
            format, or whose header contradicts `kind`.
    """
    check_words(kind, polarity, str(path))
    stored = read_radiograph_file(Path(path), kind, frame=frame)
    values: NDArray[Any] = stored.values
    if kind == "display" and stored.white_is_zero:
        values = stored.largest_value - values.astype(np.float64)
    return make_radiograph(
        values,
        kind,
        i0=i0,
        polarity=polarity,
        mask=mask,
        source=str(path),
        auto_mask=auto_mask,
        saturation_level=saturation_level,
    )


def _mask_automatically(
    values: NDArray[np.float64],
    usable: NDArray[np.bool_],
    masked: dict[str, float],
    kind: Kind,
    bone_dark: bool,
    saturation_level: float | None,
) -> NDArray[np.bool_]:
    """Narrow `usable` and fill `masked`, in place; return the saturated pixels."""

    def exclude(reason: str, pixels: NDArray[np.bool_]) -> None:
        share = float(np.mean(usable & pixels))
        if share > 0:
            masked[reason] = share
            usable[pixels] = False

    # Blades and the intensifier's rim absorb everything. Displays often blank them in black
    # whatever the polarity, so with bright bone both ends of the scale are tried, the physical
    # one first.
    if kind == "attenuation":
        signals = [-values]
    elif bone_dark:
        signals = [values]
    else:
        signals = [-values, values]
    is_counts = kind == "intensity"
    inside = None
    for signal in signals:
        field = open_field(signal, usable, logarithmic=is_counts)
        if field is not None and shows_a_patient(signal, field, is_counts):
            inside = field
            break
    if inside is None:
        inside = field_between_blades(signals[0], is_counts)
    if inside is not None:
        exclude("collimated", ~inside)

    saturated = np.zeros_like(usable)
    if saturation_level is not None:
        saturated = usable & (values >= saturation_level)
    elif kind == "intensity":
        saturated = usable & masks.plateau(values, usable)
    elif kind == "display":
        saturated = usable & (masks.plateau(values, usable) | masks.plateau(-values, usable))
    exclude("saturated", saturated)
    if kind == "intensity":
        exclude("dead", values <= 0)
    return saturated
