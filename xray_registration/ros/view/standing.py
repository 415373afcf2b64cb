"""What the view says in its largest words: may the pose be used, and if not, why not.

No ROS, no clock: everything that was heard, and the time, come in as arguments. Whatever is not
known to be a valid pose is shown as none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from xray_registration.errors import InputError

#: diagnostic_msgs/DiagnosticStatus.OK
OK = 0


class Kind(str, Enum):
    """What is shown; the page has a colour and a sign for each."""

    REGISTERED = "registered"
    DOUBT = "doubt"
    REJECTED = "rejected"
    STALE = "stale"
    BAD_INPUT = "bad_input"
    ERROR = "error"
    WAITING = "waiting"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"
    SILENT = "silent"
    ABSENT = "absent"


class Trust(str, Enum):
    """How the pose is drawn: as valid, as doubtful, or not at all."""

    VALID = "valid"
    DOUBT = "doubt"
    NONE = "none"


_WORDS = {
    Kind.REGISTERED: "REGISTERED",
    Kind.DOUBT: "CHECK",
    Kind.REJECTED: "REJECTED",
    Kind.STALE: "STALE",
    Kind.BAD_INPUT: "BAD IMAGE",
    Kind.ERROR: "NODE ERROR",
    Kind.SILENT: "NODE SILENT",
    Kind.ABSENT: "NO NODE",
}
_KINDS = {
    "registered": Kind.REGISTERED,
    "rejected": Kind.REJECTED,
    "stale": Kind.STALE,
    "bad_input": Kind.BAD_INPUT,
    "error": Kind.ERROR,
    "inactive": Kind.INACTIVE,
    "unconfigured": Kind.INACTIVE,
    "loading": Kind.WAITING,
}
_LEVEL_WORDS = {"not_in_view": "LEVEL NOT IN VIEW", "ambiguous": "LEVEL AMBIGUOUS"}


@dataclass(frozen=True)
class Limits:
    """When what was heard is too old.

    Attributes:
        stale_after_s: a pose whose image is older is stale, whatever the node says.
        silent_after_s: a node that has said nothing for so long is taken for dead.
    """

    stale_after_s: float = 10.0
    silent_after_s: float = 3.0

    def __post_init__(self) -> None:
        for option, value in (
            ("--stale-after", self.stale_after_s),
            ("--silent-after", self.silent_after_s),
        ):
            if not 0.0 < value < float("inf"):
                raise InputError(f"{option} is {value}; expected seconds above 0.")


@dataclass(frozen=True)
class Status:
    """The newest status of the node on /diagnostics.

    Attributes:
        level: of DiagnosticStatus.
        message: for people.
        values: its key-values.
        heard_s: when, monotonic.
        image_heard_s: when a status with this ``image_stamp`` was first heard.
    """

    level: int
    message: str
    values: Mapping[str, str]
    heard_s: float
    image_heard_s: float

    @property
    def state(self) -> str:
        """The node's word for it."""
        return self.values.get("state", "")

    @property
    def stamp(self) -> str:
        """Of the last image dealt with; empty when there was none."""
        return self.values.get("image_stamp", "")


@dataclass(frozen=True, eq=False)
class Result:
    """The newest record on ~/result."""

    record: Mapping[str, object] = field(default_factory=dict)
    heard_s: float = 0.0

    @property
    def stamp(self) -> str:
        """Of its image."""
        return str(self.record.get("image_stamp", ""))

    @property
    def accepted(self) -> bool:
        """Whether the image's pose was."""
        return self.record.get("accepted") is True


@dataclass(frozen=True)
class AcceptedPose:
    """The last image whose pose was accepted. ``taken_s``: monotonic; None when not known."""

    stamp: str
    taken_s: float | None


@dataclass(frozen=True)
class Standing:
    """What is shown.

    Attributes:
        kind: chooses colour and sign.
        word: the large word.
        text: why, in one line.
        trust: how the pose is drawn.
        pose_age_s: since the image of the last accepted pose was taken; None when not known.
    """

    kind: Kind
    word: str
    text: str
    trust: Trust = Trust.NONE
    pose_age_s: float | None = None


def standing(
    status: Status | None,
    result: Result | None,
    accepted: AcceptedPose | None,
    now_s: float,
    limits: Limits,
    publishers: int = 1,
) -> Standing:
    """What to show now.

    Args:
        status: the newest; None when the node was never heard.
        result: the newest on ~/result.
        accepted: the last accepted pose.
        now_s: monotonic.
        limits: when something is too old.
        publishers: of ~/result; two nodes of one name contradict each other.
    """
    if status is None:
        return Standing(Kind.ABSENT, _WORDS[Kind.ABSENT], "the registration node was not heard yet")
    age = None if accepted is None or accepted.taken_s is None else now_s - accepted.taken_s
    silent_s = now_s - status.heard_s
    if silent_s > limits.silent_after_s:
        text = f"nothing was heard from the node for {duration(silent_s)}: it has died or hangs"
        return Standing(Kind.SILENT, _WORDS[Kind.SILENT], text, pose_age_s=age)
    kind, text = _kind(status), status.message
    if result is not None and result.heard_s > status.image_heard_s and not result.accepted:
        # Its status is still on its way: the worse of the two counts.
        state, text = str(result.record.get("state", "")), str(result.record.get("reason_text", ""))
        kind = _KINDS.get(state, Kind.WAITING if state.startswith("waiting") else Kind.UNKNOWN)
        kind = Kind.REJECTED if kind is Kind.REGISTERED else kind
    if kind is not Kind.REGISTERED:
        return Standing(kind, _word(kind, status), text, pose_age_s=age)
    if status.values.get("accepted") != "true" or accepted is None:
        return Standing(Kind.UNKNOWN, "NOT ACCEPTED", "registered, but no image was accepted")
    if age is None:
        text = "the age of the last pose is not known: waiting for the next image"
        return Standing(Kind.STALE, _WORDS[Kind.STALE], text)
    if age > limits.stale_after_s:
        text = f"no pose was accepted for {duration(age)}"
        return Standing(Kind.STALE, _WORDS[Kind.STALE], text, pose_age_s=age)
    if publishers > 1:
        text = f"{publishers} nodes of this name are running: their poses are mixed up"
        return Standing(Kind.DOUBT, _WORDS[Kind.DOUBT], text, Trust.DOUBT, age)
    if status.level != OK:
        word = _LEVEL_WORDS.get(status.values.get("level_guard", ""), _WORDS[Kind.DOUBT])
        return Standing(Kind.DOUBT, word, status.message, Trust.DOUBT, age)
    return Standing(kind, _WORDS[kind], _proof(status), Trust.VALID, age)


def finite(text: object) -> float | None:
    """The number that a text of /diagnostics is; None when it is none, or not finite."""
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``2 min 05 s``, ``3 h 07 min``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _proof(status: Status) -> str:
    """What speaks for a pose that stands."""
    parts = []
    if status.values.get("level_guard") == "ok":
        level = status.values.get("level_guard_text", "").replace("vertebrae_", "")
        parts.append(f"planned level {level}")
    for key, text in (
        ("similarity", "similarity {:.3f}"),
        ("translation_std_mm", "predicted σ {:.2f} mm"),
    ):
        value = finite(status.values.get(key))
        if value is not None:
            parts.append(text.format(value))
    return ", ".join(parts)


def _kind(status: Status) -> Kind:
    if status.state.startswith("waiting"):
        return Kind.WAITING
    return _KINDS.get(status.state, Kind.UNKNOWN)


def _word(kind: Kind, status: Status) -> str:
    words = (status.state or "no state").replace("_", " ").upper()
    return _WORDS.get(kind, words)
