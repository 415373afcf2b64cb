"""No start pose at all: the network proposes, then the previous pose takes over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner
from xray_registration.imaging.labels import load_label_map
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.diagnostics import State
from xray_registration.ros.frame_processor import Frame, FrameProcessor
from xray_registration.ros.image_flow import ImageFlow
from xray_registration.ros.parameter_files import node_settings
from xray_registration.ros.registration_settings import NetworkStart
from xray_registration.ros.solver import LocalSolver
from xray_registration.ros.start_pose import StartPosePolicy, StartSource

CAMERA = Camera.from_detector(384, 384, 0.776, 1020.0)


def test_the_first_image_needs_no_start(
    example_ct: CTVolume, example_ct_file: Path, example_label_file: Path
) -> None:
    """The picture is a plain projection: what is tested is the way through the node's code."""
    labels = load_label_map(example_label_file, example_ct)
    x, y, z = labels.centroids_lps_mm()["vertebrae_T8"]
    pose = camera_from_positioner(PositionerPose(12.0, -5.0, 690.0, (x, y, z), 3.0))
    volume = AttenuationVolume.from_ct(example_ct, spacing_mm=1.4, isolate_patient=True)
    image = JosephProjector(volume).image(torch.from_numpy(pose)[None], CAMERA)[0].numpy()
    counts = np.random.default_rng(2).poisson(40000 * np.exp(-image)).astype(np.uint16)
    settings = node_settings(
        {"ct_path": str(example_ct_file), "start.source": "network", "camera.sdd_mm": 1020.0}
    )
    assert settings.start == NetworkStart()
    assert settings.parameter_start(np.zeros(3)) is None
    said: list[str] = []
    flow = ImageFlow(LocalSolver(settings), StartPosePolicy(), said.append, said.append)
    sources = []
    for second in (1, 2):
        header = Header(stamp=Time(sec=second), frame_id="carm_source_optical_frame")
        message = array_to_image(counts, header)
        frame = Frame.single(message, camera_to_message(CAMERA, header), second * 10**9, 0.0)
        report = flow.process(frame, settings)
        assert report.state is State.REGISTERED, report.message
        assert report.rig_from_ct is not None
        point = np.array([x, y, z, 1.0])
        assert np.linalg.norm(((report.rig_from_ct - pose) @ point)[:3]) < 1.0
        sources.append(report.start_source)
    assert sources == [StartSource.NETWORK, StartSource.PREVIOUS]
    assert said == []


def test_weights_of_another_ct_are_refused_at_configure(scene: object) -> None:
    settings = node_settings({"ct_path": str(scene.ct_path), "start.source": "network"})  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no start-pose weights for this CT"):
        FrameProcessor(settings)
    gone = replace(settings, start=NetworkStart("gone.json"))
    with pytest.raises(InputError, match=r"gone\.json"):
        FrameProcessor(gone)
