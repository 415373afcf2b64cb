from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from xray_registration.errors import InputError
from xray_registration.geometry import frames


def pose() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec([0.3, -0.8, 1.2]).as_matrix()
    matrix[:3, 3] = (12.0, -40.0, 800.0)
    return matrix


def test_a_point_stays_the_same_point() -> None:
    """A point 10 mm left, 20 mm in front, 30 mm up, written in both systems."""
    point_lps = np.array([10.0, -20.0, 30.0, 1.0])
    point_ras = np.array([-10.0, 20.0, 30.0, 1.0])
    np.testing.assert_array_equal(frames.LPS_FROM_RAS @ point_ras, point_lps)
    target_from_ras = pose()
    target_from_lps = frames.to_lps(target_from_ras, "ras")
    np.testing.assert_allclose(target_from_lps @ point_lps, target_from_ras @ point_ras)


@pytest.mark.parametrize("axes", ["lps", "ras", "LPS", "RAS"])
def test_round_trip(axes: str) -> None:
    np.testing.assert_array_equal(frames.from_lps(frames.to_lps(pose(), axes), axes), pose())
    assert np.linalg.det(frames.to_lps(pose(), axes)) == pytest.approx(1.0)


def test_lps_is_left_alone() -> None:
    np.testing.assert_array_equal(frames.to_lps(pose(), "lps"), pose())


@pytest.mark.parametrize("axes", ["lpi", "", "ct", None, 3])
def test_other_axes_are_refused(axes: object) -> None:
    with pytest.raises(InputError, match=r'expected "lps" .* or "ras"'):
        frames.to_lps(pose(), axes)  # type: ignore[arg-type]


def test_units() -> None:
    metres = frames.metres_from_mm(pose())
    np.testing.assert_allclose(metres[:3, 3], [0.012, -0.040, 0.8])
    np.testing.assert_array_equal(metres[:3, :3], pose()[:3, :3])
    np.testing.assert_array_equal(metres[3], [0, 0, 0, 1])
    np.testing.assert_allclose(frames.mm_from_metres(metres), pose())
    batch = np.stack([pose(), pose()])
    assert frames.metres_from_mm(batch).shape == (2, 4, 4)
    np.testing.assert_array_equal(batch[0], pose())  # the argument is not changed


def test_constant_cannot_be_overwritten() -> None:
    with pytest.raises(ValueError, match="read-only"):
        frames.LPS_FROM_RAS[0, 0] = 1.0
    frames.lps_from_ct_axes("ras")[0, 0] = 5.0
    assert frames.lps_from_ct_axes("ras")[0, 0] == -1.0
