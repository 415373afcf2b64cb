"""joint_sweep and truth_monitor, the helpers of the simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from xray_registration.errors import InputError
from xray_registration.ros.joint_sweep import SPECS, JointPath, JointSweep, path_from_parameters
from xray_registration.ros.pose_messages import pose_stamped
from xray_registration.ros.simulated_views import TRUTH_QOS
from xray_registration.ros.truth_monitor import TruthMonitor


def test_the_path_is_even_and_goes_back() -> None:
    path = JointPath(np.zeros(5), np.array([0.1, 0.0, 0.2, 0.0, 1.0]), 10.0, wait_s=2.0)
    orbital = [path.at(seconds)[4] for seconds in (0.0, 2.0, 7.0, 12.0, 20.0)]
    np.testing.assert_allclose(orbital, [0.0, 0.0, 0.5, 1.0, 1.0])
    assert [path.is_over(seconds) for seconds in (0.0, 11.9, 12.0)] == [False, False, True]
    there = JointPath(path.first, path.last, 10.0, loop=True)
    orbital = [there.at(seconds)[4] for seconds in (0.0, 10.0, 15.0, 20.0, 25.0)]
    np.testing.assert_allclose(orbital, [0.0, 1.0, 0.5, 0.0, 0.5])
    assert not there.is_over(1e6)


def test_parameters_are_metres_and_degrees() -> None:
    values = {spec.name: spec.default for spec in SPECS}
    path = path_from_parameters({**values, "last": (0.1, 10.0, 0.2, -90.0, 45.0)})
    expected = [0.1, np.radians(10.0), 0.2, -np.pi / 2, np.pi / 4]
    np.testing.assert_allclose(path.last, expected)
    with pytest.raises(InputError, match="'first'"):
        path_from_parameters({**values, "first": (1.0, 2.0)})


def _diagnostics(node: str, state: str) -> DiagnosticArray:
    status = DiagnosticStatus(name=f"{node}: registration")
    status.values = [KeyValue(key="state", value=state)]
    return DiagnosticArray(status=[status])


@pytest.mark.ros
def test_the_arm_waits_for_its_own_registration(peer: Any) -> None:
    heard: list[JointState] = []
    peer.node.create_subscription(JointState, "/left/joint_states", heard.append, 10)
    publisher = peer.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    overrides = [
        Parameter("arm.prefix", value="left_"),
        Parameter("wait_for_registration", value=True),
        Parameter("duration_s", value=0.2),
        Parameter("rate_hz", value=100.0),
    ]
    node = JointSweep(namespace="left", parameter_overrides=overrides)
    peer.executor.add_node(node)
    try:
        peer.spin_until(lambda: len(heard) > 30, "joint states")
        for name, state in (
            ("right/registration_node", "registered"),
            ("left/registration_node", "rejected"),
        ):
            publisher.publish(_diagnostics(name, state))
            peer.spin_for(0.3)
        assert not node.is_done
        names = ("lift", "wigwag", "horizontal", "angular", "orbital")
        assert heard[-1].name == [f"left_{name}_joint" for name in names]
        assert heard[-1].position[4] == pytest.approx(np.radians(-20.0))
        publisher.publish(_diagnostics("left/registration_node", "registered"))
        peer.spin_until(lambda: node.is_done, "the last position")
        peer.spin_until(
            lambda: heard[-1].position[4] == pytest.approx(np.radians(20.0)), "the last position"
        )
    finally:
        peer.executor.remove_node(node)
        node.destroy_node()


@pytest.mark.ros
def test_the_true_error_of_every_pose_is_told(scene: Any, peer: Any) -> None:
    overrides = [
        Parameter("ct_path", value=str(scene.ct_path)),
        Parameter("label_map_path", value=str(scene.label_path)),
        Parameter("isocentre.labels", value="vertebrae_T7, vertebrae_T9"),
    ]
    node = TruthMonitor(parameter_overrides=overrides)
    peer.executor.add_node(node)
    found = peer.node.create_publisher(PoseWithCovarianceStamped, "registration_node/pose", 10)
    true = peer.node.create_publisher(PoseStamped, "ground_truth/pose", TRUTH_QOS)
    levels: list[Any] = []
    peer.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda m: levels.extend(s for s in m.status if s.name == "truth_monitor: truth"),
        10,
    )
    try:
        peer.spin_until(lambda: found.get_subscription_count() > 0, "the monitor")
        for offset_mm in (0.5, 3.0):
            truth = pose_stamped(scene.camera_from_ct, peer.header(), "lps")
            moved = scene.camera_from_ct.copy()
            moved[2, 3] += offset_mm
            pose = pose_stamped(moved, truth.header, "lps").pose
            true.publish(truth)
            peer.spin_until(lambda t=truth: len(node._truths) >= 1 + len(levels), "the truth")
            message = PoseWithCovarianceStamped(header=truth.header)
            message.pose.pose = pose
            count = len(levels)
            found.publish(message)
            peer.spin_until(lambda count=count: len(levels) > count, "a report")
        values = [{v.key: float(v.value) for v in level.values} for level in levels]
        assert [v["mtre_mm"] for v in values] == pytest.approx([0.5, 3.0], abs=1e-4)
        assert values[-1]["mtre_median_mm"] == pytest.approx(1.75, abs=1e-4)
        assert [level.level for level in levels] == [DiagnosticStatus.OK, DiagnosticStatus.ERROR]
        assert "largest 3.00 mm" in node.summary()
    finally:
        peer.executor.remove_node(node)
        node.destroy_node()
