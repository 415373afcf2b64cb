"""What the registration node says on /diagnostics.

One DiagnosticStatus, named ``<node>: registration``, sent when an image has been dealt with and at
a fixed period. Its values are strings; numbers are written so that ``float()`` reads them back. A
value that is not known yet is absent, never NaN.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header


class State(str, Enum):
    """What the node is doing about registration; the ``state`` value on /diagnostics."""

    UNCONFIGURED = "unconfigured"
    INACTIVE = "inactive"
    LOADING = "loading"
    WAITING_FOR_IMAGE = "waiting_for_image"
    WAITING_FOR_CAMERA_INFO = "waiting_for_camera_info"
    WAITING_FOR_START_POSE = "waiting_for_start_pose"
    REGISTERED = "registered"
    REJECTED = "rejected"
    STALE = "stale"
    BAD_INPUT = "bad_input"
    ERROR = "error"


_LEVELS = {
    State.UNCONFIGURED: DiagnosticStatus.OK,
    State.INACTIVE: DiagnosticStatus.OK,
    State.LOADING: DiagnosticStatus.WARN,
    State.WAITING_FOR_IMAGE: DiagnosticStatus.WARN,
    State.WAITING_FOR_CAMERA_INFO: DiagnosticStatus.WARN,
    State.WAITING_FOR_START_POSE: DiagnosticStatus.WARN,
    State.REGISTERED: DiagnosticStatus.OK,
    State.REJECTED: DiagnosticStatus.WARN,
    State.STALE: DiagnosticStatus.WARN,
    State.BAD_INPUT: DiagnosticStatus.ERROR,
    State.ERROR: DiagnosticStatus.ERROR,
}

#: key under which the stamp of the last image dealt with is reported, see ``stamp_text``
IMAGE_STAMP_KEY = "image_stamp"


def stamp_text(stamp_ns: int) -> str:
    """``seconds.nanoseconds`` with nine digits, as ros2 tools print stamps."""
    return f"{stamp_ns // 1_000_000_000}.{stamp_ns % 1_000_000_000:09d}"


@dataclass
class Counters:
    """Images since activation. received = accepted + ... + dropped + those still on their way."""

    received: int = 0
    accepted: int = 0
    rejected: int = 0
    bad_input: int = 0
    without_start: int = 0
    failed: int = 0
    dropped: int = 0
    unpaired: int = 0


@dataclass
class Report:
    """The content of the status. Thread-safe through ``Monitor``."""

    state: State = State.UNCONFIGURED
    message: str = "not configured"
    image: dict[str, str] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)


class Monitor:
    """Keeps the report, shared by the executor's thread and the worker's."""

    def __init__(self, node_name: str) -> None:
        self._name = f"{node_name.lstrip('/')}: registration"
        self._lock = threading.Lock()
        self._report = Report()

    def set_state(self, state: State, message: str) -> None:
        """Say what the node is doing."""
        with self._lock:
            self._report.state, self._report.message = state, message

    def set_image(self, state: State, message: str, values: dict[str, object]) -> None:
        """Say what became of an image; replaces the values of the image before."""
        image = _texts(values)
        with self._lock:
            self._report.state, self._report.message = state, message
            self._report.image = image

    def count(self, **increments: int) -> None:
        """Add to counters by name."""
        with self._lock:
            for name, increment in increments.items():
                value = getattr(self._report.counters, name)
                setattr(self._report.counters, name, value + increment)

    def set_unpaired(self, number: int) -> None:
        """Images given up because no camera_info of the same stamp came."""
        with self._lock:
            self._report.counters.unpaired = number

    def restart(self) -> None:
        """Counters and image values back to nothing."""
        with self._lock:
            self._report.counters = Counters()
            self._report.image = {}

    def forget_image(self) -> None:
        """Image values back to nothing."""
        with self._lock:
            self._report.image = {}

    @property
    def state(self) -> State:
        """The current state."""
        return self._report.state

    def message(
        self,
        header: Header,
        values: Mapping[str, object] | None = None,
        stale: str = "",
        problem: str = "",
    ) -> DiagnosticArray:
        """The report as a message.

        Args:
            header: of the message.
            values: more key-values.
            stale: when not empty, what to say in place of an older success or reject.
            problem: when not empty, an error whatever the state is.
        """
        with self._lock:
            report = self._report
            state, text = report.state, report.message
            if stale and state in (State.REGISTERED, State.REJECTED, State.WAITING_FOR_START_POSE):
                state, text = State.STALE, f"{stale}; last: {text}" if text else stale
            status = DiagnosticStatus()
            status.level = DiagnosticStatus.ERROR if problem else _LEVELS[state]
            status.name = self._name
            status.message = f"{problem}; {text}" if problem else text
            status.hardware_id = report.image.get("image_frame_id", "")
            pairs = {"state": state.value, **report.image, **_texts(values or {})}
            pairs.update({f"images_{k}": str(v) for k, v in vars(report.counters).items()})
        status.values = [KeyValue(key=key, value=value) for key, value in pairs.items()]
        return DiagnosticArray(header=header, status=[status])


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {key: text for key, value in values.items() if (text := _text(value)) is not None}


def _text(value: object) -> str | None:
    """Text of a value; None for what is unknown or not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, Enum):
        return str(value.value)
    return str(value)
