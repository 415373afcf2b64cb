"""joint_sweep: moves the joints of a simulated C-arm from one position to another.

Publishes ``joint_states`` as the encoders of an arm would that moves evenly from the first to the
last position; for machines without Gazebo or a joint GUI, and for repeatable runs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.ros.carm_description import JOINTS
from xray_registration.ros.diagnostics import State
from xray_registration.ros.parameters import (
    ParameterSpec,
    Value,
    When,
    declare,
    number,
    numbers,
)
from xray_registration.ros.spinning import spin_until, uninterrupted

_START = When.START
_ORDER = "[lift m, wig-wag deg, horizontal m, angular deg, orbital deg]"

SPECS: tuple[ParameterSpec, ...] = (
    ParameterSpec("arm.prefix", "carm_", "With which the names of the joints begin.", _START),
    ParameterSpec(
        "first", (0.0, 0.0, 0.0, 0.0, -20.0), f"Position at the beginning, {_ORDER}.", _START
    ),
    ParameterSpec("last", (0.0, 0.0, 0.0, 0.0, 20.0), f"Position at the end, {_ORDER}.", _START),
    ParameterSpec(
        "duration_s", 40.0, "From the first to the last.", _START, minimum=0.1, maximum=86400.0
    ),
    ParameterSpec(
        "wait_s", 0.0, "Stand at the first position so long.", _START, minimum=0.0, maximum=86400.0
    ),
    ParameterSpec("rate_hz", 20.0, "Joint states per second.", _START, minimum=0.1, maximum=1000.0),
    ParameterSpec(
        "wait_for_registration",
        False,
        "Stand at the first position until a registration node of this namespace has said on "
        "/diagnostics that it is registered.",
        _START,
    ),
    ParameterSpec("loop", False, "Go back and forth without end.", _START),
    ParameterSpec("exit_when_done", False, "End the process at the last position.", _START),
)


@dataclass(frozen=True, eq=False)
class JointPath:
    """Even movement between two positions (5,), m and rad in the order of ``JOINTS``."""

    first: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    duration_s: float
    wait_s: float = 0.0
    loop: bool = False

    def at(self, seconds: float) -> npt.NDArray[np.float64]:
        """(5,) position so long after the beginning."""
        share = max(0.0, seconds - self.wait_s) / self.duration_s
        if self.loop:
            share = 1.0 - abs(1.0 - share % 2.0)
        return self.first + min(share, 1.0) * (self.last - self.first)

    def is_over(self, seconds: float) -> bool:
        """The last position is reached for good."""
        return not self.loop and seconds >= self.wait_s + self.duration_s


def path_from_parameters(values: dict[str, Value]) -> JointPath:
    """The path that the parameters describe.

    Raises:
        InputError: not five numbers.
    """
    first, last = (_position(values, name) for name in ("first", "last"))
    return JointPath(
        first,
        last,
        number(values, "duration_s"),
        number(values, "wait_s"),
        bool(values["loop"]),
    )


def _position(values: dict[str, Value], name: str) -> npt.NDArray[np.float64]:
    given = numbers(values, name, len(JOINTS))
    if given is None:
        raise InputError(f"parameter '{name}' is empty; expected {_ORDER}")
    lift, wigwag_deg, horizontal, angular_deg, orbital_deg = given.tolist()
    turns = np.radians([wigwag_deg, angular_deg, orbital_deg]).tolist()
    return np.array([lift, turns[0], horizontal, turns[1], turns[2]])


class JointSweep(Node):
    """See docs/ros.md for topics and parameters."""

    def __init__(self, **kwargs: Any) -> None:
        """Begin to move; ``kwargs`` go to rclpy's node.

        Raises:
            InputError: parameters that cannot be used.
        """
        super().__init__("joint_sweep", **kwargs)
        values = declare(self, SPECS)
        self._path = path_from_parameters(values)
        self._names = [f"{values['arm.prefix']}{joint}" for joint in JOINTS]
        self.exit_when_done = bool(values["exit_when_done"])
        self.is_done = False
        self._publisher = self.create_publisher(JointState, "joint_states", 10)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._began = self._steady.now()
        self._is_waiting = bool(values["wait_for_registration"])
        if self._is_waiting:
            self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        self.create_timer(1.0 / number(values, "rate_hz"), self._tick, clock=self._steady)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = self.get_namespace().strip("/")
        for status in message.status:
            node, _, what = status.name.rpartition(": ")
            if what != "registration" or node.rpartition("/")[0] != own:
                continue
            states = [v.value for v in status.values if v.key == "state"]
            if self._is_waiting and states == [State.REGISTERED.value]:
                self._is_waiting = False
                self._began = self._steady.now()
                self.get_logger().info(f"{node} is registered; the arm begins to move")

    def _tick(self) -> None:
        now = self._steady.now()
        if self._is_waiting:
            self._began = now
        seconds = (now - self._began).nanoseconds * 1e-9
        message = JointState(header=Header(stamp=self.get_clock().now().to_msg()))
        message.name = self._names
        message.position = self._path.at(seconds).tolist()
        self._publisher.publish(message)
        if self._path.is_over(seconds) and not self.is_done:
            self.is_done = True
            self.get_logger().info("the last position is reached")


def main(args: list[str] | None = None) -> int:
    """Console entry: 0 on a normal end, 2 on parameters that cannot be used."""
    node: JointSweep | None = None
    try:
        rclpy.init(args=args)
        node = JointSweep()
        spin_until(node, lambda made: made.is_done and made.exit_when_done)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (XrayRegistrationError, ParameterException) as error:
        print(f"joint_sweep: {error}", file=sys.stderr)
        return 2
    finally:
        with uninterrupted():
            if node is not None:
                node.destroy_node()
            rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
