"""The arm's links on /tf, as robot_state_publisher would publish them where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from std_msgs.msg import Header, String

from xray_registration.geometry.carm_kinematics import Edge
from xray_registration.ros.pose_messages import transform_stamped
from xray_registration.ros.qos import LATCHED
from xray_registration.ros.simulated_arm import ArmModel
from xray_registration.ros.tf import TF_QOS

#: tf2's StaticBroadcasterQoS
_STATIC_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class ArmBroadcaster:
    """Publishes one arm: its description and fixed links once, its moving links when they move."""

    def __init__(self, node: Node, model: ArmModel) -> None:
        """Publish what does not move."""
        from tf2_msgs.msg import TFMessage

        self._kinematics = model.kinematics
        self._moving = node.create_publisher(TFMessage, "/tf", TF_QOS)
        self._description = node.create_publisher(String, "robot_description", LATCHED)
        self._description.publish(String(data=model.description))
        publish_fixed(node, [edge for edge in self._kinematics.edges({}) if edge.is_fixed])

    def send(self, positions: Mapping[str, float], stamp_ns: int) -> None:
        """The moving links at these joint positions."""
        edges = [edge for edge in self._kinematics.edges(positions) if not edge.is_fixed]
        self._moving.publish(_message(edges, Time(nanoseconds=stamp_ns).to_msg()))


def publish_fixed(node: Node, edges: Sequence[Edge]) -> None:
    """Put edges on /tf_static, as long as the node lives."""
    from tf2_msgs.msg import TFMessage

    publisher = node.create_publisher(TFMessage, "/tf_static", _STATIC_QOS)
    publisher.publish(_message(edges, node.get_clock().now().to_msg()))


def _message(edges: Sequence[Edge], stamp: Any) -> Any:
    from tf2_msgs.msg import TFMessage

    return TFMessage(transforms=[_transform(edge, stamp) for edge in edges])


def _transform(edge: Edge, stamp: Any) -> TransformStamped:
    header = Header(stamp=stamp, frame_id=edge.parent)
    return transform_stamped(edge.parent_from_child, header, edge.child, "lps")
