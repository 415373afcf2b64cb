"""What the node knows of itself, and says on /diagnostics and in its log."""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_msgs.msg import Header

from xray_registration.ros.diagnostics import Monitor, State
from xray_registration.ros.frame_report import FrameReport
from xray_registration.ros.guidance import Guidance
from xray_registration.ros.level_guard import GuardVerdict
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.standing import Standing

# A lasting problem is logged again after this time.
_LOG_AGAIN_S = 5.0


class NodeStatus:
    """Fed by the node's threads; published by any of them."""

    def __init__(self, node: Node) -> None:
        """Create the publisher."""
        self._node = node
        self.monitor = Monitor(node.get_fully_qualified_name())
        self._standing = Standing()
        self._verdict = GuardVerdict()
        self._last_logged: tuple[str, float] = ("", 0.0)
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    @property
    def state(self) -> State:
        """What the node is doing."""
        return self.monitor.state

    def set_state(self, state: State, message: str) -> None:
        """Say what the node is doing."""
        self.monitor.set_state(state, message)

    def forget(self) -> None:
        """No pose stands, and nothing is known of any image."""
        self._standing.forget()
        self._verdict = GuardVerdict()
        self.monitor.forget_image()

    def take(self, report: FrameReport) -> None:
        """What became of an image; its pose, if any, has just been published."""
        latency_s = time.monotonic() - report.frame.received_s
        age_s = (self._node.get_clock().now().nanoseconds - report.frame.stamp_ns) * 1e-9
        self._standing.take(report)
        self._verdict = report.guard
        self.monitor.count(**{report.counter: 1})
        self.monitor.set_image(
            report.state,
            report.message,
            {**report.values(), "latency_s": latency_s, "image_age_s": age_s},
        )

    def refusal(self, settings: RegistrationSettings) -> str:
        """Why the last pose must not be used; empty when it may."""
        if self._verdict.is_error:
            return self._verdict.text
        return self._standing.refusal(settings.stale_after_s)

    def publish(self, settings: RegistrationSettings, guidance: Guidance | None) -> None:
        """Send the status; ``guidance`` is that of an active node."""
        values: dict[str, Any] = {}
        stale = problem = ""
        if guidance is not None:
            values = {**self._standing.values(), **guidance.values(self.refusal(settings))}
            if settings.guard.planned_levels:
                values["planned_levels"] = ", ".join(settings.guard.planned_levels)
            if self._standing.is_stale(settings.stale_after_s):
                stale = f"no accepted pose for more than {settings.stale_after_s:g} s"
            if self._verdict.is_error:
                problem = self._verdict.text
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._publisher.publish(self.monitor.message(header, values, stale, problem))

    def log(self, report: FrameReport) -> None:
        """Each new problem once, a lasting one now and then."""
        logger = self._node.get_logger()
        guard = report.guard
        text = f"{guard.text}; {report.message}" if guard.is_error else report.message
        is_error = guard.is_error or report.state in (State.BAD_INPUT, State.ERROR)
        if report.state is State.REGISTERED and not is_error:
            logger.debug(text)
            self._last_logged = ("", 0.0)
            return
        now = time.monotonic()
        if text == self._last_logged[0] and now - self._last_logged[1] < _LOG_AGAIN_S:
            return
        self._last_logged = (text, now)
        if is_error:
            logger.error(text)
        else:
            logger.warning(text)
