"""Errors of one estimated pose against the true one.

Poses are ``target_from_ct`` (4, 4): CT in LPS mm to a camera (or rig) in mm. ``truth`` always comes
second. Points are (N, 3) in CT LPS mm. Definitions as in van de Kraats et al., IEEE TMI 24:1177
(2005), where they have them: true 3-D distances are never scaled by anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, check_rigid

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PoseErrors:
    """What is wrong with one pose, in the camera's axes and about the isocentre.

    Attributes:
        mtre_mm: true 3-D mean target registration error.
        rotation_deg: angle of the rotation between the poses.
        translation_mm: distance between the two places of the isocentre.
        in_plane_mm, depth_mm: of that displacement, the part across and the part along the beam
            axis (tx, ty and tz).
        in_plane_rotation_deg, out_of_plane_rotation_deg: of the rotation vector, the part about the
            beam axis and the part about the two others (rz and rx, ry).
        in_plane_mtre_mm, depth_mtre_mm: mTRE that tx, ty, rz alone and tz, rx, ry alone would make.
    """

    mtre_mm: float
    rotation_deg: float
    translation_mm: float
    in_plane_mm: float
    depth_mm: float
    in_plane_rotation_deg: float
    out_of_plane_rotation_deg: float
    in_plane_mtre_mm: float
    depth_mtre_mm: float

    def to_dict(self) -> dict[str, float]:
        """Name to value."""
        return asdict(self)


def mtre_mm(
    target_from_ct: ArrayLike, truth_target_from_ct: ArrayLike, points_lps_mm: ArrayLike
) -> float:
    """Mean 3-D distance (mm) between where the two poses put the points.

    Raises:
        InputError: a pose that is not rigid; no points, or points that are not (N, 3) and finite.
    """
    return float(target_errors_mm(target_from_ct, truth_target_from_ct, points_lps_mm).mean())


def target_errors_mm(
    target_from_ct: ArrayLike, truth_target_from_ct: ArrayLike, points_lps_mm: ArrayLike
) -> Array:
    """(N,) the 3-D distance (mm) of each point; errors as :func:`mtre_mm`."""
    estimate, truth, points = _checked(target_from_ct, truth_target_from_ct, points_lps_mm)
    return _lengths(_moved(estimate, points) - _moved(truth, points))


def mpe_mm(
    camera_from_ct: ArrayLike,
    truth_camera_from_ct: ArrayLike,
    camera: Camera,
    points_lps_mm: ArrayLike,
) -> float:
    """Mean 2-D distance (mm on the detector) of the points' projections, off the image or not.

    Raises:
        InputError: as :func:`mtre_mm`; the camera has no sdd_mm; a point is not in front of the
            source.
    """
    estimate, truth, points = _checked(camera_from_ct, truth_camera_from_ct, points_lps_mm)
    pitch = np.array(camera.pixel_pitch_mm)
    a, b = (_in_front(_moved(pose, points)) for pose in (estimate, truth))
    return float(_lengths((camera.project(a) - camera.project(b)) * pitch).mean())


def mrpd_mm(
    camera_from_ct: ArrayLike, truth_camera_from_ct: ArrayLike, points_lps_mm: ArrayLike
) -> float:
    """Mean reprojection distance (mm): true point to the ray of its estimated projection.

    Measured at the patient. It hardly sees depth: a point that moves along its own ray scores 0.

    Raises:
        InputError: as :func:`mtre_mm`; a point is not in front of the source.
    """
    estimate, truth, points = _checked(camera_from_ct, truth_camera_from_ct, points_lps_mm)
    rays = _in_front(_moved(estimate, points))
    rays = rays / _lengths(rays)[:, None]
    true_points = _in_front(_moved(truth, points))
    across: Array = np.cross(true_points, rays).astype(np.float64)
    return float(_lengths(across).mean())


def rotation_error_deg(target_from_ct: ArrayLike, truth_target_from_ct: ArrayLike) -> float:
    """Angle (degrees, 0..180) of the rotation that leads from the true pose to the estimate."""
    estimate = check_rigid(target_from_ct, "estimated pose")
    truth = check_rigid(truth_target_from_ct, "true pose")
    return float(np.degrees(np.linalg.norm(_rotation_vector(estimate, truth))))


def translation_error_mm(
    target_from_ct: ArrayLike, truth_target_from_ct: ArrayLike, isocentre_lps_mm: ArrayLike
) -> float:
    """Distance (mm) between where the two poses put the isocentre (3,).

    The translation columns themselves say nothing: they are the displacement of the CT's origin,
    which may lie half a metre from the patient.
    """
    return mtre_mm(target_from_ct, truth_target_from_ct, np.atleast_2d(isocentre_lps_mm))


def pose_errors(
    camera_from_ct: ArrayLike,
    truth_camera_from_ct: ArrayLike,
    points_lps_mm: ArrayLike,
    isocentre_lps_mm: ArrayLike,
) -> PoseErrors:
    """All 3-D errors, split in the camera's axes into in-plane and depth / out-of-plane.

    With several views give the poses of one camera (camera_from_rig @ rig_from_ct): "in plane" has
    a meaning for one camera only.

    Raises:
        InputError: as :func:`mtre_mm`.
    """
    estimate, truth, points = _checked(camera_from_ct, truth_camera_from_ct, points_lps_mm)
    _, _, centre = _checked(estimate, truth, np.atleast_2d(isocentre_lps_mm))
    centre_camera = _moved(truth, centre)[0]
    shift = _moved(estimate, centre)[0] - centre_camera
    turn = _rotation_vector(estimate, truth)
    arms = _moved(truth, points) - centre_camera
    in_plane = np.array([1.0, 1.0, 0.0])

    def mean_move(shift_part: Array, turn_part: Array) -> float:
        return float(_lengths(arms @ _rotation(turn_part).T - arms + shift_part).mean())

    return PoseErrors(
        mtre_mm=float(_lengths(_moved(estimate, points) - _moved(truth, points)).mean()),
        rotation_deg=float(np.degrees(np.linalg.norm(turn))),
        translation_mm=float(np.linalg.norm(shift)),
        in_plane_mm=float(np.hypot(shift[0], shift[1])),
        depth_mm=float(abs(shift[2])),
        in_plane_rotation_deg=float(np.degrees(abs(turn[2]))),
        out_of_plane_rotation_deg=float(np.degrees(np.hypot(turn[0], turn[1]))),
        in_plane_mtre_mm=mean_move(shift * in_plane, turn * (1 - in_plane)),
        depth_mtre_mm=mean_move(shift * (1 - in_plane), turn * in_plane),
    )


def mis_scaled_diffpose_figure(
    camera_from_ct: ArrayLike,
    truth_camera_from_ct: ArrayLike,
    camera: Camera,
    points_lps_mm: ArrayLike,
) -> float:
    """The number that DiffPose's evaluator prints as "mTRE". Not an error in mm; to compare only.

    It projects the points onto the detector, carries both detectors back into the patient, takes
    the distance of the projections there (mm), and multiplies that by the pixel pitch as if it
    were in pixels. An in-plane rotation turns detector and projection together and scores 0; a
    depth error of 5 mm at 0.194 mm pixels scores about 1.

    Raises:
        InputError: as :func:`mpe_mm`.
    """
    estimate, truth, points = _checked(camera_from_ct, truth_camera_from_ct, points_lps_mm)
    pitch = float(np.mean(camera.pixel_pitch_mm))
    sdd_mm = camera.sdd_mm
    assert sdd_mm is not None  # pixel_pitch_mm has refused a camera without it

    def on_detector(pose: Array) -> Array:
        seen = _in_front(_moved(pose, points))
        ct_from_camera: Array = np.linalg.inv(pose).astype(np.float64)
        return _moved(ct_from_camera, seen * (sdd_mm / seen[:, 2:]))

    return pitch * float(_lengths(on_detector(estimate) - on_detector(truth)).mean())


def _checked(
    estimate: ArrayLike, truth: ArrayLike, points_lps_mm: ArrayLike
) -> tuple[Array, Array, Array]:
    points = np.asarray(points_lps_mm, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(f"points have shape {points.shape}; expected (N, 3) with N >= 1, mm.")
    if not np.isfinite(points).all():
        raise InputError("points hold NaN or infinite values; expected finite mm.")
    return check_rigid(estimate, "estimated pose"), check_rigid(truth, "true pose"), points


def _moved(pose: Array, points: Array) -> Array:
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def _lengths(vectors: Array) -> Array:
    return np.asarray(np.linalg.norm(vectors, axis=-1))


def _in_front(points_camera: Array) -> Array:
    nearest = float(points_camera[:, 2].min())
    if nearest <= 0:
        raise InputError(
            f"a target lies {-nearest:.1f} mm behind the X-ray source (camera z = {nearest:.1f} "
            "mm); it has no projection. Expected z > 0 for all."
        )
    return points_camera


def _rotation_vector(estimate: Array, truth: Array) -> Array:
    from scipy.spatial.transform import Rotation

    vector = Rotation.from_matrix(estimate[:3, :3] @ truth[:3, :3].T).as_rotvec()
    return np.asarray(vector, dtype=np.float64)


def _rotation(vector: Array) -> Array:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vector).as_matrix(), dtype=np.float64)
