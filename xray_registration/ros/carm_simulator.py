"""carm_simulator: a C-arm that takes X-ray images of a CT, along an arc or where its joints are.

Publishes ``image`` and ``camera_info`` with the same stamp (of two views, ``view_0/image``, ...),
and the true pose of the patient in the image's optical frame on ``ground_truth/pose``, which no
registration node reads.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from xray_registration.errors import XrayRegistrationError
from xray_registration.ros.diagnostics import IMAGE_STAMP_KEY, stamp_text
from xray_registration.ros.joint_listener import JointListener
from xray_registration.ros.joint_shots import JointShots
from xray_registration.ros.parameters import declare
from xray_registration.ros.pose_messages import pose_stamped
from xray_registration.ros.shots import Shot, Shots
from xray_registration.ros.simulated_arm import build_arm
from xray_registration.ros.simulated_views import TRUTH_QOS, make_views
from xray_registration.ros.simulator_parameters import SPECS
from xray_registration.ros.simulator_settings import SimulatorSettings, build_settings
from xray_registration.ros.spinning import spin_until, uninterrupted

_TICK_S = 0.02
# After discovery the other side may need a moment before it takes what it is sent.
_SETTLE_S = 0.5


class CArmSimulator(Node):
    """See docs/ros.md for topics and parameters."""

    def __init__(self, **kwargs: Any) -> None:
        """Load the CT and, in the mode sweep, start rendering; ``kwargs`` go to rclpy's node.

        Raises:
            InputError: parameters or files that cannot be used.
        """
        # Before the base class: rclpy destroys a node also when its constructor has failed.
        self._shots: Shots | None = None
        super().__init__("carm_simulator", **kwargs)
        self._settings: SimulatorSettings = build_settings(declare(self, SPECS))
        settings = self._settings
        self._views = make_views(self, settings)
        self._truth = self.create_publisher(PoseStamped, "ground_truth/pose", TRUTH_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        if settings.lock_step:
            self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)

        arm = build_arm(settings)
        self._shots = arm.shots
        self._joints: JointListener | None = None
        if isinstance(arm.shots, JointShots) and arm.model is not None:
            self._joints = JointListener(self, arm.shots, arm.model, settings)
        self.get_logger().info(arm.text)

        self._state = "starting"
        self._sent = 0
        self._last_stamp_ns = 0
        self._last_stamp = ""
        self._last_begun_s = self._last_sent_s = self._subscribed_s = 0.0
        self._is_answered = True
        self.is_done = False
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_TICK_S, self._tick, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)

    def stop_rendering(self, timeout_s: float = 0.5) -> bool:
        """Render no further frame; True when none is being rendered any more."""
        return self._shots is None or self._shots.stop(timeout_s)

    def destroy_node(self) -> None:
        """Stop rendering first."""
        self.stop_rendering()
        super().destroy_node()

    def _tick(self) -> None:
        if self._shots is None or self.is_done:
            return
        shot = self._shots.take()
        if shot is not None:
            self._send(shot)
        if self._shots.is_done:
            if self._is_answered_or_late():
                self.is_done = True
                self._set_state("done")
            return
        waiting_for = self._shots.waiting_for
        if waiting_for:
            self._set_state(waiting_for)
            return
        # A sweep is not interrupted; a live arm shoots for somebody or not at all.
        if (self._sent == 0 or self._joints is not None) and not self._has_subscribers():
            self._set_state("waiting_for_subscribers")
            return
        now = time.monotonic()
        if now - self._last_begun_s < self._settings.period_s or not self._is_answered_or_late():
            return
        self._set_state("sending")
        if self._shots.begin():
            self._last_begun_s = now

    def _has_subscribers(self) -> bool:
        wanted = self._settings.wait_for_subscribers
        if min(view.subscribers for view in self._views) < wanted:
            self._subscribed_s = 0.0
            return False
        self._subscribed_s = self._subscribed_s or time.monotonic()
        return wanted == 0 or time.monotonic() - self._subscribed_s >= _SETTLE_S

    def _is_answered_or_late(self) -> bool:
        if not self._settings.lock_step or self._is_answered:
            return True
        waited = time.monotonic() - self._last_sent_s
        if waited < self._settings.lock_step_timeout_s:
            return False
        self.get_logger().warning(
            f"no registration node has reported image {self._last_stamp} on /diagnostics within "
            f"{waited:.1f} s; going on"
        )
        self._is_answered = True
        return True

    def _send(self, shot: Shot) -> None:
        stamp_ns = shot.stamp_ns
        if stamp_ns is None or stamp_ns <= self._last_stamp_ns:
            # An arm that has not been heard of since the last picture still stands there.
            stamp_ns = max(self.get_clock().now().nanoseconds, self._last_stamp_ns + 1)
        self._last_stamp_ns = stamp_ns
        self._last_stamp = stamp_text(stamp_ns)
        self._is_answered = False
        stamp = Time(nanoseconds=stamp_ns).to_msg()
        header = Header(stamp=stamp, frame_id=self._settings.frame_ids[0])
        self._truth.publish(pose_stamped(shot.poses[0], header, self._settings.ct_axes))
        for view, image in zip(self._views, shot.images, strict=True):
            view.send(image, stamp)
        self._last_sent_s = time.monotonic()
        self._sent += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if any(v.key == IMAGE_STAMP_KEY and v.value == self._last_stamp for v in status.values):
                self._is_answered = True

    def _set_state(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self.get_logger().info(f"{state.replace('_', ' ')} ({self._sent} images sent)")
            self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        name = self.get_fully_qualified_name().lstrip("/")
        problem = "" if self._joints is None else self._joints.problem
        level = DiagnosticStatus.WARN if problem else DiagnosticStatus.OK
        status = DiagnosticStatus(level=level, name=f"{name}: sweep")
        status.message = problem or self._state.replace("_", " ")
        status.hardware_id = self._settings.frame_ids[0]
        counts = {} if self._shots is None else self._shots.counts
        values = {"state": self._state, "images_sent": self._sent, **counts}
        status.values = [KeyValue(key=k, value=str(v)) for k, v in values.items()]
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(DiagnosticArray(header=Header(stamp=stamp), status=[status]))


def main(args: list[str] | None = None) -> int:
    """Console entry: 0 on a normal end, 2 on parameters or files that cannot be used."""
    node: CArmSimulator | None = None
    is_rendering = False
    try:
        rclpy.init(args=args)
        node = CArmSimulator()
        spin_until(node, lambda made: made.is_done and made._settings.exit_when_done)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (XrayRegistrationError, ParameterException) as error:
        print(f"carm_simulator: {error}", file=sys.stderr)
        return 2
    finally:
        with uninterrupted():
            if node is not None:
                is_rendering = not node.stop_rendering()
                node.destroy_node()
            rclpy.try_shutdown()
    if is_rendering:
        # Python waits at its end for the renderer's thread pool, seconds that nobody has after
        # Ctrl-C. Nothing is lost: frames are written atomically.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
