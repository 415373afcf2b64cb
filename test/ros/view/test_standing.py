"""A pose that is not known to be valid is never shown as valid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xray_registration.errors import InputError
from xray_registration.ros.view.standing import (
    AcceptedPose,
    Kind,
    Limits,
    Result,
    Standing,
    Status,
    Trust,
    duration,
    standing,
)

LIMITS = Limits(stale_after_s=10.0, silent_after_s=3.0)
NOW = 100.0
GOOD = Status(
    0, "ok", {"state": "registered", "accepted": "true", "image_stamp": "7.5"}, NOW - 0.5, NOW - 0.5
)
ACCEPTED = AcceptedPose("7.5", NOW - 1.0)


def _shown(status: Status | None = GOOD, **changes: Any) -> Standing:
    given: dict[str, Any] = {"result": None, "accepted": ACCEPTED, "now_s": NOW, "limits": LIMITS}
    return standing(status, **{**given, **changes})


def test_an_accepted_fresh_pose_is_valid() -> None:
    shown = _shown()
    assert (shown.kind, shown.word, shown.trust) == (Kind.REGISTERED, "REGISTERED", Trust.VALID)
    assert shown.pose_age_s == pytest.approx(1.0)
    values = {**GOOD.values, "similarity": "0.98765", "translation_std_mm": "0.0712"}
    assert _shown(replace(GOOD, values=values)).text == "similarity 0.988, predicted σ 0.07 mm"


@pytest.mark.parametrize(
    ("state", "kind", "word"),
    [
        ("rejected", Kind.REJECTED, "REJECTED"),
        ("stale", Kind.STALE, "STALE"),
        ("bad_input", Kind.BAD_INPUT, "BAD IMAGE"),
        ("error", Kind.ERROR, "NODE ERROR"),
        ("waiting_for_start_pose", Kind.WAITING, "WAITING FOR START POSE"),
        ("loading", Kind.WAITING, "LOADING"),
        ("inactive", Kind.INACTIVE, "INACTIVE"),
        ("unconfigured", Kind.INACTIVE, "UNCONFIGURED"),
        ("a_new_state", Kind.UNKNOWN, "A NEW STATE"),
        ("", Kind.UNKNOWN, "NO STATE"),
    ],
)
def test_every_other_state_has_its_word_and_no_pose(state: str, kind: Kind, word: str) -> None:
    # the values of the last accepted image may still stand in the status
    values = {"state": state, "accepted": "true", "image_stamp": "7.5"}
    shown = _shown(replace(GOOD, values=values, message="the reason"))
    assert (shown.kind, shown.word, shown.text) == (kind, word, "the reason")
    assert shown.trust is Trust.NONE


def test_silence_and_age_win_over_what_the_node_said_last() -> None:
    silent = _shown(replace(GOOD, heard_s=NOW - 3.1))
    assert (silent.kind, silent.trust) == (Kind.SILENT, Trust.NONE)
    old = _shown(accepted=AcceptedPose("7.5", NOW - 10.1))
    assert (old.kind, old.trust) == (Kind.STALE, Trust.NONE)
    unknown = _shown(accepted=AcceptedPose("7.5", None))
    assert (unknown.kind, unknown.trust, unknown.pose_age_s) == (Kind.STALE, Trust.NONE, None)
    absent = _shown(None)
    assert (absent.kind, absent.trust) == (Kind.ABSENT, Trust.NONE)


def test_registered_without_an_accepted_image_is_not_believed() -> None:
    values = {"state": "registered", "accepted": "false"}
    assert _shown(replace(GOOD, values=values)).trust is Trust.NONE
    assert _shown(accepted=None).trust is Trust.NONE


def test_a_result_that_overtakes_its_status_counts_when_it_is_worse() -> None:
    rejected = {"image_stamp": "8.0", "accepted": False, "state": "rejected", "reason_text": "far"}
    shown = _shown(result=Result(rejected, NOW - 0.1))
    assert (shown.kind, shown.text, shown.trust) == (Kind.REJECTED, "far", Trust.NONE)
    # one from before the status' image has been overruled by it
    assert _shown(result=Result(rejected, NOW - 0.9)).trust is Trust.VALID
    # a contradiction in itself
    claims = {**rejected, "state": "registered"}
    assert _shown(result=Result(claims, NOW - 0.1)).kind is Kind.REJECTED
    # a better one waits for its status
    bad = replace(GOOD, values={"state": "rejected", "accepted": "false", "image_stamp": "7.5"})
    accepted = {"image_stamp": "8.0", "accepted": True, "state": "registered"}
    assert _shown(bad, result=Result(accepted, NOW - 0.1)).kind is Kind.REJECTED


@pytest.mark.parametrize(
    ("guard", "word"),
    [
        ("not_in_view", "LEVEL NOT IN VIEW"),
        ("ambiguous", "LEVEL AMBIGUOUS"),
        ("off", "CHECK"),
    ],
)
def test_a_level_warning_makes_a_good_pose_doubtful(guard: str, word: str) -> None:
    values = {**GOOD.values, "level_guard": guard}
    shown = _shown(replace(GOOD, level=2, values=values, message="planned level T8 ..."))
    assert (shown.kind, shown.word, shown.trust) == (Kind.DOUBT, word, Trust.DOUBT)
    assert shown.text == "planned level T8 ..."


def test_two_nodes_of_one_name_are_doubtful() -> None:
    shown = _shown(publishers=2)
    assert (shown.kind, shown.trust) == (Kind.DOUBT, Trust.DOUBT)
    assert "2 nodes" in shown.text


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_limits_are_checked(value: float) -> None:
    with pytest.raises(InputError, match="--stale-after"):
        Limits(stale_after_s=value)
    with pytest.raises(InputError, match="--silent-after"):
        Limits(silent_after_s=value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.5, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (125.0, "2 min 05 s"),
        (11220.0, "3 h 07 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
