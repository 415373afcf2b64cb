"""When a pose was taken, as far as that is known, and what becomes of it in the state."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from xray_registration.ros.view.heard import Heard
from xray_registration.ros.view.standing import Kind, Limits, Trust
from xray_registration.ros.view.state_message import state_message
from xray_registration.ros.view.topics import Topics

STAMP = "1000.123456789"
CLOCK_S = 1002.0


def _values(stamp: str = STAMP, state: str = "registered", **more: str) -> dict[str, str]:
    accepted = "true" if state == "registered" else "false"
    return {"state": state, "image_stamp": stamp, "accepted": accepted, **more}


def _header(stamp: str = STAMP) -> Header:
    seconds, nanoseconds = stamp.split(".")
    return Header(stamp=Time(sec=int(seconds), nanosec=int(nanoseconds)), frame_id="carm")


def _pose(stamp: str = STAMP) -> PoseWithCovarianceStamped:
    message = PoseWithCovarianceStamped(header=_header(stamp))
    message.pose.pose.position.z = 0.7
    message.pose.pose.orientation.w = 1.0
    return message


def _record(stamp: str = STAMP, accepted: bool = True) -> dict[str, Any]:
    covariance = [[0.0] * 6 for _ in range(6)]
    for place, std_mm in enumerate((0.1, 0.2, 0.5)):
        covariance[place][place] = std_mm**2
    result = {"covariance": covariance, "isocentre": [10.0, 20.0, -30.0]}
    state = "registered" if accepted else "rejected"
    return {
        "image_stamp": stamp,
        "accepted": accepted,
        "state": state,
        "child_frame_id": "patient",
        "result": result,
    }


@pytest.fixture
def heard() -> Heard:
    return Heard(Limits(10.0, 3.0))


def _state(heard: Heard, now_s: float) -> dict[str, Any]:
    return state_message(heard.snapshot(now_s), Topics(), heard.child_frame)


def test_a_pose_that_was_there_before_is_as_old_as_its_stamp_says(heard: Heard) -> None:
    heard.add_status(0, "ok", _values(), 50.0, CLOCK_S)
    shown = heard.snapshot(50.1).standing
    assert shown.trust is Trust.VALID
    assert shown.pose_age_s == pytest.approx(0.1 + CLOCK_S - float(STAMP))


@pytest.mark.parametrize("clock_s", [900.0, 1e9])
def test_stamps_of_another_clock_say_nothing(heard: Heard, clock_s: float) -> None:
    heard.add_status(0, "ok", _values(), 50.0, clock_s)
    assert heard.snapshot(50.1).standing.kind is Kind.STALE
    # repeating it makes it no younger
    heard.add_status(0, "ok", _values(), 51.0, clock_s)
    assert heard.snapshot(51.1).standing.kind is Kind.STALE
    # the next image is witnessed
    heard.add_status(0, "ok", _values("1001.000000000", latency_s="0.4"), 52.0, clock_s)
    shown = heard.snapshot(52.0).standing
    assert shown.trust is Trust.VALID
    assert shown.pose_age_s == pytest.approx(0.4)


def test_the_nodes_own_word_on_the_age_is_taken(heard: Heard) -> None:
    heard.add_result(_record(), 50.0)
    heard.add_status(0, "ok", _values(pose_age_s="4.5", pose_stamp=STAMP), 50.0, 1e9)
    assert heard.snapshot(51.0).standing.pose_age_s == pytest.approx(5.5)
    # also of the last accepted pose after a reject
    rejected = _values("1001.0", "rejected", pose_age_s="7.0", pose_stamp=STAMP)
    heard.add_status(1, "no", rejected, 52.0, 1e9)
    assert heard.snapshot(52.0).standing.pose_age_s == pytest.approx(7.0)
    other = Heard(Limits(10.0, 3.0))
    other.add_status(0, "ok", _values(pose_age_s="nan", pose_stamp=STAMP), 50.0, 1e9)
    assert other.snapshot(51.0).standing.kind is Kind.STALE


def test_a_node_that_comes_back_with_an_old_pose_is_not_believed(heard: Heard) -> None:
    heard.add_status(1, "waiting", _values("", "waiting_for_image"), 50.0, CLOCK_S)
    heard.add_status(0, "ok", _values(), 70.0, 1e9)
    assert heard.snapshot(70.1).standing.kind is Kind.STALE


def test_a_pose_ages_until_it_is_stale_and_its_pose_is_gone(heard: Heard) -> None:
    heard.add_pose(_pose())
    heard.add_result(_record(), 50.0)
    for second in range(14):
        heard.add_status(0, "ok", _values(), 50.0 + second, 1e9)
    fresh, old = _state(heard, 59.9), _state(heard, 63.0)
    assert fresh["standing"]["kind"] == "registered"
    assert fresh["pose"]["camera_from_patient"][11] == pytest.approx(0.7)
    assert old["standing"]["kind"] == "stale"
    assert old["pose"] is None


def test_the_ellipsoid_is_the_covariance(heard: Heard) -> None:
    heard.add_pose(_pose())
    heard.add_status(0, "ok", _values(), 50.0, CLOCK_S)
    assert _state(heard, 50.0)["pose"]["ellipsoid"] is None
    heard.add_result(_record(), 50.1)
    ellipsoid = _state(heard, 50.1)["pose"]["ellipsoid"]
    assert ellipsoid["std_mm"] == pytest.approx([0.5, 0.2, 0.1])
    assert ellipsoid["centre"] == pytest.approx([0.01, 0.02, -0.03])
    assert [abs(v) for v in ellipsoid["axes"][0]] == pytest.approx([0.0, 0.0, 1.0])


def test_a_latched_pose_of_another_image_is_not_drawn(heard: Heard) -> None:
    heard.add_pose(_pose("999.000000000"))
    heard.add_status(0, "ok", _values(), 50.0, CLOCK_S)
    state = _state(heard, 50.0)
    assert state["standing"]["kind"] == "registered"
    assert state["pose"] is None


def test_pictures_are_marked_unless_their_pose_stands(heard: Heard) -> None:
    heard.add_status(0, "ok", _values(), 50.0, CLOCK_S)
    heard.add_result(_record(), 50.0)
    for name in ("overlay", "xray"):
        heard.add_image(name, Image(header=_header()), 50.0)
    marks = {n: p["mark"] for n, p in _state(heard, 50.5)["pictures"].items()}
    assert marks == {"overlay": "", "xray": ""}
    # the next image was accepted too, and its overlay does not come
    heard.add_status(0, "ok", _values("1001.000000000"), 52.0, CLOCK_S)
    marks = {n: p["mark"] for n, p in _state(heard, 54.0)["pictures"].items()}
    assert marks == {"overlay": "OLD PICTURE", "xray": "LAST IMAGE"}
    # rejected: at once, and the accepted picture before it has no colours any more
    heard.add_status(1, "no", _values("1002.000000000", "rejected"), 54.0, CLOCK_S)
    overlay = _state(heard, 54.0)["pictures"]["overlay"]
    assert (overlay["mark"], overlay["grey"], overlay["version"]) == ("REJECTED", True, 1)
    heard.add_image("overlay", Image(header=_header("1002.000000000")), 54.0)
    overlay = _state(heard, 54.0)["pictures"]["overlay"]
    assert (overlay["mark"], overlay["grey"], overlay["version"]) == ("REJECTED", False, 2)
    # a doubtful pose is looked at, in colours
    heard.add_status(2, "?", _values("1002.000000000", level_guard="ambiguous"), 54.5, CLOCK_S)
    heard.add_result(_record("1002.000000000"), 54.5)
    overlay = _state(heard, 54.5)["pictures"]["overlay"]
    assert (overlay["mark"], overlay["grey"]) == ("LEVEL AMBIGUOUS", False)
    heard.forget_pictures()
    assert _state(heard, 54.0)["pictures"] == {}


def test_what_tf_has_is_compared_with_the_pose(heard: Heard) -> None:
    def on_tf(now_s: float) -> str:
        figures = {f["label"]: f["value"] for f in _state(heard, now_s)["figures"]}
        return str(figures["on /tf"])

    heard.add_status(0, "ok", _values(), 50.0, CLOCK_S)
    assert on_tf(50.0) == "never"
    heard.add_transform(TransformStamped(header=_header()), 50.0)
    assert on_tf(50.0) == "yes"
    heard.add_status(1, "no", _values("1001.000000000", "rejected"), 51.0, CLOCK_S)
    assert on_tf(51.0) == "1.0 s ago"


def test_roi_and_binning_of_the_camera(heard: Heard) -> None:
    info = CameraInfo(width=1000, height=800, binning_x=2, binning_y=2)
    info.k = [2000.0, 0.0, 499.5, 0.0, 2000.0, 399.5, 0.0, 0.0, 1.0]
    info.roi.x_offset, info.roi.width, info.roi.height = 100, 600, 800
    heard.add_camera(info)
    camera = _state(heard, 0.0)["camera"]
    assert (camera["width"], camera["height"]) == (300, 400)
    assert camera["fx"] == pytest.approx(1000.0)
    # the middle of full resolution pixels 599 and 600 is between binned pixels 249 and 250
    assert camera["cx"] == pytest.approx((499.5 - 100.0 - 0.5) / 2)
    assert camera["cy"] == pytest.approx(199.5)
    heard.add_camera(CameraInfo())
    assert _state(heard, 0.0)["camera"] is None


def test_the_planned_level_is_told(heard: Heard) -> None:
    def level(**values: str) -> dict[str, Any]:
        heard.add_status(0, "ok", _values(**values), 50.0, CLOCK_S)
        told: dict[str, Any] = _state(heard, 50.0)["level"]
        return told

    heard.add_status(1, "no", _values("9.0", "rejected", level_guard="ok"), 49.0, CLOCK_S)
    assert _state(heard, 49.0)["level"] == {"text": "", "good": True}
    assert level() == {"text": "", "good": True}
    seen = level(level_guard="off", levels_in_view="vertebrae_T7, vertebrae_T8")
    assert seen == {"text": "in view: T7, T8", "good": True}
    good = level(level_guard="ok", level_guard_text="in view: vertebrae_T8")
    assert good == {"text": "", "good": True}
    assert _state(heard, 50.0)["standing"]["text"] == "planned level in view: T8"
    bad = level(level_guard="ambiguous", level_guard_text="the level is ambiguous")
    assert bad == {"text": "the level is ambiguous", "good": False}
