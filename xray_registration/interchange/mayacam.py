"""MayaCam 2.0 text files (XMALab, Autoscoper): image size, K, R and t of one X-ray camera.

The layout is blocks of a title and lines of comma-separated numbers:

    image size      width,height
    camera matrix   three lines of K, pixels
    rotation        three lines of R
    translation     three lines of t, mm

with x_camera = R X_world + t and OpenCV's pixel centres at integers, as everywhere here. The source
distance in mm is not part of the file: the Camera has an ``sdd_mm`` only when one is given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.files import write_atomically
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import positive_int
from xray_registration.geometry.converters import camera_from_opencv, opencv_from_camera

Matrix = NDArray[np.float64]

_EXPECTED = (
    "expected a MayaCam 2.0 file with the blocks 'image size', 'camera matrix', 'rotation' and "
    "'translation'"
)
_SHAPES = {
    "image size": (1, 2),
    "camera matrix": (3, 3),
    "rotation": (3, 3),
    "translation": (3, 1),
}


def read_mayacam(path: str | Path, sdd_mm: float | None = None) -> tuple[Camera, Matrix]:
    """Camera and camera_from_world (4, 4) mm of a MayaCam 2.0 file.

    Args:
        path: the text file.
        sdd_mm: source-to-detector distance where it is known.

    Raises:
        InputError: unreadable, a block missing, doubled or of another shape, a number that is none,
            an impossible camera, R not a rotation (a MayaCam 1.0 file has no blocks at all).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = "no such file" if not path.exists() else error.strerror or str(error)
        raise InputError(f"{path}: {reason}; {_EXPECTED}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file ({error.reason}); {_EXPECTED}.") from error
    blocks = _blocks(path, text)
    missing = [title for title in _SHAPES if title not in blocks]
    if missing:
        raise InputError(f"{path}: no block {', '.join(map(repr, missing))}; {_EXPECTED}.")
    width, height = (float(side) for side in blocks["image size"][0])
    size = positive_int(width, f"{path}: width"), positive_int(height, f"{path}: height")
    return camera_from_opencv(
        blocks["camera matrix"],
        blocks["rotation"],
        blocks["translation"],
        size,
        sdd_mm,
        str(path),
    )


def write_mayacam(path: str | Path, camera: Camera, camera_from_world: ArrayLike) -> None:
    """Write a MayaCam 2.0 file; numbers keep all their digits, ``sdd_mm`` has no place in it."""
    k, rotation, translation = opencv_from_camera(camera, camera_from_world)
    lines = ["image size", f"{camera.width},{camera.height}"]
    for title, rows in (
        ("camera matrix", k),
        ("rotation", rotation),
        ("translation", translation[:, None]),
    ):
        lines += ["", title, *(",".join(repr(float(value)) for value in row) for row in rows)]
    write_atomically(Path(path), ("\n".join(lines) + "\n").encode())


def _blocks(path: Path, text: str) -> dict[str, Matrix]:
    rows: dict[str, list[list[float]]] = {}
    title: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip()
        if not words:
            continue
        if words.lower() in _SHAPES:
            title = words.lower()
            if title in rows:
                raise InputError(f"{path}, line {number}: the block {title!r} comes twice.")
            rows[title] = []
            continue
        if title is None:
            raise InputError(f"{path}, line {number}: {words[:60]!r}; {_EXPECTED}.")
        try:
            rows[title].append([float(value) for value in words.rstrip(",").split(",")])
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: {words[:60]!r} in the block {title!r}; expected "
                "comma-separated numbers or the title of the next block."
            ) from error
    blocks = {}
    for name, values in rows.items():
        shape = (len(values), len(values[0]) if values else 0)
        if shape != _SHAPES[name] or any(len(row) != shape[1] for row in values):
            raise InputError(
                f"{path}: the block {name!r} holds {len(values)} lines of "
                f"{sorted({len(row) for row in values})} numbers; expected {_SHAPES[name][0]} of "
                f"{_SHAPES[name][1]}."
            )
        blocks[name] = np.array(values, np.float64)
    return blocks
