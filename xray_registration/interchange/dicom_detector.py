"""Where the middle of a DICOM detector lies in the stored picture (DICOM PS3.3 C.8.11.4.1.1).

The stored picture is a part of the physical detector (FieldOfViewOrigin: offset of its top left
corner in detector elements, row first), binned, then rotated clockwise (FieldOfViewRotation), then
maybe flipped left to right (FieldOfViewHorizontalFlip). The active area of the detector starts at
DetectorActiveOrigin and is DetectorActiveDimensions mm large; the beam's axis is taken to meet its
middle. DICOM has no tag that says where it really does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import finite_numbers

_AT_CENTRE = "the beam axis is taken to meet the middle of the picture (no detector origins)"


def principal_point_px(
    source: str, dataset: Any, width: int, height: int
) -> tuple[float, float, str]:
    """(column, row) px in the stored picture (pixel centres at integers), and a note or "".

    Args:
        source: file, for messages.
        dataset: pydicom's.
        width, height: of the stored picture.

    Raises:
        InputError: origins that are not 0 without DetectorActiveDimensions or
            DetectorElementSpacing (named); a rotation that is not 0, 90, 180 or 270; a flip that is
            not YES or NO; a middle that is not in or near the picture.
    """
    field = _pair(source, dataset, "FieldOfViewOrigin")
    active = _pair(source, dataset, "DetectorActiveOrigin")
    if field is None and active is None:
        return (width - 1) / 2, (height - 1) / 2, _AT_CENTRE
    field = np.zeros(2) if field is None else field
    active = np.zeros(2) if active is None else active
    size_mm = _dimensions(source, dataset)
    element_mm = _pair(source, dataset, "DetectorElementSpacing")
    if size_mm is None or element_mm is None:
        if not field.any() and not active.any():
            return (width - 1) / 2, (height - 1) / 2, _AT_CENTRE
        missing = "DetectorActiveDimensions" if size_mm is None else "DetectorElementSpacing"
        raise InputError(
            f"{source}: {missing} is missing, and without it FieldOfViewOrigin {field.tolist()} "
            f"and DetectorActiveOrigin {active.tolist()} do not say where the middle of the "
            "detector is. Give the principal point (px) yourself."
        )
    if (element_mm <= 0.0).any():
        raise InputError(f"{source}: DetectorElementSpacing is {element_mm.tolist()}; expected > 0")
    binning = _pair(source, dataset, "DetectorBinning")
    binning = np.ones(2) if binning is None else binning
    middle = active + size_mm / element_mm / 2  # elements, counted from the corner
    row, column = (middle - field) / binning - 0.5
    turns, flipped = _rotation(source, dataset), _flip(source, dataset)
    # The camera's own picture operations, on the picture before it was turned.
    size = (height, width) if turns % 2 else (width, height)
    camera = Camera(np.array([[1.0, 0, column], [0, 1.0, row], [0, 0, 1.0]]), *size)
    camera = camera.rotated_90(-turns)  # clockwise
    if flipped:
        camera = camera.flipped_horizontally()
    if not (-width < camera.cx < 2 * width and -height < camera.cy < 2 * height):
        raise InputError(
            f"{source}: the middle of the detector comes out at column {camera.cx:.0f}, row "
            f"{camera.cy:.0f} of a picture of {width}x{height}: FieldOfViewOrigin, "
            "DetectorActiveOrigin (detector elements), DetectorActiveDimensions (mm), "
            "DetectorElementSpacing and DetectorBinning contradict each other. Give the principal "
            "point (px) yourself."
        )
    return camera.cx, camera.cy, ""


def _pair(source: str, dataset: Any, name: str) -> Any:
    if name not in dataset or dataset[name].value in (None, "", []):
        return None
    values = finite_numbers(dataset[name].value, f"{source}: {name}")
    if values.shape != (2,):
        raise InputError(f"{source}: {name} is {values.tolist()}; expected two numbers (row first)")
    return values


def _dimensions(source: str, dataset: Any) -> Any:
    """(rows, columns) mm; one number is a circle's or a hexagon's diameter."""
    name = "DetectorActiveDimensions"
    if name not in dataset or dataset[name].value in (None, "", []):
        return None
    values = np.atleast_1d(finite_numbers(dataset[name].value, f"{source}: {name}"))
    if values.size not in (1, 2) or (values <= 0.0).any():
        raise InputError(f"{source}: {name} is {values.tolist()}; expected one or two lengths, mm")
    return np.broadcast_to(values, (2,))


def _rotation(source: str, dataset: Any) -> int:
    """Quarter turns clockwise."""
    value = dataset.get("FieldOfViewRotation", 0) or 0
    if float(value) not in (0.0, 90.0, 180.0, 270.0):
        raise InputError(
            f"{source}: FieldOfViewRotation is {value}; expected 0, 90, 180 or 270 degrees."
        )
    return int(float(value)) // 90


def _flip(source: str, dataset: Any) -> bool:
    value = str(dataset.get("FieldOfViewHorizontalFlip", "NO") or "NO")
    if value not in ("YES", "NO"):
        raise InputError(f"{source}: FieldOfViewHorizontalFlip is {value!r}; expected YES or NO.")
    return value == "YES"
