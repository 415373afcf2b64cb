"""Poses of planned trajectories in the robot's frame, and how sure they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, se3
from xray_registration.registration import Reason, RegistrationResult, Termination
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.frame_report import Case, FrameReport, registered
from xray_registration.ros.guidance import Guidance, pose_of
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.level_guard import LevelsSeen
from xray_registration.ros.output_settings import GuardSettings, GuidanceSettings
from xray_registration.ros.pose_messages import matrix_from_pose
from xray_registration.ros.start_pose import StartSource

ISOCENTRE = np.array([5.0, 90.0, -160.0])
PLAN = Trajectory("t8", np.array([30.0, 160.0, -150.0]), np.array([8.0, 95.0, -158.0]))


def _pose(seed: int, length_mm: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    vector = np.r_[random.normal(size=3) * length_mm, random.normal(size=3)]
    return se3.se3_exp(torch.from_numpy(vector)).numpy()


def _report(covariance: np.ndarray) -> FrameReport:
    result = RegistrationResult(
        rig_from_ct=_pose(1, 300.0),
        accepted=True,
        reason=Reason.ACCEPTED,
        reason_text="fine",
        similarity=0.9,
        start_similarity=0.5,
        view_similarities=(0.9,),
        covariance=covariance,
        isocentre_lps_mm=ISOCENTRE,
        iterations=10,
        termination=Termination.STEP,
        seconds=0.5,
        device="cpu",
    )
    camera = Camera.from_detector(16, 16, 1.0, 1000.0)
    image = Image(header=Header(frame_id="carm"))
    case = Case(
        Frame.single(image, None, 0, 0.0), "carm", (np.eye(4),), (camera,), StartSource.PREVIOUS
    )
    return registered(case, result, LevelsSeen(), GuardSettings((), 0.5))


def _covariance() -> np.ndarray:
    """Of sizes as they occur: depth is uncertain, rotations of a tenth of a degree; correlated."""
    scale = np.array([0.3, 0.3, 1.0, 0.002, 0.002, 0.001])
    root = np.eye(6) + 0.3 * np.random.default_rng(3).normal(size=(6, 6))
    correlation = root @ root.T
    deviations = np.sqrt(np.diag(correlation))
    return correlation / np.outer(deviations, deviations) * np.outer(scale, scale)


@pytest.mark.parametrize("end", ["entry", "target"])
def test_pose_and_covariance_against_monte_carlo(end: str) -> None:
    robot_from_carm = _pose(2, 1500.0)
    report = _report(_covariance())
    assert report.result is not None
    message = pose_of(PLAN, end, report, robot_from_carm, Header(frame_id="robot"))
    assert message.header.frame_id == "robot"
    ct_from_end = PLAN.ct_from_entry if end == "entry" else PLAN.ct_from_target
    carm_from_ct = report.result.rig_from_ct
    nominal = robot_from_carm @ carm_from_ct @ ct_from_end
    np.testing.assert_allclose(
        matrix_from_pose(message.pose.pose, "lps", "pose"), nominal, atol=1e-6
    )

    # Poses of the anatomy drawn from the library's covariance, about its isocentre.
    random = np.random.default_rng(4)
    n = 40_000
    xi = random.multivariate_normal(np.zeros(6), _covariance(), size=n)
    poses = se3.left_increment(
        torch.from_numpy(carm_from_ct), torch.from_numpy(xi), torch.from_numpy(ISOCENTRE)
    ).numpy()
    moved = robot_from_carm @ poses @ ct_from_end
    shift_m = 1e-3 * (moved[:, :3, 3] - nominal[:3, 3])
    turn = se3.so3_log(torch.from_numpy(moved[:, :3, :3] @ nominal[:3, :3].T)).numpy()
    sampled = np.cov(np.c_[shift_m, turn].T)
    given = np.array(message.pose.covariance).reshape(6, 6)
    deviations = np.sqrt(np.diag(given))
    # Each element within a few standard errors, in units of the deviations.
    np.testing.assert_allclose(
        sampled / np.outer(deviations, deviations),
        given / np.outer(deviations, deviations),
        atol=5.0 / np.sqrt(n),
    )


class _Node:
    """Stands for the lifecycle node: what is published on it is kept."""

    def __init__(self) -> None:
        self.sent: dict[str, list[Any]] = {}

    def create_lifecycle_publisher(self, kind: type, topic: str, qos: Any) -> Any:
        sent = self.sent.setdefault(topic, [])

        class Publisher:
            def publish(self, message: Any) -> None:
                sent.append(message)

        return Publisher()


class _Lookup:
    def __init__(self, matrix: np.ndarray | None) -> None:
        self.matrix = matrix

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        if self.matrix is None:
            raise InputError(f"no transform from '{source}' to '{target}'")
        return self.matrix

    def destroy(self) -> None: ...


def test_where_the_frame_comes_from() -> None:
    report = _report(_covariance())
    assert report.rig_from_ct is not None
    matrix = _pose(7, 800.0)
    cases = [
        (GuidanceSettings((PLAN,), "", None), None, "carm", np.eye(4)),
        (GuidanceSettings((PLAN,), "robot", matrix), None, "robot", matrix),
        (GuidanceSettings((PLAN,), "robot", None), _Lookup(matrix), "robot", matrix),
    ]
    for settings, lookup, frame_id, expected in cases:
        node = _Node()
        guidance = Guidance(node, (PLAN,), lookup)
        assert guidance.publish(report, settings, "")
        assert guidance.values("") == {"guidance": "published"}
        assert set(node.sent) == {"~/guidance/t8/entry", "~/guidance/t8/target"}
        [message] = node.sent["~/guidance/t8/entry"]
        assert message.header.frame_id == frame_id
        np.testing.assert_allclose(
            matrix_from_pose(message.pose.pose, "lps", "pose"),
            expected @ report.rig_from_ct @ PLAN.ct_from_entry,
            atol=1e-6,
        )


def test_refused() -> None:
    """Nothing is published, and the diagnostics say why."""
    report = _report(_covariance())
    rejected = replace(report, state=report.state.REJECTED)
    node = _Node()
    guidance = Guidance(node, (PLAN,), _Lookup(None))
    robot = GuidanceSettings((PLAN,), "robot", None)
    assert guidance.values("")["guidance"] == "refused"
    assert not guidance.publish(report, robot, "stale")
    assert guidance.values("stale") == {"guidance": "refused", "guidance_text": "stale"}
    assert not guidance.publish(rejected, robot, "")
    assert not guidance.publish(report, robot, "")
    assert "no transform from 'carm' to 'robot'" in guidance.values("")["guidance_text"]
    assert not any(node.sent.values())
    assert Guidance(node, (), None).values("anything") == {"guidance": "off"}
