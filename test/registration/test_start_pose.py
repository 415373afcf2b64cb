"""Starts from a pose, the C-arm's angles and a motion, through one interface."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, PositionerPose, camera_from_positioner
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.registration import View
from xray_registration.registration.motion import Motion
from xray_registration.registration.start_pose import (
    GivenStart,
    PositionerStart,
    PredictedStart,
    StartPose,
)

CAMERA = Camera.from_detector(32, 32, 9.0, 1020.0)


def _view(camera_from_rig: np.ndarray) -> View:
    image = np.zeros((32, 32), np.float32)
    return View(Radiograph(image, np.ones((32, 32), bool), "attenuation"), CAMERA, camera_from_rig)


@pytest.fixture
def rig() -> np.ndarray:
    return camera_from_positioner(PositionerPose(40.0, 10.0, 500.0))


def test_every_start_proposes_rigid_poses_and_weights(rig: np.ndarray) -> None:
    positioner = PositionerPose(10.0, -5.0, 690.0, (3.0, 2.0, 1.0))
    pose = camera_from_positioner(positioner)
    starts: list[StartPose] = [
        GivenStart(pose),
        PositionerStart(positioner),
        PredictedStart(Motion(0.0, pose), 1.0),
    ]
    for start in starts:
        poses, weights = start.propose([_view(np.eye(4))])
        np.testing.assert_allclose(poses, pose[None], atol=1e-12)
        assert weights.tolist() == [1.0]


def test_angles_are_those_of_the_first_view(rig: np.ndarray) -> None:
    positioner = PositionerPose(10.0, -5.0, 690.0, (3.0, 2.0, 1.0))
    poses, _ = PositionerStart(positioner).propose([_view(rig), _view(np.eye(4))])
    np.testing.assert_allclose(rig @ poses[0], camera_from_positioner(positioner), atol=1e-9)


def test_a_pose_that_is_not_rigid_is_refused() -> None:
    with pytest.raises(InputError, match="start pose"):
        GivenStart(2 * np.eye(4))
