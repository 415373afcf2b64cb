"""Other ways to write a pose, to and from ``target_from_source`` (4x4, mm).

R and t; OpenCV's K, R, t; source point and detector corner and axes; quaternion; ROS Transform
fields. Every pair is a round trip. C-arm angles are in ``positioner.py``.

Quaternions are (x, y, z, w) everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import (
    UNIT_TOLERANCE,
    check_rigid,
    finite_numbers,
    positive,
    unit_vector,
    vector3,
)
from xray_registration.geometry.frames import metres_from_mm, mm_from_metres

Array = NDArray[np.float64]


# --- R and t -------------------------------------------------------------------------------------


def matrix_from_rt(rotation: ArrayLike, translation_mm: ArrayLike, name: str = "pose") -> Array:
    """4x4 target_from_source of p_target = R p_source + t.

    Args:
        rotation: (3, 3) matrix, or (3,) rotation vector in rad (OpenCV's rvec).
        translation_mm: (3,), or OpenCV's (3, 1).
        name: starts the message of an InputError (shapes, NaN, not a rotation).
    """
    r = finite_numbers(rotation, f"{name}: rotation")
    if r.shape in ((3,), (3, 1)):
        r = Rotation.from_rotvec(r.ravel()).as_matrix()
    t = finite_numbers(translation_mm, f"{name}: translation")
    if r.shape != (3, 3):
        raise InputError(f"{name}: rotation has shape {r.shape}; expected 3x3, or 3 (rvec, rad)")
    if t.shape not in ((3,), (3, 1)):
        raise InputError(f"{name}: translation has shape {t.shape}; expected 3 numbers (mm)")
    matrix = np.eye(4)
    matrix[:3, :3] = r
    matrix[:3, 3] = t.ravel()
    return check_rigid(matrix, name)


def rt_from_matrix(target_from_source: ArrayLike, name: str = "pose") -> tuple[Array, Array]:
    """R (3, 3) and t (3,) in mm of a rigid 4x4."""
    matrix = check_rigid(target_from_source, name)
    return matrix[:3, :3].copy(), matrix[:3, 3].copy()


# --- OpenCV --------------------------------------------------------------------------------------


def camera_from_opencv(
    k: ArrayLike,
    rotation: ArrayLike,
    translation_mm: ArrayLike,
    image_size: tuple[int, int],
    sdd_mm: float | None = None,
    name: str = "camera",
) -> tuple[Camera, Array]:
    """(Camera, camera_from_world) of OpenCV's K, R (or rvec), t: x_cam = R X + t, mm.

    OpenCV's pixel centres are at integers, as ours. ``image_size`` is (width, height).
    """
    try:
        camera = Camera(finite_numbers(k, "K"), image_size[0], image_size[1], sdd_mm)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return camera, matrix_from_rt(rotation, translation_mm, name)


def opencv_from_camera(camera: Camera, camera_from_world: ArrayLike) -> tuple[Array, Array, Array]:
    """OpenCV's K (3, 3), R (3, 3), t (3,) mm."""
    rotation, translation = rt_from_matrix(camera_from_world, "camera_from_world")
    return camera.K.copy(), rotation, translation


# --- source point and detector -------------------------------------------------------------------


@dataclass(frozen=True)
class DetectorGeometry:
    """A flat detector and a focal spot in a world frame (mm).

    Attributes:
        source_world: (3,) focal spot.
        origin_world: (3,) CENTRE of pixel (column 0, row 0).
        u_axis_world: (3,) unit vector along growing columns.
        v_axis_world: (3,) unit vector along growing rows, perpendicular to the other.
        pixel_pitch_mm: (along columns, along rows).
        width, height: pixels.
    """

    source_world: Array
    origin_world: Array
    u_axis_world: Array
    v_axis_world: Array
    pixel_pitch_mm: tuple[float, float]
    width: int
    height: int


def camera_from_detector(
    geometry: DetectorGeometry, name: str = "detector"
) -> tuple[Camera, Array]:
    """(Camera, camera_from_world) of a focal spot and a detector's first pixel, axes and pitches.

    Raises:
        InputError: axes not of length 1 or not perpendicular; the focal spot in the detector plane;
            a picture that is mirrored (seen from behind the detector: u x v points to the source).
    """
    source = vector3(geometry.source_world, f"{name}: source_world")
    origin = vector3(geometry.origin_world, f"{name}: origin_world")
    x = unit_vector(geometry.u_axis_world, f"{name}: u_axis_world")
    y = unit_vector(geometry.v_axis_world, f"{name}: v_axis_world")
    if abs(float(x @ y)) > UNIT_TOLERANCE:
        raise InputError(
            f"{name}: u_axis_world and v_axis_world are not perpendicular (cosine {x @ y:.4g})"
        )
    # axes written with few digits: the nearest rotation (polar decomposition)
    u, _, vt = np.linalg.svd(np.stack([x, y, np.cross(x, y)]))
    rotation = u @ vt
    origin_x, origin_y, sdd_mm = (float(c) for c in rotation @ (origin - source))
    if sdd_mm < 0:
        raise InputError(
            f"{name}: with these axes the picture is seen from behind the detector (mirrored): "
            f"u x v points to the source ({sdd_mm:.1f} mm); reverse one axis and flip the image "
            "(flip_horizontal)"
        )
    if sdd_mm < 1e-6:
        raise InputError(f"{name}: the source lies in the plane of the detector")
    pitch_x, pitch_y = (positive(p, f"{name}: pixel_pitch_mm") for p in geometry.pixel_pitch_mm)
    camera = Camera.from_detector(
        geometry.width,
        geometry.height,
        (pitch_x, pitch_y),
        sdd_mm,
        cx=-origin_x / pitch_x,
        cy=-origin_y / pitch_y,
    )
    return camera, matrix_from_rt(rotation, -rotation @ source, name)


def detector_from_camera(camera: Camera, camera_from_world: ArrayLike) -> DetectorGeometry:
    """Focal spot and detector in the world. InputError when sdd_mm is unknown or K has skew."""
    pitch = camera.pixel_pitch_mm
    if camera.skew != 0.0 or camera.sdd_mm is None:
        raise InputError(f"K has skew {camera.skew:g}; a detector with perpendicular axes has none")
    rotation, translation = rt_from_matrix(camera_from_world, "camera_from_world")
    origin_camera = np.array([-camera.cx * pitch[0], -camera.cy * pitch[1], camera.sdd_mm])
    return DetectorGeometry(
        source_world=-rotation.T @ translation,
        origin_world=rotation.T @ (origin_camera - translation),
        u_axis_world=rotation[0].copy(),
        v_axis_world=rotation[1].copy(),
        pixel_pitch_mm=pitch,
        width=camera.width,
        height=camera.height,
    )


# --- quaternions and ROS Transform fields --------------------------------------------------------


def rotation_from_quaternion(quaternion_xyzw: ArrayLike, name: str = "quaternion") -> Array:
    """Rotation matrix (3, 3) of a unit quaternion (x, y, z, w).

    Raises:
        InputError: not 4 finite numbers, or a length that is not 1 within 0.001 (all zeros: never
            set).
    """
    q = finite_numbers(quaternion_xyzw, name)
    if q.shape != (4,):
        raise InputError(f"{name}: shape {q.shape}; expected 4 numbers x, y, z, w")
    length = float(np.linalg.norm(q))
    if abs(length - 1.0) > UNIT_TOLERANCE:
        hint = "; it was probably never set, no rotation is 0, 0, 0, 1" if length == 0.0 else ""
        raise InputError(
            f"{name}: ({', '.join(f'{c:g}' for c in q)}) has length {length:.4g}; expected a unit "
            f"quaternion (x, y, z, w){hint}"
        )
    return np.asarray(Rotation.from_quat(q).as_matrix(), np.float64)


def quaternion_from_rotation(rotation: ArrayLike) -> Array:
    """Unit quaternion (x, y, z, w), w >= 0, of a rotation matrix (3, 3)."""
    q = np.asarray(Rotation.from_matrix(np.asarray(rotation, np.float64)).as_quat(), np.float64)
    return -q if q[3] < 0 else q


def matrix_from_transform(
    translation_m: ArrayLike, quaternion_xyzw: ArrayLike, name: str = "transform"
) -> Array:
    """4x4 in MM of the fields of a ROS Transform or Pose (x, y, z in metres; x, y, z, w).

    TransformStamped: the result is header.frame_id from child_frame_id. PoseStamped:
    header.frame_id from the posed body.
    """
    translation = vector3(translation_m, f"{name}: translation")
    rotation = rotation_from_quaternion(quaternion_xyzw, f"{name}: rotation")
    return mm_from_metres(matrix_from_rt(rotation, translation, name))


def transform_from_matrix(
    target_from_source: ArrayLike, name: str = "transform"
) -> tuple[Array, Array]:
    """(translation (3,) in METRES, quaternion (4,) x, y, z, w) of a rigid 4x4 in mm."""
    matrix = check_rigid(target_from_source, name)
    return metres_from_mm(matrix)[:3, 3], quaternion_from_rotation(matrix[:3, :3])
