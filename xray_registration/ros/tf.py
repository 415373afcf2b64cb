"""Publishing TF with or without tf2_ros.

A ROS 2 install has tf2_ros; the wheels from PyPI do not. Both ways put the same message on the same
topic with the same QoS: ``/tf``, tf2_msgs/TFMessage, reliable, volatile, keep last 100.
"""

from __future__ import annotations

from typing import Any, Protocol

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from xray_registration.errors import MissingDependencyError

#: tf2's DynamicBroadcasterQoS
TF_QOS = QoSProfile(
    depth=100,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


class TransformSender(Protocol):
    """Anything that sends one stamped transform to /tf."""

    def sendTransform(self, transform: TransformStamped) -> None:
        """Publish one edge."""


class PlainTransformBroadcaster:
    """tf2_ros.TransformBroadcaster without tf2_ros: a publisher of TFMessage on /tf."""

    def __init__(self, node: Node) -> None:
        self._message_type = tf_message_type()
        self._publisher: Any = node.create_publisher(self._message_type, "/tf", TF_QOS)

    def sendTransform(self, transform: TransformStamped) -> None:
        """Publish one edge."""
        self._publisher.publish(self._message_type(transforms=[transform]))


def make_broadcaster(node: Node) -> TransformSender:
    """tf2_ros' broadcaster where it is installed, otherwise the plain one.

    Raises:
        MissingDependencyError: neither tf2_ros nor tf2_msgs can be imported.
    """
    try:
        from tf2_ros import TransformBroadcaster
    except ImportError:
        return PlainTransformBroadcaster(node)
    broadcaster: TransformSender = TransformBroadcaster(node)
    return broadcaster


def tf_message_type() -> Any:
    """tf2_msgs/TFMessage.

    Raises:
        MissingDependencyError: no tf2_msgs.
    """
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError as error:
        raise MissingDependencyError(
            "tf2_msgs is missing: install ros-<distro>-tf2-msgs on a ROS machine; with the wheels "
            "from PyPI run `make venv`, which builds it"
        ) from error
    return TFMessage
