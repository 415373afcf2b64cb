"""TF with and without tf2_ros."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from xray_registration.errors import MissingDependencyError
from xray_registration.ros.tf import PlainTransformBroadcaster, make_broadcaster

pytestmark = pytest.mark.ros


def _edge() -> TransformStamped:
    edge = TransformStamped(child_frame_id="patient")
    edge.header.frame_id = "carm"
    edge.header.stamp.sec = 7
    edge.transform.translation.z = 0.7
    return edge


def test_broadcaster_sends_what_tf_listeners_expect(peer: Any) -> None:
    """Whichever broadcaster this machine has: same topic, type, QoS and message."""
    broadcaster = make_broadcaster(peer.node)
    [publisher] = peer.node.get_publishers_info_by_topic("/tf")
    assert publisher.topic_type == "tf2_msgs/msg/TFMessage"
    assert publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert publisher.qos_profile.durability == DurabilityPolicy.VOLATILE
    peer.spin_for(0.5)
    broadcaster.sendTransform(_edge())
    peer.spin_until(lambda: peer.transforms, "a transform")
    assert peer.transforms == [_edge()]


def test_tf2_ros_is_used_where_it_is_installed(ros: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice alone: tf2_ros itself has no wheel."""
    module = types.ModuleType("tf2_ros")
    module.TransformBroadcaster = lambda node: ("tf2_ros", node)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    node = rclpy.create_node("chooser")
    try:
        assert make_broadcaster(node) == ("tf2_ros", node)
        monkeypatch.setitem(sys.modules, "tf2_ros", None)
        assert isinstance(make_broadcaster(node), PlainTransformBroadcaster)
        monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)
        with pytest.raises(MissingDependencyError, match="tf2_msgs"):
            make_broadcaster(node)
    finally:
        node.destroy_node()
