"""QoS profiles of the nodes' topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

#: last message kept for late subscribers ("latched" in ROS 1)
LATCHED = QoSProfile(
    depth=1,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)

RELIABILITIES = ("reliable", "best_effort")


def image_qos(reliability: str, depth: int) -> QoSProfile:
    """QoS of images and CameraInfo: ``reliable`` or ``best_effort``, volatile, keep last."""
    policies = {
        "reliable": ReliabilityPolicy.RELIABLE,
        "best_effort": ReliabilityPolicy.BEST_EFFORT,
    }
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=policies[reliability],
        durability=DurabilityPolicy.VOLATILE,
    )
