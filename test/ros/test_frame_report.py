"""What is said of an image: nothing that is not finite gets out, whatever the library says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from xray_registration.geometry import Camera
from xray_registration.registration import Reason, RegistrationResult, Termination
from xray_registration.ros.diagnostics import Counters, Monitor, State, stamp_text
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.frame_report import Case, FrameReport, registered
from xray_registration.ros.level_guard import LevelsSeen
from xray_registration.ros.output_settings import GuardSettings
from xray_registration.ros.start_pose import StartSource

GOOD = RegistrationResult(
    rig_from_ct=np.eye(4),
    accepted=True,
    reason=Reason.ACCEPTED,
    reason_text="fine",
    similarity=0.9,
    start_similarity=0.5,
    view_similarities=(0.9,),
    covariance=np.diag([0.01, 0.01, 0.04, 1e-6, 1e-6, 1e-6]),
    isocentre_lps_mm=np.zeros(3),
    iterations=10,
    termination=Termination.STEP,
    seconds=0.5,
    device="cpu",
)


def _report(result: RegistrationResult) -> FrameReport:
    frame = Frame.single(Image(), None, 5_000_000_007, 0.0)
    camera = Camera.from_detector(16, 16, 1.0, 1000.0)
    case = Case(frame, "carm", (np.eye(4),), (camera,), StartSource.PREVIOUS)
    return registered(case, result, LevelsSeen(), GuardSettings((), 0.5))


def _not_finite() -> list[RegistrationResult]:
    pose = np.eye(4)
    pose[0, 3] = np.nan
    return [replace(GOOD, rig_from_ct=pose), replace(GOOD, covariance=np.full((6, 6), np.inf))]


def test_an_accepted_result() -> None:
    report = _report(GOOD)
    assert report.state is State.REGISTERED
    assert report.rig_from_ct is not None
    values = report.values()
    assert values["translation_std_mm"] == pytest.approx(np.sqrt(0.06))
    assert values["rotation_std_deg"] == pytest.approx(np.degrees(np.sqrt(3e-6)))
    assert [float(v) for v in values["covariance"].split()][14] == 0.04
    assert values["image_stamp"] == "5.000000007"


@pytest.mark.parametrize("result", _not_finite())
def test_accepted_but_not_finite_is_rejected(result: RegistrationResult) -> None:
    report = _report(result)
    assert report.state is State.REJECTED
    assert report.reason == "not_finite"
    assert report.rig_from_ct is None
    record = report.to_dict("lps", "/data/ct.nii", "abc")
    json.dumps(record, allow_nan=False)
    assert record["result"]["ct"] == {"path": "ct.nii", "sha256": "abc"}


def test_a_rejected_result_keeps_its_reason() -> None:
    report = _report(
        replace(GOOD, accepted=False, reason=Reason.LOW_SIMILARITY, reason_text="0.1 below 0.3")
    )
    assert (report.state, report.reason, report.message) == (
        State.REJECTED,
        "low_similarity",
        "0.1 below 0.3",
    )
    assert report.rig_from_ct is None


def test_diagnostics_hold_no_unknown_numbers() -> None:
    monitor = Monitor("/carm/registration_node")
    values: dict[str, object] = {"a": float("nan"), "b": None, "c": True, "d": 0.25, "e": "text"}
    monitor.set_image(State.REJECTED, "why", values)
    monitor.count(received=2, dropped=1)
    [status] = monitor.message(Header()).status
    assert status.name == "carm/registration_node: registration"
    assert status.message == "why"
    written = {v.key: v.value for v in status.values}
    assert written["state"] == "rejected"
    assert {k: written.get(k) for k in "abcde"} == {
        "a": None, "b": None, "c": "true", "d": "0.25", "e": "text",
    }  # fmt: skip
    assert (written["images_received"], written["images_dropped"]) == ("2", "1")
    monitor.restart()
    [status] = monitor.message(Header()).status
    assert {v.key for v in status.values} == {"state"} | {f"images_{n}" for n in vars(Counters())}


def test_stamps_are_written_with_nine_digits() -> None:
    assert stamp_text(1_000_000_001) == "1.000000001"
