"""The node's std_srvs/Trigger services, and the answers that wait for an image."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from std_srvs.srv import Trigger

from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.frame_report import FrameReport

#: says (success, message)
Answer = tuple[bool, str]

# How long ~/register_now waits for the image to be dealt with.
_PATIENCE_S = 60.0


class Services:
    """~/reset, ~/register_now and ~/load_ct.

    ~/register_now waits for a registration, in a callback group (and with a MultiThreadedExecutor
    in a thread) of its own: the others are answered meanwhile.
    """

    def __init__(
        self,
        node: Any,
        slow: CallbackGroup,
        reset: Callable[[], Answer],
        register_now: Callable[[], Answer],
        load_ct: Callable[[], Answer],
    ) -> None:
        """``slow``: the group of the transitions, with which loading a CT must not overlap."""
        waiting = MutuallyExclusiveCallbackGroup()
        table = (
            ("~/reset", reset, None),
            ("~/register_now", register_now, waiting),
            ("~/load_ct", load_ct, slow),
        )
        for name, action, group in table:
            node.create_service(Trigger, name, _callback(action), callback_group=group)


def answer_during_transitions(node: Any) -> None:
    """Have a lifecycle node say its state also while a transition, in its own group, takes long.

    rclpy puts all lifecycle services into the group of the transitions; a manager that asks in the
    meantime would hear nothing, where ``configuring`` is true.
    """
    for name in ("get_state", "get_available_states", "get_available_transitions"):
        service = getattr(node, f"_service_{name}", None)
        if service is not None:  # else this rclpy keeps them elsewhere: they are answered later
            service.callback_group = node.default_callback_group
            node.default_callback_group.add_entity(service)


def _callback(action: Callable[[], Answer]) -> Callable[[Any, Any], Any]:
    def answer(_: Any, response: Any) -> Any:
        response.success, response.message = action()
        return response

    return answer


@dataclass(eq=False)
class _Ticket:
    done: threading.Event = field(default_factory=threading.Event)
    answer: Answer = (False, "")


class Tickets:
    """Who waits for what becomes of a frame. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Frame, _Ticket] = {}

    def wait_for(self, frame: Frame, submit: Callable[[], None]) -> Answer:
        """Submit a frame and wait for its answer; one caller at a time."""
        ticket = _Ticket()
        with self._lock:
            self._open[frame] = ticket
        submit()
        if not ticket.done.wait(_PATIENCE_S):
            with self._lock:
                self._open = {f: t for f, t in self._open.items() if t is not ticket}
            return False, f"the image has not been dealt with within {_PATIENCE_S:.0f} s"
        return ticket.answer

    def settle(self, report: FrameReport) -> None:
        """A frame has been dealt with."""
        accepted = report.rig_from_ct is not None
        self._close(report.frame, (accepted, f"{report.state.value}: {report.message}"))

    def hand_on(self, old: Frame, new: Frame) -> None:
        """A newer frame has replaced this one: the answer is what becomes of that."""
        with self._lock:
            ticket = self._open.pop(old, None)
            if ticket is not None:
                self._open[new] = ticket

    def give_up(self, frame: Frame, why: str) -> None:
        """A frame will not be dealt with."""
        self._close(frame, (False, why))

    def give_up_all(self, why: str) -> None:
        """No frame will be dealt with any more."""
        with self._lock:
            frames = list(self._open)
        for frame in frames:
            self._close(frame, (False, why))

    def _close(self, frame: Frame, answer: Answer) -> None:
        with self._lock:
            ticket = self._open.pop(frame, None)
        if ticket is not None:
            ticket.answer = answer
            ticket.done.set()
