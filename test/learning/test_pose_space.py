"""The six numbers: round trip, ranges, what a sideways shift does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import (
    PositionerPose,
    camera_from_positioner,
    positioner_from_camera,
)
from xray_registration.learning.pose_space import UNIT_MM, PoseSpace

SPACE = PoseSpace((5.0, 90.0, -170.0))


def test_round_trip_and_order_of_magnitude() -> None:
    poses = SPACE.sample(np.random.default_rng(1), 300)
    numbers = SPACE.encode(poses)
    torch.testing.assert_close(SPACE.decode(numbers), poses)
    assert 0.3 < float(numbers.std(0).min()) < float(numbers.std(0).max()) < 2.0
    torch.testing.assert_close(SPACE.clamped(numbers), numbers)


def test_samples_fill_the_ranges_and_stay_inside() -> None:
    for pose in SPACE.sample(np.random.default_rng(2), 100).numpy():
        centre = pose[:3, :3] @ np.array(SPACE.isocentre_lps_mm) + pose[:3, 3]
        assert abs(centre[0]) <= SPACE.shift_mm
        assert abs(centre[2] - 700.0) <= SPACE.depth_mm
        angles = positioner_from_camera(pose, 700.0)
        assert abs(angles.primary_deg) <= SPACE.primary_deg + 1e-9
        assert abs(angles.secondary_deg) <= SPACE.secondary_deg + 1e-9
        assert abs(angles.roll_deg) <= SPACE.roll_deg + 1e-9


def test_the_numbers_of_a_shift_along_the_rays() -> None:
    """The rotation is taken along the ray: the camera turned about the source changes it not."""
    nominal = torch.from_numpy(SPACE.nominal)
    torch.testing.assert_close(SPACE.encode(nominal), torch.zeros(6).double())
    angle = 0.05
    turn = torch.eye(4, dtype=torch.float64)
    turn[0, 0] = turn[2, 2] = np.cos(angle)
    turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
    numbers = SPACE.encode(turn @ nominal)
    assert float(numbers[0]) * UNIT_MM == pytest.approx(700.0 * np.tan(angle))
    torch.testing.assert_close(numbers[3:], torch.zeros(3).double())


def test_far_away_numbers_are_brought_back() -> None:
    wild = torch.tensor([[99.0, -99.0, -99.0, 0.1, 0.2, 0.3]], dtype=torch.float64)
    kept = SPACE.clamped(wild)
    pose = SPACE.decode(kept)[0].numpy()
    centre = pose[:3, :3] @ np.array(SPACE.isocentre_lps_mm) + pose[:3, 3]
    assert 500.0 < centre[2] < 700.0
    assert abs(centre[0]) < 60.0
    torch.testing.assert_close(kept[:, 3:], wild[:, 3:])


@pytest.mark.parametrize(
    "values",
    [
        {"isocentre_lps_mm": (0.0, float("nan"), 0.0)},
        {"shift_mm": -1.0},
        {"depth_mm": 700.0},
        {"secondary_deg": 91.0},
        {"rotation_scale_mm": 0.0},
    ],
)
def test_bad_values(values: dict) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        PoseSpace(**{"isocentre_lps_mm": (0.0, 0.0, 0.0), **values})


def test_ranges_go_on_beyond_180_degrees() -> None:
    space = PoseSpace(
        (0.0, 0.0, 1.0), primary_centre_deg=156.0, primary_deg=70.0, roll_centre_deg=180.0
    )
    poses = space.sample(np.random.default_rng(3), 200)
    torch.testing.assert_close(space.decode(space.encode(poses)), poses)
    angles = [positioner_from_camera(pose, 700.0) for pose in poses.numpy()]
    assert any(angle.primary_deg < -140 for angle in angles)
    assert any(angle.primary_deg > 100 for angle in angles)


def test_samples_are_poses_of_the_positioner() -> None:
    space = PoseSpace((10.0, -20.0, 30.0), primary_centre_deg=170.0, roll_centre_deg=-5.0)
    poses = space.sample(np.random.default_rng(4), 40).numpy()
    draws = np.random.default_rng(4).uniform(-1.0, 1.0, (40, 6))
    for pose, (a, b, roll, x, y, depth) in zip(poses, draws, strict=True):
        primary = 170.0 + a * space.primary_deg
        expected = camera_from_positioner(
            PositionerPose(
                (primary + 180.0) % 360.0 - 180.0,
                b * space.secondary_deg,
                space.source_isocentre_mm + depth * space.depth_mm,
                space.isocentre_lps_mm,
                -5.0 + roll * space.roll_deg,
            )
        )
        expected[:2, 3] += space.shift_mm * np.array([x, y])
        np.testing.assert_allclose(pose, expected, atol=1e-9)
