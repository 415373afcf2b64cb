"""Targets from landmarks, label maps and bone."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation import targets
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume


@pytest.fixture
def labels() -> LabelMap:
    grid = np.zeros((10, 12, 14), np.uint8)  # k, j, i
    grid[1:4, 1:4, 1:4] = 1
    grid[5:8, 5:8, 5:8] = 2
    lps_from_index = np.diag([2.0, 1.0, 1.0, 1.0])
    lps_from_index[:3, 3] = (100, 0, 0)
    return LabelMap(grid, lps_from_index, {1: "vertebrae_L1", 2: "vertebrae_L2"})


def test_centroids(labels: LabelMap) -> None:
    found = targets.centroid_targets(labels, ["vertebrae_*"])
    assert found.names == ("vertebrae_L1", "vertebrae_L2")
    np.testing.assert_allclose(found.points_lps_mm, [[104, 2, 2], [112, 6, 6]])
    np.testing.assert_allclose(found.centre_lps_mm, [108, 4, 4])


def test_surface_points_are_on_the_surface_and_repeatable(labels: LabelMap) -> None:
    found = targets.surface_targets(labels, ["vertebrae_L2", "vertebrae_L1"], 20, seed=3)
    assert found.names == ("vertebrae_L2",) * 20 + ("vertebrae_L1",) * 20
    # a 3x3x3 cube: every voxel but the middle one is surface
    middle = np.array([112.0, 6, 6])
    assert (np.abs(found.points_lps_mm[:20] - middle).max(0) <= [2, 1, 1]).all()
    assert not (found.points_lps_mm[:20] == middle).all(1).any()
    again = targets.surface_targets(labels, ["vertebrae_L2", "vertebrae_L1"], 20, seed=3)
    np.testing.assert_array_equal(found.points_lps_mm, again.points_lps_mm)


def test_bone_surface_takes_the_largest_piece() -> None:
    hu = np.full((20, 20, 20), -1000, np.int16)
    hu[2:12, 2:12, 2:12] = 700
    hu[15:18, 15:18, 15:18] = 2000
    found = targets.bone_surface_targets(CTVolume(hu, np.eye(4)), 300, 5000)
    assert len(found.points_lps_mm) == 10**3 - 8**3
    assert found.points_lps_mm.max() == 11
    with pytest.raises(InputError, match="3000 HU"):
        targets.bone_surface_targets(CTVolume(hu, np.eye(4)), 3000, 10)


def test_landmarks() -> None:
    found = targets.landmark_targets({"a": [1, 2, 3], "b": [4, 5, 6]}, "points.fcsv")
    assert found.names == ("a", "b")
    np.testing.assert_allclose(found.points_lps_mm, [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(InputError, match=r"points\.fcsv: no landmarks"):
        targets.landmark_targets({}, "points.fcsv")
    with pytest.raises(InputError, match="'a'"):
        targets.landmark_targets({"a": [1, 2]}, "points.fcsv")


def test_mean_by_name(labels: LabelMap) -> None:
    found = targets.TargetSet(("a", "a", "b"), np.zeros((3, 3)), "made up")
    assert found.mean_by_name([1, 3, 10]) == {"a": 2.0, "b": 10.0}


def test_unusable_input_is_named(labels: LabelMap) -> None:
    with pytest.raises(InputError, match=r"'femur_\?'"):
        targets.centroid_targets(labels, ["vertebrae_L1", "femur_?"])
    with pytest.raises(InputError, match=r"\(0, 3\)"):
        targets.TargetSet((), np.zeros((0, 3)), "none")
    with pytest.raises(InputError, match="NaN"):
        targets.TargetSet(("a",), np.full((1, 3), np.nan), "bad")
