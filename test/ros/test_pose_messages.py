"""Poses on the wire: units, axes, order, and the covariance by Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseWithCovarianceStamped
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.ros.pose_messages import (
    covariance_about_child,
    matrix_from_pose,
    matrix_from_transform_message,
    pose_stamped,
    pose_with_covariance_stamped,
    transform_stamped,
)

HEADER = Header(stamp=Time(sec=3, nanosec=4), frame_id="carm_source_optical_frame")
ISOCENTRE_LPS_MM = np.array([-12.0, 45.0, -230.0])


def _pose() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [95.0, -20.0, 170.0], degrees=True).as_matrix()
    matrix[:3, 3] = [30.0, -55.0, 720.0]
    return matrix


def _covariance() -> np.ndarray:
    """Correlated; about 1 mm and 1 degree, depth worse."""
    root = np.random.default_rng(5).normal(size=(6, 6))
    scale = np.diag([0.5, 0.5, 3.0, 0.01, 0.01, 0.004])
    return scale @ (root @ root.T / 6.0) @ scale


@pytest.mark.parametrize("ct_axes", ["lps", "ras"])
def test_a_point_of_the_patient_lands_where_the_library_says(ct_axes: str) -> None:
    message = transform_stamped(_pose(), HEADER, "patient", ct_axes)
    assert message.header == HEADER
    assert message.child_frame_id == "patient"
    point_lps_mm = np.array([10.0, -20.0, 30.0])
    flip = np.array([1.0, 1.0, 1.0]) if ct_axes == "lps" else np.array([-1.0, -1.0, 1.0])
    # As a robot does: metres, the patient frame's own axes, quaternion x, y, z, w.
    t, q = message.transform.translation, message.transform.rotation
    in_camera_m = Rotation.from_quat([q.x, q.y, q.z, q.w]).apply(
        flip * point_lps_mm * 1e-3
    ) + np.array([t.x, t.y, t.z])
    expected_mm = _pose()[:3, :3] @ point_lps_mm + _pose()[:3, 3]
    np.testing.assert_allclose(in_camera_m * 1e3, expected_mm, atol=1e-9)


@pytest.mark.parametrize("ct_axes", ["lps", "ras"])
def test_round_trips(ct_axes: str) -> None:
    transform = transform_stamped(_pose(), HEADER, "patient", ct_axes).transform
    pose = pose_stamped(_pose(), HEADER, ct_axes).pose
    np.testing.assert_allclose(
        matrix_from_transform_message(transform, ct_axes, "tf"), _pose(), atol=1e-9
    )
    np.testing.assert_allclose(matrix_from_pose(pose, ct_axes, "pose"), _pose(), atol=1e-9)


def test_covariance_about_child_by_monte_carlo() -> None:
    """Draw increments as the library defines them; look at what the child frame does."""
    pose, covariance = _pose(), _covariance() * 1e-2  # small: the statement is of first order
    draws = np.random.default_rng(7).multivariate_normal(np.zeros(6), covariance, size=200_000)
    moved = se3.left_increment(
        torch.from_numpy(pose).expand(len(draws), 4, 4),
        torch.from_numpy(draws),
        torch.from_numpy(ISOCENTRE_LPS_MM),
    ).numpy()
    position_m = (moved[:, :3, 3] - pose[:3, 3]) * 1e-3
    # Rotation about the fixed axes of the header frame: R_new = Exp(rot) R.
    rotation = Rotation.from_matrix(moved[:, :3, :3] @ pose[:3, :3].T).as_rotvec()
    sampled = np.cov(np.hstack([position_m, rotation]), rowvar=False)
    wire = covariance_about_child(covariance, pose, ISOCENTRE_LPS_MM)
    sigma = np.sqrt(np.diag(wire))
    np.testing.assert_allclose(
        sampled / np.outer(sigma, sigma), wire / np.outer(sigma, sigma), atol=0.012
    )
    # The lever arm is 230 mm: without it, position would be far too certain.
    naive = np.sqrt(np.diag(covariance)[:3]) * 1e-3
    assert (sigma[:3] > 1.5 * naive).any()


def test_covariance_is_exact_for_increments() -> None:
    """An increment and its adjoint image about the child's origin are one motion."""
    pose = torch.from_numpy(_pose())
    xi = torch.tensor([3.0, -2.0, 5.0, 0.3, -0.2, 0.5], dtype=torch.float64)
    about_isocentre = se3.left_increment(pose, xi, torch.from_numpy(ISOCENTRE_LPS_MM))
    origin = torch.zeros(3, dtype=torch.float64)
    xi_child = se3.perturbation_between(pose, about_isocentre, origin).numpy()
    rank_one = covariance_about_child(np.outer(xi, xi), _pose(), ISOCENTRE_LPS_MM)
    xi_child_m = xi_child * np.array([1e-3] * 3 + [1.0] * 3)
    np.testing.assert_allclose(rank_one, np.outer(xi_child_m, xi_child_m), rtol=1e-9, atol=1e-15)


def test_pose_with_covariance_survives_cdr_and_is_row_major_xyz_rot() -> None:
    message = pose_with_covariance_stamped(_pose(), _covariance(), ISOCENTRE_LPS_MM, HEADER, "lps")
    received = deserialize_message(serialize_message(message), PoseWithCovarianceStamped)
    assert received.header == HEADER
    wire = np.array(received.pose.covariance).reshape(6, 6)
    expected = covariance_about_child(_covariance(), _pose(), ISOCENTRE_LPS_MM)
    np.testing.assert_allclose(wire, expected)
    np.testing.assert_allclose(wire[3:, 3:], _covariance()[3:, 3:], rtol=1e-12)
    assert np.linalg.eigvalsh(wire).min() > 0


def test_isocentre_at_the_child_origin_changes_units_only() -> None:
    wire = covariance_about_child(_covariance(), _pose(), np.zeros(3))
    scale = np.array([1e-3] * 3 + [1.0] * 3)
    np.testing.assert_allclose(wire, _covariance() * np.outer(scale, scale), rtol=1e-12)


def test_unusable_poses_are_refused_with_the_topic() -> None:
    unset = Pose()
    unset.orientation.w = 0.0
    not_finite = Pose()
    not_finite.position.x = float("nan")
    long = Pose()
    long.orientation.w = 2.0
    for pose in (unset, not_finite, long):
        with pytest.raises(InputError, match="initialpose"):
            matrix_from_pose(pose, "lps", "initialpose")
