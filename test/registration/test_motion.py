"""The prediction: exact for an even motion, in the stamps' time, and never far ahead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import PositionerPose, camera_from_positioner, se3
from xray_registration.registration.motion import Motion, MotionConfig


def _orbit(second: float) -> np.ndarray:
    """15 degrees a second about a point far from the CT's origin."""
    return camera_from_positioner(PositionerPose(15.0 * second, 5.0, 690.0, (40.0, -120.0, 300.0)))


def _motion(*seconds: float, config: MotionConfig | None = None) -> Motion:
    config = config or MotionConfig()
    motion = Motion(seconds[0], _orbit(seconds[0]))
    for second in seconds[1:]:
        motion = motion.followed_by(second, _orbit(second), config)
    return motion


def test_one_pose_alone_holds_still() -> None:
    np.testing.assert_array_equal(_motion(3.0).predicted(9.0), _orbit(3.0))


@pytest.mark.parametrize("stamps", [(0.0, 0.1), (0.0, 0.1, 0.35, 0.4)])
@pytest.mark.parametrize("ahead", [0.0, 0.02, 0.14])
def test_an_even_orbit_is_predicted_exactly_whatever_the_spacing(
    stamps: tuple[float, ...], ahead: float
) -> None:
    predicted = _motion(*stamps).predicted(stamps[-1] + ahead)
    np.testing.assert_allclose(predicted, _orbit(stamps[-1] + ahead), atol=1e-8)


def test_the_extrapolation_ends_after_a_few_spans() -> None:
    motion = _motion(0.0, 0.1, config=MotionConfig(most_ahead=3.0))
    np.testing.assert_allclose(motion.predicted(5.0), _orbit(0.4), atol=1e-8)
    still = motion.predicted(5.0, MotionConfig(most_ahead=0.0))
    np.testing.assert_array_equal(still, _orbit(0.1))


def test_an_earlier_time_is_the_last_pose() -> None:
    np.testing.assert_array_equal(_motion(0.0, 0.1).predicted(-4.0), _orbit(0.1))


@pytest.mark.parametrize("stamp", [0.1, 0.05])
def test_a_stamp_that_does_not_advance_tells_no_velocity(stamp: float) -> None:
    motion = _motion(0.0, 0.1).followed_by(stamp, _orbit(3.0))
    assert np.isfinite(motion.predicted(stamp + 0.1)).all()
    np.testing.assert_array_equal(motion.twist_per_s, _motion(0.0, 0.1).twist_per_s)


def test_a_smaller_gain_passes_on_less_noise() -> None:
    random = np.random.default_rng(5)

    def error_mm(gain: float) -> float:
        config, errors = MotionConfig(gain=gain), []
        motion = Motion(0.0, np.eye(4))
        for second in range(1, 100):
            noise = torch.from_numpy(random.normal(size=6) * ([0.3] * 3 + [0.001] * 3))
            errors.append(np.linalg.norm(motion.predicted(second, config)[:3, 3]))
            motion = motion.followed_by(float(second), se3.se3_exp(noise).numpy(), config)
        return float(np.median(errors))

    assert error_mm(0.5) < 0.8 * error_mm(1.0)


def test_settings_that_are_not_possible() -> None:
    for wrong in ({"gain": 0.0}, {"gain": 1.1}, {"most_ahead": -1.0}, {"gain": float("nan")}):
        with pytest.raises(InputError, match="expected"):
            MotionConfig(**wrong)
