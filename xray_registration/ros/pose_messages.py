"""Poses between the library (LPS, mm) and the wire (metres, quaternion xyzw, ``ct_axes``).

What is on the wire is always the same rigid transform ``camera_from_patient``: the pose of the
patient (CT) frame in the optical frame of the image. ``ct_axes`` says which axes the patient frame
has on the wire: ``lps`` (DICOM) or ``ras`` (NIfTI, Slicer).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from geometry_msgs.msg import (
    Pose,
    PoseStamped,
    PoseWithCovarianceStamped,
    Transform,
    TransformStamped,
)
from std_msgs.msg import Header

from xray_registration.geometry import se3
from xray_registration.geometry.converters import matrix_from_transform, transform_from_matrix
from xray_registration.geometry.frames import from_lps, to_lps

Matrix = npt.NDArray[np.float64]

_MM_TO_M = 1e-3


def covariance_about_child(
    covariance: Matrix, parent_from_ct: Matrix, isocentre_lps_mm: npt.ArrayLike
) -> Matrix:
    """``covariance_about`` the origin of the child frame, in the parent's axes.

    A change of the *child's* axes (LPS to RAS) leaves it as it is.
    """
    return covariance_about(covariance, parent_from_ct, isocentre_lps_mm, np.zeros(3), np.eye(3))


def covariance_about(
    covariance: Matrix,
    parent_from_ct: Matrix,
    isocentre_lps_mm: npt.ArrayLike,
    point_lps_mm: npt.ArrayLike,
    frame_from_parent: Matrix,
) -> Matrix:
    """Covariance as ROS wants it from the library's covariance about the isocentre.

    The library perturbs ``T' = Trans(c) Exp(xi) Trans(-c) T`` with c the isocentre in the parent's
    axes. The same motion about another point p of the anatomy, in axes turned by R, is that of
    ``xi_p = Ad([R, R (c - p)]) xi`` (Ad of SE(3), for (v, w) order), so the covariance is
    re-expressed by that adjoint. R is taken for exact.

    Args:
        covariance: (6, 6) of (v mm, w rad), parent axes, about the isocentre.
        parent_from_ct: (4, 4) LPS mm.
        isocentre_lps_mm: (3,).
        point_lps_mm: (3,) what the new covariance is about.
        frame_from_parent: (3, 3) rotation to the axes of the new covariance.

    Returns:
        (6, 6) of (x, y, z, rotX, rotY, rotZ), m and rad, fixed axes of the new frame (REP-103),
        about the point; symmetric.
    """
    rotation = np.asarray(parent_from_ct, dtype=np.float64)[:3, :3]
    turn = np.asarray(frame_from_parent, dtype=np.float64)
    lever = np.asarray(isocentre_lps_mm, np.float64) - np.asarray(point_lps_mm, np.float64)
    carried = np.eye(4)
    carried[:3, :3] = turn
    carried[:3, 3] = turn @ rotation @ lever
    adjoint = se3.adjoint(torch.from_numpy(carried)).numpy()
    to_metres = np.diag([_MM_TO_M] * 3 + [1.0] * 3)
    jacobian = to_metres @ adjoint
    wire = jacobian @ np.asarray(covariance, dtype=np.float64) @ jacobian.T
    return np.asarray(0.5 * (wire + wire.T))


def transform_stamped(
    camera_from_ct: Matrix, header: Header, child_frame_id: str, ct_axes: str
) -> TransformStamped:
    """TF edge header.frame_id -> child_frame_id (LPS mm in, metres and ``ct_axes`` out)."""
    translation, quaternion = transform_from_matrix(from_lps(camera_from_ct, ct_axes))
    message = TransformStamped()
    message.header = header
    message.child_frame_id = child_frame_id
    _set_xyz(message.transform.translation, translation)
    _set_xyzw(message.transform.rotation, quaternion)
    return message


def pose_stamped(camera_from_ct: Matrix, header: Header, ct_axes: str) -> PoseStamped:
    """Pose of the patient frame in header.frame_id (LPS mm in, metres and ``ct_axes`` out)."""
    message = PoseStamped()
    message.header = header
    _set_pose(message.pose, camera_from_ct, ct_axes)
    return message


def pose_with_covariance_stamped(
    camera_from_ct: Matrix,
    covariance: Matrix,
    isocentre_lps_mm: npt.ArrayLike,
    header: Header,
    ct_axes: str,
) -> PoseWithCovarianceStamped:
    """Pose of the patient frame in header.frame_id with the library's covariance re-expressed.

    Arguments as in ``covariance_about_child``.
    """
    message = PoseWithCovarianceStamped()
    message.header = header
    _set_pose(message.pose.pose, camera_from_ct, ct_axes)
    wire = covariance_about_child(covariance, camera_from_ct, isocentre_lps_mm)
    message.pose.covariance = wire.reshape(36)
    return message


def matrix_from_pose(pose: Pose, ct_axes: str, topic: str) -> Matrix:
    """camera_from_ct (LPS mm) from a pose of the patient frame in the image's frame.

    Raises:
        InputError: not finite, or a quaternion that is not of unit length.
    """
    p, q = pose.position, pose.orientation
    return _matrix((p.x, p.y, p.z), (q.x, q.y, q.z, q.w), ct_axes, topic)


def matrix_from_transform_message(transform: Transform, ct_axes: str, topic: str) -> Matrix:
    """camera_from_ct (LPS mm) from the transform of a TF edge camera -> patient.

    Raises:
        InputError: not finite, or a quaternion that is not of unit length.
    """
    t, q = transform.translation, transform.rotation
    return _matrix((t.x, t.y, t.z), (q.x, q.y, q.z, q.w), ct_axes, topic)


def _matrix(
    translation_m: tuple[float, ...], quaternion_xyzw: tuple[float, ...], ct_axes: str, topic: str
) -> Matrix:
    matrix = matrix_from_transform(translation_m, quaternion_xyzw, f"topic '{topic}'")
    return to_lps(matrix, ct_axes)


def set_pose(pose: Pose, frame_from_body: Matrix) -> None:
    """Fill a Pose with a rigid transform (4, 4) mm."""
    _set_pose(pose, frame_from_body, "lps")


def _set_pose(pose: Pose, camera_from_ct: Matrix, ct_axes: str) -> None:
    translation, quaternion = transform_from_matrix(from_lps(camera_from_ct, ct_axes))
    _set_xyz(pose.position, translation)
    _set_xyzw(pose.orientation, quaternion)


def _set_xyz(field: object, values: npt.ArrayLike) -> None:
    for name, value in zip("xyz", np.asarray(values, dtype=np.float64), strict=True):
        setattr(field, name, float(value))


def _set_xyzw(field: object, values: npt.ArrayLike) -> None:
    for name, value in zip("xyzw", np.asarray(values, dtype=np.float64), strict=True):
        setattr(field, name, float(value))
