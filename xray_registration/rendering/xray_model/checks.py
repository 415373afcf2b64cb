"""Checks of numbers in the X-ray model's configuration, with messages that name the field."""

from __future__ import annotations

import math

import numpy as np

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raises InputError unless ``value`` is a finite number with low <= value <= high."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {value!r}; expected a number {low:g}..{high:g}") from error
    if not math.isfinite(number) or not low <= number <= high:
        raise InputError(f"{name} is {value!r}; accepted: {low:g} to {high:g}")


def require_ordered(name: str, pair: tuple[float, float], low: float, high: float) -> None:
    """Raises InputError unless ``pair`` is two ordered numbers inside low..high."""
    if len(pair) != 2:
        raise InputError(f"{name} is {pair!r}; expected two numbers (from, to)")
    for number in pair:
        require_range(name, number, low, high)
    if pair[0] > pair[1]:
        raise InputError(f"{name} is {pair!r}; the first number must not exceed the second")


def require_point(name: str, point: object) -> tuple[float, float, float]:
    """``point`` as three finite floats, or InputError."""
    try:
        x, y, z = (float(value) for value in point)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {point!r}; expected three numbers (x, y, z) in mm") from error
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise InputError(f"{name} is {point!r}; all three numbers must be finite")
    return x, y, z


def require_same_grid(ct: CTVolume, labels: LabelMap) -> None:
    """Raises InputError unless ``labels`` has the shape of ``ct`` and its voxels lie at the same
    places.
    """
    name = labels.path or "label map"
    if labels.labels.shape != ct.hu.shape:
        raise InputError(
            f"{name}: shape {labels.labels.shape} differs from the CT's {ct.hu.shape}; the labels "
            "must lie on the CT's grid"
        )
    offset = float(np.abs(labels.lps_from_index - ct.lps_from_index)[:3, 3].max())
    tilt = np.abs(labels.lps_from_index - ct.lps_from_index)[:3, :3] @ np.array(ct.shape_ijk)
    if max(offset, float(tilt.max())) > 0.1 * float(ct.spacing_mm.min()):
        raise InputError(
            f"{name}: its voxels lie up to {max(offset, float(tilt.max())):.3g} mm from the CT's; "
            "the labels must lie on the CT's grid"
        )
