"""Data sets in the HDF5 layout of xReg's DeepFluoro collection (IPCAI 2020, full resolution file).

    proj-params/intrinsic (3, 3), extrinsic (4, 4) camera_from_world, num-cols, num-rows,
                pixel-col-spacing, pixel-row-spacing (mm)
    SPECIMEN/vol/{pixels, origin, spacing, dir-mat}           CT, LPS mm
    SPECIMEN/vol-landmarks/NAME (3,)                          LPS mm
    SPECIMEN/projections/NNN/image/pixels (rows, columns)
    SPECIMEN/projections/NNN/gt-poses/cam-to-BONE-vol (4, 4)  ct_from_world
    SPECIMEN/projections/NNN/gt-landmarks/NAME (2,)           (column, row) px
    SPECIMEN/projections/NNN/rot-180-for-up                   0 or 1

so the volume's pose in the projective frame is extrinsic @ inverse(cam-to-BONE-vol), and a point is
projected with ``intrinsic``.

xReg's projective frame has x along columns, y along rows and z FROM the detector TO the source, so
objects are at negative z and K[0][0], K[1][1] are negative. x right, y down and z towards the eye
is a right-handed frame only when the picture is seen from behind the detector: it is the mirror
image of what the focal spot sees. The readers therefore give the picture flipped left to right
(``image`` and ``landmarks_px`` already are), with the camera that belongs to it: poses keep
determinant +1. A file with positive focal lengths has z towards the detector, and nothing is
flipped. Pixel centres are at integers, as here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import check_rigid, finite_numbers, positive, positive_int
from xray_registration.imaging.volume import CTVolume
from xray_registration.optional import require

Matrix = NDArray[np.float64]

PARAMETERS = "proj-params"
_POSE_PREFIX, _POSE_SUFFIX = "cam-to-", "-vol"
_FLIP_X_AND_Z = np.diag([-1.0, 1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Projection:
    """One radiograph of a specimen, as seen from the focal spot.

    Attributes:
        camera: with ``sdd_mm``.
        camera_from_ct: bone ("pelvis", "left-femur", ...) to (4, 4) LPS mm, the reference poses.
        landmarks_px: name to (2,) (column, row); may lie outside the picture.
        image: (rows, columns) as stored (bone dark, arbitrary units), flipped if need be.
        flipped: whether the stored picture was flipped left to right.
        upside_down: the patient's head is at the bottom (the file's rot-180-for-up).
    """

    camera: Camera
    camera_from_ct: dict[str, Matrix]
    landmarks_px: dict[str, Matrix]
    image: NDArray[np.float32]
    flipped: bool
    upside_down: bool


def specimens(path: str | Path) -> dict[str, list[str]]:
    """Specimen to the names of its projections."""
    with _opened(path) as file:
        found = {
            name: sorted(group["projections"])
            for name, group in file.items()
            if name != PARAMETERS and hasattr(group, "keys") and "projections" in group
        }
    if not found:
        raise InputError(f"{path}: no group with 'projections'; expected one for each specimen.")
    return found


def read_ct(path: str | Path, specimen: str) -> CTVolume:
    """The specimen's CT (HU, full affine from origin, spacing and dir-mat)."""
    with _opened(path) as file:
        where = f"{specimen}/vol"
        pixels = _array(path, file, f"{where}/pixels")
        origin = _numbers(path, file, f"{where}/origin", (3,))
        spacing = _numbers(path, file, f"{where}/spacing", (3,))
        direction = _numbers(path, file, f"{where}/dir-mat", (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = origin
    return CTVolume(np.asarray(pixels, np.float32), affine, path=f"{path}:{where}")


def read_landmarks(path: str | Path, specimen: str) -> dict[str, Matrix]:
    """Name to (3,) LPS mm of the specimen's anatomical landmarks."""
    with _opened(path) as file:
        where = f"{specimen}/vol-landmarks"
        group = _group(path, file, where)
        return {name: _numbers(path, file, f"{where}/{name}", (3,)) for name in group}


def read_projection(path: str | Path, specimen: str, projection: str) -> Projection:
    """One projection with its camera, reference poses and 2-D landmarks.

    Raises:
        InputError: not HDF5, a group or data set missing (by name; for an unknown specimen or
            projection those that exist), shapes, poses that are not rigid, focal lengths of
            different signs or that contradict each other.
    """
    with _opened(path) as file:
        camera, camera_from_world, flipped = _camera(path, file)
        _group(path, file, f"{specimen}/projections")
        where = f"{specimen}/projections/{projection}"
        _group(path, file, where)
        image = np.asarray(_array(path, file, f"{where}/image/pixels"), np.float32)
        if image.shape != (camera.height, camera.width):
            raise InputError(
                f"{path}: {where}/image/pixels has shape {image.shape}; num-rows and num-cols say "
                f"{(camera.height, camera.width)}."
            )
        poses = {
            name: check_rigid(_array(path, file, f"{where}/gt-poses/{name}"), f"{path}: {name}")
            for name in _group(path, file, f"{where}/gt-poses")
            if name.startswith(_POSE_PREFIX) and name.endswith(_POSE_SUFFIX)
        }
        landmarks = {}
        if f"{where}/gt-landmarks" in file:
            landmarks = {
                name: _numbers(path, file, f"{where}/gt-landmarks/{name}", (2,))
                for name in _group(path, file, f"{where}/gt-landmarks")
            }
        upside_down = False
        if f"{where}/rot-180-for-up" in file:
            upside_down = bool(_scalar(path, file, f"{where}/rot-180-for-up"))
    if flipped:
        image = np.ascontiguousarray(image[:, ::-1])
        last = camera.width - 1
        landmarks = {name: np.array([last - u, v]) for name, (u, v) in landmarks.items()}
    camera_from_ct = {
        name[len(_POSE_PREFIX) : -len(_POSE_SUFFIX)]: camera_from_world @ np.linalg.inv(pose)
        for name, pose in poses.items()
    }
    return Projection(camera, camera_from_ct, landmarks, image, flipped, upside_down)


def _camera(path: str | Path, file: Any) -> tuple[Camera, Matrix, bool]:
    """Camera as seen from the focal spot, camera_from_world, whether pictures are flipped."""
    k = _numbers(path, file, f"{PARAMETERS}/intrinsic", (3, 3))
    world = check_rigid(_array(path, file, f"{PARAMETERS}/extrinsic"), f"{path}: extrinsic")
    width = positive_int(_scalar(path, file, f"{PARAMETERS}/num-cols"), f"{path}: num-cols")
    height = positive_int(_scalar(path, file, f"{PARAMETERS}/num-rows"), f"{path}: num-rows")
    names = ("pixel-col-spacing", "pixel-row-spacing")
    pitch_x, pitch_y = (
        positive(_scalar(path, file, f"{PARAMETERS}/{name}"), f"{path}: {name}") for name in names
    )
    fx, fy = float(k[0, 0]), float(k[1, 1])
    if fx == 0.0 or fy == 0.0 or (fx < 0.0) != (fy < 0.0):
        raise InputError(
            f"{path}: {PARAMETERS}/intrinsic has focal lengths {fx:g} and {fy:g} px; expected both "
            "negative (z towards the source) or both positive (z towards the detector)."
        )
    sdd_x, sdd_y = abs(fx) * pitch_x, abs(fy) * pitch_y
    if abs(sdd_x - sdd_y) > 0.01 * sdd_x:
        raise InputError(
            f"{path}: the source is {sdd_x:.1f} mm from the detector by columns and {sdd_y:.1f} mm "
            "by rows (focal length times pixel spacing); they should agree within 1 %."
        )
    # With z towards the source, u = cx + fx x / z: |fx| and -z give the same pixel. The skew's sign
    # turns with z, and once more with the flip.
    flipped = fx < 0.0
    k = k / k[2, 2]
    sign = -1.0 if flipped else 1.0
    positive_k = np.array([[abs(fx), sign * k[0, 1], k[0, 2]], [0, abs(fy), k[1, 2]], [0, 0, 1]])
    camera = Camera(positive_k, width, height, 0.5 * (sdd_x + sdd_y))
    if not flipped:
        return camera, world, False
    return camera.flipped_horizontally(), _FLIP_X_AND_Z @ world, True


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    h5py = require("h5py")
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an HDF5 file in DeepFluoro's layout.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file (or truncated): {error}.") from error
    with file:
        yield file


def _group(path: str | Path, file: Any, name: str) -> Any:
    parent, _, last = name.rpartition("/")
    if parent:
        _group(path, file, parent)
    if name not in file or not hasattr(file[name], "keys"):
        there = ", ".join(list(file[parent] if parent else file)[:12]) or "nothing"
        raise InputError(f"{path}: no group {last!r} in /{parent}; it holds: {there}.")
    return file[name]


def _array(path: str | Path, file: Any, name: str) -> NDArray[Any]:
    if name not in file or not hasattr(file[name], "shape"):
        raise InputError(f"{path}: no data set /{name}; expected DeepFluoro's layout.")
    try:
        return np.asarray(file[name][()])
    except OSError as error:
        raise InputError(f"{path}: /{name} cannot be read: {error}.") from error


def _numbers(path: str | Path, file: Any, name: str, shape: tuple[int, ...]) -> Matrix:
    """Vectors may be stored as columns (n, 1)."""
    values = finite_numbers(_array(path, file, name), f"{path}: /{name}")
    if values.size != int(np.prod(shape)) or (len(shape) > 1 and values.shape != shape):
        raise InputError(f"{path}: /{name} has shape {values.shape}; expected {shape}.")
    return values.reshape(shape)


def _scalar(path: str | Path, file: Any, name: str) -> float:
    values = finite_numbers(_array(path, file, name), f"{path}: /{name}")
    if values.size != 1:
        raise InputError(f"{path}: /{name} holds {values.size} numbers; expected one.")
    return float(values.reshape(-1)[0])
