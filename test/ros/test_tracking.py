"""What follows upon an accepted image is tracked; what the node has forgotten is not followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from xray_registration.registration.tracker import Mode
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.frame_processor import Frame, FrameProcessor
from xray_registration.ros.frame_report import FrameReport
from xray_registration.ros.image_flow import ImageFlow
from xray_registration.ros.parameter_files import node_settings
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.solver import LocalSolver
from xray_registration.ros.start_pose import StartPosePolicy, StartSource


class Stream:
    """The scene's picture again and again, through the code of the node."""

    def __init__(self, scene: Any, settings: RegistrationSettings, processor: Any) -> None:
        self.scene, self.settings, self.processor = scene, settings, processor
        self.starts = StartPosePolicy()
        self.said: list[str] = []
        self.begin()

    def begin(self) -> None:
        """A solver that knows nothing of before."""
        solver = LocalSolver(self.settings, self.processor)
        self.flow = ImageFlow(solver, self.starts, self.said.append, self.said.append)

    def send(self, second: float, raw: np.ndarray | None = None, **changes: Any) -> FrameReport:
        """An image of this stamp."""
        stamp = Time(sec=int(second), nanosec=round(second % 1 * 1e9))
        header = Header(stamp=stamp, frame_id="carm_source_optical_frame")
        image = array_to_image(self.scene.raw if raw is None else raw, header)
        info = camera_to_message(self.scene.camera, header)
        frame = Frame.single(image, info, round(second * 1e9), 0.0)
        return self.flow.process(frame, replace(self.settings, **changes))


@pytest.fixture(scope="module")
def settings(scene: Any) -> RegistrationSettings:
    return node_settings(
        {
            "ct_path": str(scene.ct_path),
            "camera.sdd_mm": 1020.0,
            "image.i0": 40000.0,
            "start.source": "matrix",
            "start.matrix": [float(v) for v in scene.start().ravel()],
        }
    )


@pytest.fixture
def stream(scene: Any, settings: RegistrationSettings) -> Stream:
    return Stream(scene, settings, FrameProcessor(settings))


def _mode(report: FrameReport) -> Mode | None:
    return None if report.tracked is None else report.tracked.mode


def test_a_stream_is_tracked_until_it_is_reset(stream: Stream) -> None:
    reports = [stream.send(0.2 * n) for n in range(3)]
    assert [_mode(report) for report in reports] == [Mode.REGISTERED, Mode.TRACKED, Mode.TRACKED]
    for report in reports:
        assert report.rig_from_ct is not None
        assert stream.scene.mtre_mm(report.rig_from_ct) < 1.0
    assert reports[0].result is not None
    assert reports[1].result is not None
    assert reports[1].result.iterations < reports[0].result.iterations
    assert reports[1].start_source is StartSource.PREVIOUS
    values = reports[1].values()
    assert values["tracking"] == Mode.TRACKED
    assert 0 <= values["innovation_mm"] < 2.0
    record = json.loads(json.dumps(reports[1].to_dict("lps", "ct", "")))
    assert record["tracking"] == "tracked"
    # a gap in the stamps: in full, from the last pose
    report = stream.send(20.0)
    assert _mode(report) is Mode.RECOVERED
    assert "no accepted pose for" in report.values()["tracking_text"]
    # the node forgets, so the solver does
    stream.starts.reset()
    report = stream.send(20.2)
    assert (_mode(report), report.start_source) == (Mode.REGISTERED, StartSource.PARAMETER)


def test_a_new_solver_and_a_pose_from_outside_begin_anew(stream: Stream) -> None:
    stream.send(0.0)
    stream.processor = FrameProcessor(stream.settings)
    stream.begin()
    assert _mode(stream.send(0.2)) is Mode.REGISTERED
    assert _mode(stream.send(0.4)) is Mode.TRACKED
    stream.starts.set_initialpose(stream.scene.start(), "")
    report = stream.send(0.6)
    assert (_mode(report), report.start_source) == (Mode.REGISTERED, StartSource.INITIALPOSE)


def test_a_refused_frame_is_lost_and_not_published(stream: Stream) -> None:
    stream.send(0.0)
    nothing = np.random.default_rng(1).integers(9000, 11000, stream.scene.raw.shape)
    report = stream.send(0.2, nothing.astype(np.uint16))
    assert _mode(report) is Mode.LOST
    assert report.rig_from_ct is None
    assert _mode(stream.send(0.4)) is Mode.TRACKED


def test_switched_off_every_image_is_registered_in_full(stream: Stream) -> None:
    for n in range(2):
        report = stream.send(0.2 * n, tracks=False)
        assert report.rig_from_ct is not None
        assert report.tracked is None
        assert "tracking" not in report.values()
    # and without use_previous there is nothing to follow
    assert _mode(stream.send(0.4, use_previous=False)) is Mode.REGISTERED
    assert _mode(stream.send(0.6, use_previous=False)) is Mode.REGISTERED


@pytest.mark.ros
def test_the_node_says_so(scene: Any, peer: Any, make_node: Callable[..., Any]) -> None:
    make_node(
        start__source="matrix",
        start__matrix=[float(v) for v in scene.start().ravel()],
        tracking__max_gap_s=5.0,
    )
    peer.wait_for_subscribers()
    said = [peer.wait_for_report(peer.send_scene(scene)) for _ in range(2)]
    assert [values["state"] for values in said] == ["registered", "registered"]
    assert [values["tracking"] for values in said] == ["registered", "tracked"]
    assert float(said[1]["innovation_mm"]) < 2.0
