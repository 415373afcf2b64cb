"""Errors of one pose, each against a number worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation import metrics
from xray_registration.geometry import Camera

# looks along z, the CT's origin 700 mm from the source
TRUTH = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 700], [0, 0, 0, 1]])
ISOCENTRE = np.zeros(3)
CAMERA = Camera.from_detector(512, 512, 0.4, 1000.0)


def moved(v: tuple[float, float, float]) -> np.ndarray:
    pose = TRUTH.copy()
    pose[:3, 3] += v
    return pose


def turned_about_z(degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return turn @ TRUTH


def turned_about_x(degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    pose = TRUTH.copy()
    pose[:3, :3] = [[1, 0, 0], [0, c, -s], [0, s, c]]
    return pose


def test_mtre_of_a_shift_is_its_length() -> None:
    points = np.array([[0.0, 0, 0], [100, -50, 20]])
    assert metrics.mtre_mm(moved((3, 0, 4)), TRUTH, points) == pytest.approx(5.0)


def test_mtre_averages_lengths_and_not_vectors() -> None:
    # 180 degrees about z moves (+-10, 0, 0) by 20 mm in opposite directions, the origin by 0
    points = np.array([[10.0, 0, 0], [-10, 0, 0], [0, 0, 0]])
    assert metrics.mtre_mm(turned_about_z(180), TRUTH, points) == pytest.approx(40 / 3)
    np.testing.assert_allclose(
        metrics.target_errors_mm(turned_about_z(180), TRUTH, points), [20, 20, 0], atol=1e-9
    )


def test_mtre_does_not_depend_on_the_frame_it_is_seen_from() -> None:
    points = np.random.default_rng(1).normal(size=(5, 3)) * 50
    other = turned_about_x(40)
    a, b = turned_about_z(3), moved((1, 2, 3))
    assert metrics.mtre_mm(other @ a, other @ b, points) == pytest.approx(
        metrics.mtre_mm(a, b, points)
    )


def test_projection_error_is_magnified_on_the_detector() -> None:
    # 7 mm across at 700 of 1000 mm: 10 mm on the detector
    points = np.array([[0.0, 0, 0], [20, 30, 0]])
    assert metrics.mpe_mm(moved((7, 0, 0)), TRUTH, CAMERA, points) == pytest.approx(10.0)


def test_projection_error_of_depth() -> None:
    # (70, 0, 0) at 700 mm is at 100 mm on the detector; at 1400 mm it is at 50 mm
    points = np.array([[70.0, 0, 0]])
    assert metrics.mpe_mm(moved((0, 0, 700)), TRUTH, CAMERA, points) == pytest.approx(50.0)


def test_projection_error_with_oblong_pixels() -> None:
    camera = Camera.from_detector(512, 256, (0.4, 0.8), 1000.0)
    points = np.zeros((1, 3))
    assert metrics.mpe_mm(moved((0, 7, 0)), TRUTH, camera, points) == pytest.approx(10.0)


def test_reprojection_distance_is_measured_at_the_patient_and_is_blind_to_depth() -> None:
    origin = np.zeros((1, 3))
    assert metrics.mrpd_mm(moved((0, 0, 50)), TRUTH, origin) == pytest.approx(0.0, abs=1e-9)
    # the ray of (7, 0, 700) passes the true point (0, 0, 700) at 7 * 700 / hypot(7, 700) mm
    expected = 7 * 700 / math.hypot(7, 700)
    assert metrics.mrpd_mm(moved((7, 0, 0)), TRUTH, origin) == pytest.approx(expected)


def test_rotation_error() -> None:
    assert metrics.rotation_error_deg(turned_about_z(12), TRUTH) == pytest.approx(12.0)
    assert metrics.rotation_error_deg(TRUTH, TRUTH) == pytest.approx(0.0, abs=1e-6)
    assert metrics.rotation_error_deg(turned_about_x(-180), TRUTH) == pytest.approx(180.0)


def test_translation_error_is_that_of_the_isocentre_and_not_of_the_origin() -> None:
    isocentre = np.array([100.0, 0, 0])
    # a half turn about the beam axis carries (100, 0) to (-100, 0), the origin stays
    assert metrics.translation_error_mm(turned_about_z(180), TRUTH, isocentre) == pytest.approx(200)
    assert metrics.translation_error_mm(turned_about_z(180), TRUTH, ISOCENTRE) == pytest.approx(0)


def test_split_of_a_shift() -> None:
    points = np.array([[0.0, 0, 0], [10, 0, 0]])
    errors = metrics.pose_errors(moved((3, 4, 12)), TRUTH, points, ISOCENTRE)
    assert errors.mtre_mm == pytest.approx(13)
    assert errors.translation_mm == pytest.approx(13)
    assert errors.in_plane_mm == pytest.approx(5)
    assert errors.depth_mm == pytest.approx(12)
    assert errors.in_plane_mtre_mm == pytest.approx(5)
    assert errors.depth_mtre_mm == pytest.approx(12)
    assert errors.rotation_deg == pytest.approx(0, abs=1e-6)


def test_split_of_a_rotation() -> None:
    points = np.array([[10.0, 0, 0], [-10, 0, 0]])
    about_beam = metrics.pose_errors(turned_about_z(90), TRUTH, points, ISOCENTRE)
    assert about_beam.in_plane_rotation_deg == pytest.approx(90)
    assert about_beam.out_of_plane_rotation_deg == pytest.approx(0, abs=1e-6)
    # a quarter turn moves a point at radius 10 by 10 sqrt(2)
    assert about_beam.in_plane_mtre_mm == pytest.approx(10 * math.sqrt(2))
    assert about_beam.depth_mtre_mm == pytest.approx(0, abs=1e-6)
    about_x = metrics.pose_errors(turned_about_x(90), TRUTH, np.array([[0.0, 10, 0]]), ISOCENTRE)
    assert about_x.out_of_plane_rotation_deg == pytest.approx(90)
    assert about_x.in_plane_rotation_deg == pytest.approx(0, abs=1e-6)
    assert about_x.depth_mtre_mm == pytest.approx(10 * math.sqrt(2))
    assert about_x.in_plane_mtre_mm == pytest.approx(0, abs=1e-6)


def test_mis_scaled_figure_hides_depth_and_in_plane_rotation() -> None:
    camera = Camera.from_detector(1536, 1536, 0.194, 1020.0)
    points = np.array([[0.0, 0, 0]])
    # on the beam axis the detector point moves by the 5 mm of depth: 5 * 0.194
    depth = metrics.mis_scaled_diffpose_figure(moved((0, 0, 5)), TRUTH, camera, points)
    assert depth == pytest.approx(0.97)
    off_axis = np.array([[40.0, 0, 0], [0, -30, 10]])
    rotated = metrics.mis_scaled_diffpose_figure(turned_about_z(1), TRUTH, camera, off_axis)
    assert rotated == pytest.approx(0, abs=1e-9)
    assert metrics.mtre_mm(turned_about_z(1), TRUTH, off_axis) > 0.5


def test_unusable_input_is_named() -> None:
    with pytest.raises(InputError, match=r"\(0, 3\)"):
        metrics.mtre_mm(TRUTH, TRUTH, np.zeros((0, 3)))
    with pytest.raises(InputError, match="NaN"):
        metrics.mtre_mm(TRUTH, TRUTH, np.array([[np.nan, 0, 0]]))
    with pytest.raises(InputError, match="estimated pose"):
        metrics.mtre_mm(2 * TRUTH, TRUTH, np.zeros((1, 3)))
    with pytest.raises(InputError, match="behind"):
        metrics.mpe_mm(moved((0, 0, -900)), TRUTH, CAMERA, np.zeros((1, 3)))
    with pytest.raises(InputError, match="sdd_mm"):
        metrics.mpe_mm(TRUTH, TRUTH, Camera(CAMERA.K, 512, 512), np.zeros((1, 3)))
