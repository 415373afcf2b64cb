"""Which registration stands: accepted, rejected, stale, forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sensor_msgs.msg import Image

from xray_registration.ros.diagnostics import State
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.frame_report import Case, FrameReport
from xray_registration.ros.standing import Standing


class _Accepted(FrameReport):
    @property
    def rig_from_ct(self) -> np.ndarray | None:
        return np.eye(4) if self.state is State.REGISTERED else None


def _report(received_s: float) -> FrameReport:
    frame = Frame.single(Image(), None, int(received_s * 1e9), received_s)
    return _Accepted(Case(frame, "carm"), State.REGISTERED, "accepted", "accepted", "fine")


def test_from_nothing_to_stale() -> None:
    now = [100.0]
    standing = Standing(lambda: now[0])
    assert standing.refusal(5.0) == "no pose has been accepted"
    assert not standing.is_stale(5.0)
    assert standing.values() == {}

    standing.take(_report(99.5))
    assert standing.refusal(5.0) == ""
    assert standing.values()["pose_age_s"] == 0.5
    assert standing.values()["pose_stamp"] == "99.500000000"

    # A reject: nothing may be used until an image is accepted again.
    rejected = replace(_report(101.0), state=State.REJECTED, reason="low_similarity", message="0.1")
    standing.take(rejected)
    assert "low_similarity" in standing.refusal(5.0)
    assert standing.values()["last_reject_reason"] == "low_similarity"
    assert standing.values()["pose_stamp"] == "99.500000000"
    standing.take(_report(102.0))
    assert standing.refusal(5.0) == ""
    assert standing.values()["last_reject_stamp"] == "101.000000000"

    # Time alone makes it stale; None: never.
    now[0] = 108.0
    assert "stale" in standing.refusal(5.0)
    assert standing.is_stale(5.0)
    assert standing.refusal(None) == ""
    assert not standing.is_stale(None)

    # An image that failed is no reject of the gate, but the pose does not stand.
    standing.take(replace(_report(108.0), state=State.ERROR, reason="internal_error"))
    assert "internal_error" in standing.refusal(None)

    standing.forget()
    assert standing.refusal(None) == "no pose has been accepted"
    assert standing.values() == {}
