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

    def __init__(self, node: Node, model: ArmModel, fixed: Sequence[Edge] = ()) -> None:
        """Publish what does not move.

        Args:
            node: publishes.
            model: the arm.
            fixed: further edges that do not move.
        """
        from tf2_msgs.msg import TFMessage

        self._message_type: Any = TFMessage
        self._kinematics = model.kinematics
        self._moving = node.create_publisher(TFMessage, "/tf", TF_QOS)
        self._fixed = node.create_publisher(TFMessage, "/tf_static", _STATIC_QOS)
        self._description = node.create_publisher(String, "robot_description", LATCHED)
        self._description.publish(String(data=model.description))
        stamp = node.get_clock().now().to_msg()
        edges = [edge for edge in self._kinematics.edges({}) if edge.is_fixed]
        self._fixed.publish(self._message([*edges, *fixed], stamp))

    def send(self, positions: Mapping[str, float], stamp_ns: int) -> None:
        """The moving links at these joint positions."""
        edges = [edge for edge in self._kinematics.edges(positions) if not edge.is_fixed]
        self._moving.publish(self._message(edges, Time(nanoseconds=stamp_ns).to_msg()))

    def _message(self, edges: Sequence[Edge], stamp: Any) -> Any:
        return self._message_type(transforms=[_transform(edge, stamp) for edge in edges])


def _transform(edge: Edge, stamp: Any) -> TransformStamped:
    header = Header(stamp=stamp, frame_id=edge.parent)
    return transform_stamped(edge.parent_from_child, header, edge.child, "lps")
