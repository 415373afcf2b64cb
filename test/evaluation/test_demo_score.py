"""The demo's bookkeeping and verdict."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from xray_registration.evaluation import demo_chart
from xray_registration.evaluation.demo_score import (
    FrameScore,
    HeardFrames,
    Scorer,
    problems,
    summary,
    vertebra_targets,
)
from xray_registration.geometry import Camera
from xray_registration.imaging.labels import LabelMap

TARGETS = np.array([[0.0, 0.0, 0.0], [30.0, 0.0, 0.0], [0.0, 20.0, -10.0]])


def _pose(x: float = 0.0, z: float = 700.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = (x, 0.0, z)
    return pose


def _events(stamp: str, found: np.ndarray | None, x: float, seconds: float = 0.5) -> list[Any]:
    """What the client says of a frame; found None = rejected."""
    result = {"rig_from_ct": _pose(x + 40.0).tolist(), "seconds": seconds, "similarity": 0.8}
    record = {"accepted": found is not None, "reason": "low_similarity", "result": result}
    events: list[dict[str, Any]] = [
        {"event": "truth", "parent_from_child": _pose(x).tolist(), "heard_s": 1.0},
        {"event": "camera", "width": 64, "height": 64, "K": np.diag([900.0, 900.0, 1.0]).tolist()},
        {"event": "image", "file": f"{stamp}.npy", "heard_s": 2.0},
        {"event": "result", "record": record, "heard_s": 3.0},
    ]
    if found is not None:
        events.append({"event": "tf", "parent_from_child": found.tolist(), "heard_s": 2.9})
    return [{**event, "stamp": stamp} for event in events]


def _scores(*found: np.ndarray | None) -> list[FrameScore]:
    """The truth moves by 3 mm from frame to frame."""
    heard = HeardFrames()
    scorer = Scorer(TARGETS, np.zeros(3), lambda frame: _pose(15.0), [(0.0, 0.0)] * len(found))
    for number, pose in enumerate(found):
        for event in _events(f"100.{number:09d}", pose, 3.0 * number):
            frame = heard.add(event)
            if frame is not None:
                scorer.add(heard.number_of(frame), frame)
    return scorer.scores


def test_a_frame_is_complete_when_all_of_it_has_come_in_any_order() -> None:
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]):
        heard = HeardFrames()
        assert heard.add({"event": "simulator", "state": "sending"}) is None
        events = _events("5.000000001", _pose(), 0.0)
        completed = [heard.add(events[n]) for n in order]
        assert completed[:-1] == [None] * 4
        assert completed[-1] is not None
        assert completed[-1].accepted


def test_errors_times_and_starts() -> None:
    first, refused, third = _scores(_pose(0.4, 700.3), None, _pose(6.0))
    assert first.errors is not None
    assert first.errors.mtre_mm == pytest.approx(0.5)
    assert first.errors.depth_mm == pytest.approx(0.3)
    assert first.start_mtre_mm == pytest.approx(15.0)
    assert first.latency_s == pytest.approx(0.9)
    assert first.seconds == 0.5
    assert first.accepted
    assert first.is_broadcast
    # a rejected frame is scored where the solver ended; it gives no start to the next
    assert refused.errors is not None
    assert refused.errors.mtre_mm == pytest.approx(40.0)
    assert not refused.is_broadcast
    start = np.linalg.norm([3.0 * 2 - 0.4, 0.3])
    assert third.start_mtre_mm == pytest.approx(start)


def test_summary_is_over_what_was_broadcast() -> None:
    found = [_pose(3.0 * n + 0.1 * n) for n in range(9)]
    record = summary(_scores(*found, None), 10)
    assert (record["frames"], record["accepted"], record["broadcast"]) == (10, 9, 9)
    assert record["mtre_median_mm"] == pytest.approx(0.4)
    assert record["mtre_max_mm"] == pytest.approx(0.8)
    assert record["seconds_median"] == 0.5
    assert record["problems"] == []
    json.dumps(record, allow_nan=False)


def test_what_makes_the_demo_fail() -> None:
    good = [_pose(3.0 * n) for n in range(10)]
    assert problems(_scores(*good), 10) == []
    assert "only 10 of 12 frames" in problems(_scores(*good), 12)[0]
    assert "8 of 10 poses" in problems(_scores(*good[:8], None, None), 10)[0]
    off = [*good[:9], _pose(3.0 * 9 + 2.1)]
    assert problems(_scores(*off), 10) == [
        "frame 9: the pose on /tf is 2.10 mm off, more than 2 mm"
    ]
    just = [*good[:9], _pose(3.0 * 9 + 1.9)]
    assert problems(_scores(*just), 10) == []
    nothing = summary([], 5)
    assert nothing["mtre_median_mm"] is None
    assert len(nothing["problems"]) == 2


def test_a_rejected_pose_on_tf_is_a_problem() -> None:
    heard = HeardFrames()
    scorer = Scorer(TARGETS, np.zeros(3), lambda frame: _pose(), [(0.0, 0.0)])
    events = _events("1.000000000", None, 0.0)
    tf = {"event": "tf", "stamp": "1.000000000", "parent_from_child": _pose().tolist()}
    for event in [tf, *events]:
        frame = heard.add(event)
        if frame is not None:
            scorer.add(0, frame)
    assert any("rejected, but a pose was heard" in p for p in problems(scorer.scores, 1))


def test_targets_are_on_vertebrae_that_every_pose_shows() -> None:
    labels = np.zeros((30, 6, 6), np.uint8)
    labels[2:6, 2:4, 2:4], labels[24:28, 2:4, 2:4] = 1, 2
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    label_map = LabelMap(labels, affine, {1: "low", 2: "high"})
    camera = Camera.from_detector(64, 64, 1.5, 1000.0)
    turn = np.eye(4)
    turn[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    turn[:3, 3] = (-10.0, -14.0, 700.0)
    names, points = vertebra_targets(label_map, ["low", "high"], [turn], camera)
    assert names == ["low"]
    assert points.shape == (17, 3)
    np.testing.assert_allclose(points[0], [10.0, 10.0, 14.0])


def test_charts_and_table_have_every_frame() -> None:
    scores = _scores(_pose(0.2), None, _pose(6.0))
    chart = demo_chart.errors_svg(scores, 2.0)
    assert chart.count('class="found"') == 2
    assert chart.count('class="refused"') == 1
    assert chart.count('class="start"') == 3
    assert 'class="limit"' in chart
    assert "nan" not in chart
    assert demo_chart.seconds_svg(scores).count('class="time"') == 3
    rows = demo_chart.table_rows(scores)
    assert rows.count("<tr") == 3
    assert "no: low_similarity" in rows
    assert "nan" not in demo_chart.errors_svg([], 2.0) + demo_chart.seconds_svg([])
