from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.positioner import (
    PositionerPose,
    camera_from_positioner,
    positioner_from_camera,
)

Array = NDArray[np.float64]
LEFT, POSTERIOR, HEAD = np.eye(3)
ISOCENTRE = (12.0, -140.0, -300.0)
SID, SDD = 750.0, 1050.0


def source_and_detector(primary: float, secondary: float) -> tuple[Array, Array]:
    """Focal spot and detector centre, from the isocentre, LPS."""
    camera_from_ct = camera_from_positioner(PositionerPose(primary, secondary, SID, ISOCENTRE))
    ct_from_camera = np.linalg.inv(camera_from_ct)
    source = ct_from_camera[:3, 3]
    detector = (ct_from_camera @ [0, 0, SDD, 1])[:3]
    return source - ISOCENTRE, detector - ISOCENTRE


def test_ap_view_has_the_source_below_the_table() -> None:
    source, detector = source_and_detector(0, 0)
    np.testing.assert_allclose(source, SID * POSTERIOR, atol=1e-9)
    np.testing.assert_allclose(detector, -(SDD - SID) * POSTERIOR, atol=1e-9)


@pytest.mark.parametrize(
    ("primary", "secondary", "direction"),
    [
        (90, 0, LEFT),
        (-90, 0, -LEFT),
        (0, 90, HEAD),
        (0, -90, -HEAD),
        (180, 0, POSTERIOR),
        (45, 0, (LEFT - POSTERIOR) / np.sqrt(2)),
        (0, 45, (HEAD - POSTERIOR) / np.sqrt(2)),
        (-45, 0, (-LEFT - POSTERIOR) / np.sqrt(2)),
        # longitude and latitude: the latitude is kept whatever the longitude
        (90, 30, np.cos(np.pi / 6) * LEFT + 0.5 * HEAD),
        (30, 60, 0.5 * (0.5 * LEFT - np.cos(np.pi / 6) * POSTERIOR) + np.sin(np.pi / 3) * HEAD),
    ],
)
def test_where_the_detector_goes(primary: float, secondary: float, direction: Array) -> None:
    source, detector = source_and_detector(primary, secondary)
    np.testing.assert_allclose(detector, (SDD - SID) * direction, atol=1e-9)
    np.testing.assert_allclose(source, -SID * direction, atol=1e-9)


@pytest.mark.parametrize("primary", [-60.0, -1.0, 1.0, 35.0])
@pytest.mark.parametrize("secondary", [-30.0, 0.0, 20.0])
def test_signs(primary: float, secondary: float) -> None:
    """+ primary (LAO) moves the detector to the patient's left, + secondary (CRAN) to the head."""
    _, detector = source_and_detector(primary, secondary)
    _, more_lao = source_and_detector(primary + 0.1, secondary)
    _, more_cran = source_and_detector(primary, secondary + 0.1)
    assert (more_lao - detector) @ LEFT > 0
    assert (more_cran - detector) @ HEAD > 0


def pixel_of(point: Array, pose: PositionerPose) -> Array:
    camera = Camera.from_detector(501, 501, 0.5, SDD)
    in_camera = camera_from_positioner(pose) @ [*point, 1.0]
    return camera.project(in_camera[:3])


def test_picture_of_the_ap_view() -> None:
    """From the focal spot: head up, the patient's left on the viewer's left."""
    pose = PositionerPose(0, 0, SID, ISOCENTRE)
    centre = np.array(ISOCENTRE)
    np.testing.assert_allclose(pixel_of(centre, pose), [250, 250], atol=1e-9)
    head, left = pixel_of(centre + 20 * HEAD, pose), pixel_of(centre + 20 * LEFT, pose)
    shift = 20 * SDD / SID / 0.5  # magnified
    np.testing.assert_allclose(head, [250, 250 - shift], atol=1e-9)
    np.testing.assert_allclose(left, [250 - shift, 250], atol=1e-9)


def test_displayed_dicom_picture_is_the_mirror_image() -> None:
    """A displayed AP picture (patient's left on the right), flipped with its K, fits the pose."""
    displayed_camera = Camera.from_detector(501, 401, 0.5, SDD, cx=260.0, cy=190.0)
    displayed = np.zeros((401, 501))
    shift = 30 * SDD / SID / 0.5  # a ball 30 mm to the left of the isocentre
    displayed[190, round(260 + shift)] = 1.0
    picture, camera = displayed[:, ::-1], displayed_camera.flipped_horizontally()
    pose = PositionerPose(0, 0, SID, ISOCENTRE)
    ball = camera_from_positioner(pose) @ [*(np.array(ISOCENTRE) + 30 * LEFT), 1.0]
    u, v = camera.project(ball[:3])
    assert picture[round(v), round(u)] == 1.0


def test_rows_stay_aligned_with_the_long_axis() -> None:
    """Head up and the beam tipped: the projected long axis stays vertical for every angle pair."""
    centre = np.array(ISOCENTRE)
    for primary in (-90, -40, 0, 25, 90):
        for secondary in (-40, 0, 30):
            pose = PositionerPose(primary, secondary, SID, ISOCENTRE)
            u, v = pixel_of(centre + 20 * HEAD, pose)
            assert u == pytest.approx(250.0, abs=1e-9)
            assert v < 250


def test_roll_turns_the_picture_clockwise() -> None:
    pose = PositionerPose(0, 0, SID, ISOCENTRE, roll_deg=90.0)
    u, v = pixel_of(np.array(ISOCENTRE) + 20 * HEAD, pose)
    assert v == pytest.approx(250.0, abs=1e-9)
    assert u > 300  # what was at the top is at the right


def test_round_trip_of_angles() -> None:
    generator = np.random.default_rng(4)
    for _ in range(50):
        pose = PositionerPose(
            primary_deg=generator.uniform(-180, 180),
            secondary_deg=generator.uniform(-89, 89),
            source_isocentre_mm=generator.uniform(500, 900),
            isocentre_lps_mm=tuple(generator.normal(0, 200, 3)),
            roll_deg=generator.uniform(-180, 180),
        )
        again = positioner_from_camera(camera_from_positioner(pose), pose.source_isocentre_mm)
        assert again.primary_deg == pytest.approx(pose.primary_deg, abs=1e-9)
        assert again.secondary_deg == pytest.approx(pose.secondary_deg, abs=1e-9)
        assert again.roll_deg == pytest.approx(pose.roll_deg, abs=1e-9)
        np.testing.assert_allclose(again.isocentre_lps_mm, pose.isocentre_lps_mm, atol=1e-9)


def test_round_trip_of_any_pose() -> None:
    generator = np.random.default_rng(4)
    for rotation in Rotation.random(50, random_state=1):
        camera_from_ct = np.eye(4)
        camera_from_ct[:3, :3] = rotation.as_matrix()
        camera_from_ct[:3, 3] = generator.normal(0, 300, 3)
        pose = positioner_from_camera(camera_from_ct, 700.0)
        np.testing.assert_allclose(camera_from_positioner(pose), camera_from_ct, atol=1e-9)
    # a tensor will do as well
    positioner_from_camera(torch.eye(4), 700.0)


@pytest.mark.parametrize("secondary", [90.0, -90.0])
@pytest.mark.parametrize("primary", [-120.0, 0.0, 30.0])
def test_looking_along_the_body(primary: float, secondary: float) -> None:
    pose = PositionerPose(primary, secondary, SID, ISOCENTRE, roll_deg=20.0)
    matrix = camera_from_positioner(pose)
    again = positioner_from_camera(matrix, SID)
    assert again.roll_deg == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(camera_from_positioner(again), matrix, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((200, 0, SID), "primary_deg is 200; expected degrees, -180 to 180"),
        ((0, -91, SID), "secondary_deg is -91"),
        ((float("nan"), 0, SID), "primary_deg.*finite"),
        ((0, 0, 0), "source_isocentre_mm is 0"),
        ((0, 0, SID, (0, 0)), "isocentre_lps_mm"),
        (("left", 0, SID), "primary_deg: 'left' is not numeric"),
    ],
)
def test_bad_angles(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PositionerPose(*arguments)  # type: ignore[arg-type]


def test_bad_pose() -> None:
    with pytest.raises(InputError, match=r"start: .*mirrored"):
        positioner_from_camera(np.diag([-1.0, 1, 1, 1]), SID, "start")
