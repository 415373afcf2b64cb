"""Checks of what a caller says and hands over for a radiograph."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError

Kind = Literal["intensity", "attenuation", "display"]
Polarity = Literal["bone_dark", "bone_bright"]
KINDS: tuple[str, ...] = get_args(Kind)
POLARITIES: tuple[str, ...] = get_args(Polarity)
_SMALLEST_SIDE_PX = 8


def check_words(kind: str, polarity: str | None, source: str) -> None:
    """InputError for an unknown kind or polarity, or two that contradict each other."""
    if kind not in KINDS:
        raise InputError(f"{source}: image kind {kind!r}; expected one of {', '.join(KINDS)}.")
    if polarity is not None and polarity not in POLARITIES:
        raise InputError(
            f"{source}: polarity {polarity!r}; expected one of {', '.join(POLARITIES)}."
        )
    implied = {"intensity": "bone_dark", "attenuation": "bone_bright"}.get(kind)
    if implied is not None and polarity not in (None, implied):
        raise InputError(
            f"{source}: polarity {polarity!r} contradicts the kind {kind!r}, which is {implied} by "
            "definition. A picture of unknown scale is of kind 'display'."
        )


def grey(raw: NDArray[Any], source: str) -> NDArray[Any]:
    """(H, W) of a grey image; a colour file with equal channels is grey too."""
    if raw.dtype.kind not in "iuf":
        raise InputError(f"{source}: pixels of type {raw.dtype}; expected integers or floats.")
    if raw.ndim == 3 and 1 in (raw.shape[0], raw.shape[2]):
        raw = raw[0] if raw.shape[0] == 1 else raw[..., 0]
    if raw.ndim == 3 and raw.shape[2] in (3, 4):
        red, green, blue = raw[..., 0], raw[..., 1], raw[..., 2]
        if not (np.array_equal(red, green) and np.array_equal(red, blue)):
            raise InputError(
                f"{source}: a colour image (its channels differ); expected a grey one. Burnt-in "
                "coloured text or a colour map must go before."
            )
        raw = red
    if raw.ndim == 3 and raw.shape[2] == 2:  # grey with transparency
        raw = raw[..., 0]
    if raw.ndim != 2:
        raise InputError(f"{source}: an array of shape {raw.shape}; expected one (H, W) image.")
    if min(raw.shape) < _SMALLEST_SIDE_PX:
        raise InputError(
            f"{source}: {raw.shape[1]}x{raw.shape[0]} pixels; expected at least "
            f"{_SMALLEST_SIDE_PX} along each side."
        )
    return raw


def given_mask(
    values: NDArray[Any], mask: ArrayLike | None, source: str
) -> tuple[NDArray[np.bool_], dict[str, float]]:
    """The mask as a writable bool array (all True when None), and its share for the report."""
    if mask is None:
        return np.ones(values.shape, dtype=np.bool_), {}
    usable = np.array(mask) != 0
    if usable.shape != values.shape:
        raise InputError(f"{source}: the mask has shape {usable.shape}, the image {values.shape}.")
    if not usable.any():
        raise InputError(f"{source}: the mask leaves no pixel (True means usable).")
    return usable, {"given": float(1.0 - usable.mean())}


def check_finite(values: NDArray[np.float64], usable: NDArray[np.bool_], source: str) -> None:
    """InputError naming how many usable pixels are NaN or infinite, and the first."""
    bad = usable & ~np.isfinite(values)
    count = int(np.count_nonzero(bad))
    if count:
        row, column = (int(n) for n in np.argwhere(bad)[0])
        raise InputError(
            f"{source}: NaN or infinite values in {count} of {values.size} pixels, the first at "
            f"row {row}, column {column}. Correct them, or cover them with a mask."
        )


def given_i0(i0: float, source: str) -> float:
    """A positive finite I0, or InputError."""
    if not (np.isfinite(i0) and i0 > 0):
        raise InputError(f"{source}: i0 is {i0}; expected a positive intensity.")
    return float(i0)
