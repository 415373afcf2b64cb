"""The scene in a bag, and the node's code for it without a node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xray_registration.ros.frame_processor import FrameProcessor
    from xray_registration.ros.registration_settings import RegistrationSettings

LEVELS = "vertebrae_T7,vertebrae_T8,vertebrae_T9"
FRAMES = 3


@pytest.fixture(scope="session")
def settings(scene: Any) -> RegistrationSettings:
    """Of the scene, with overlays."""
    pytest.importorskip("rclpy")
    from xray_registration.ros.parameter_files import node_settings

    made = node_settings(
        {
            "ct_path": str(scene.ct_path),
            "label_map_path": str(scene.label_path),
            "isocentre.labels": LEVELS,
            "camera.sdd_mm": scene.camera.sdd_mm,
            "image.i0": 40000.0,
        }
    )
    return replace(made, overlay_always=True)


@pytest.fixture(scope="session")
def processor(settings: RegistrationSettings) -> FrameProcessor:
    """Of the scene's patient."""
    from xray_registration.ros.frame_processor import FrameProcessor

    return FrameProcessor(settings)


@pytest.fixture(scope="session")
def bag(scene: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shots of the scene, with start and truth."""
    pytest.importorskip("rosbags")
    from xray_registration.ros.simulated_bag import write_simulated_bag

    path = tmp_path_factory.mktemp("bags") / "run"
    shots = [(scene.raw, scene.camera, scene.camera_from_ct)] * FRAMES
    write_simulated_bag(path, shots, scene.start())
    return path
