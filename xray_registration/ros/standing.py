"""Which registration stands now, if any: what may be used, how old it is, why there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xray_registration.ros.diagnostics import State, stamp_text
from xray_registration.ros.frame_report import FrameReport


@dataclass
class _Reject:
    stamp_ns: int
    reason: str
    text: str


class Standing:
    """Fed with what became of every image; asked by diagnostics and guidance. Thread-safe."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """``clock_s``: the clock of ``Frame.received_s``."""
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """No pose has been accepted, nothing was rejected."""
        with self._lock:
            self._accepted: FrameReport | None = None
            self._reject: _Reject | None = None
            self._refused = ""

    def take(self, report: FrameReport) -> None:
        """What became of an image."""
        with self._lock:
            if report.rig_from_ct is not None:
                self._accepted, self._refused = report, ""
                return
            self._refused = report.reason
            if report.state is State.REJECTED:
                stamp = report.frame.stamp_ns
                self._reject = _Reject(stamp, report.reason, report.message)

    def refusal(self, stale_after_s: float | None) -> str:
        """Why the last accepted pose must not be used; empty when it may."""
        with self._lock:
            if self._accepted is None:
                return "no pose has been accepted"
            if self._refused:
                return f"the last image was not accepted: {self._refused}"
            age_s = self._age_s()
            if stale_after_s is not None and age_s > stale_after_s:
                return f"stale: no accepted pose for {age_s:.1f} s"
            return ""

    def is_stale(self, stale_after_s: float | None) -> bool:
        """A pose was accepted, but too long ago."""
        with self._lock:
            if self._accepted is None or stale_after_s is None:
                return False
            return self._age_s() > stale_after_s

    def values(self) -> dict[str, Any]:
        """Key-values of the diagnostics."""
        with self._lock:
            values: dict[str, Any] = {}
            if self._accepted is not None:
                values["pose_stamp"] = stamp_text(self._accepted.frame.stamp_ns)
                values["pose_age_s"] = self._age_s()
            if self._reject is not None:
                values["last_reject_stamp"] = stamp_text(self._reject.stamp_ns)
                values["last_reject_reason"] = self._reject.reason
                values["last_reject_text"] = self._reject.text
            return values

    def _age_s(self) -> float:
        assert self._accepted is not None
        return self._clock_s() - self._accepted.frame.received_s
