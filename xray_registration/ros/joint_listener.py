"""Hears where the C-arm's joints are, tells the exposure, and publishes the arm's links."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import JointState

from xray_registration.errors import InputError
from xray_registration.ros.arm_tf import ArmBroadcaster
from xray_registration.ros.joint_shots import JointShots
from xray_registration.ros.simulated_arm import ArmModel
from xray_registration.ros.simulator_settings import SimulatorSettings

TOPIC = "joint_states"
# Only the newest counts, and publishers of either reliability are heard.
_NEWEST_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_WARNING_PERIOD_S = 5.0


class JointListener:
    """Subscribes to joint_states."""

    def __init__(
        self, node: Node, shots: JointShots, model: ArmModel, settings: SimulatorSettings
    ) -> None:
        """Listen, and publish the arm's description and fixed links where that is wanted."""
        self._node = node
        self._shots = shots
        self._problem = ""
        self._broadcaster: ArmBroadcaster | None = None
        if settings.arm.publish_tf:
            self._broadcaster = ArmBroadcaster(node, model)
        node.create_subscription(JointState, TOPIC, self._on_joint_states, _NEWEST_QOS)

    @property
    def problem(self) -> str:
        """What is wrong with the last joint state or position; empty = nothing."""
        return self._problem or self._shots.problem

    def _on_joint_states(self, message: JointState) -> None:
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        # A stamp of 0 means "not set".
        stamp_ns = stamp_ns or self._node.get_clock().now().nanoseconds
        try:
            if len(message.name) != len(message.position):
                raise InputError(
                    f"topic '{TOPIC}': {len(message.name)} names and {len(message.position)} "
                    "positions; expected one position for each name"
                )
            positions = dict(zip(message.name, message.position, strict=True))
            is_ours = self._shots.move(positions, stamp_ns)
        except InputError as error:
            self._problem = str(error)
            self._node.get_logger().warning(
                f"{error}; the arm stays where it was", throttle_duration_sec=_WARNING_PERIOD_S
            )
            return
        if is_ours:
            self._problem = ""
            if self._broadcaster is not None:
                self._broadcaster.send(self._shots.positions, stamp_ns)
