"""Drawing: outlines lie where the pose puts the anatomy; names are the CT's; colours mean."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.evaluation.bone_edges import BoneRenderer, bone_edge_lines
from xray_registration.evaluation.overlay import (
    ACCEPTED,
    EDGES,
    REJECTED,
    START,
    Structures,
    draw,
    grey_rgb,
    image_file_bytes,
    outlines,
    paint,
)
from xray_registration.geometry import Camera
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.imaging.volume import CTVolume

pytest.importorskip("cv2")

CAMERA = Camera.from_detector(200, 160, 1.0, 1000.0)
RADIUS_MM = 15.0


def _pose(x: float = 0.0, y: float = 0.0, z: float = 700.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = (x, y, z)
    return pose


def _radiograph(height: int = 160, width: int = 200) -> Radiograph:
    ramp = np.linspace(0.5, 4.0, width)[None] + np.linspace(0, 0.5, height)[:, None]
    return make_radiograph(ramp, "attenuation", auto_mask=False)


def _ball() -> tuple[CTVolume, LabelMap]:
    """A ball of bone of radius 15 mm about the origin, and a small one above it."""
    k, j, i = np.mgrid[:61, :61, :61] - 30
    hu = np.full((61, 61, 61), -1000, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    ball = k**2 + j**2 + i**2 <= RADIUS_MM**2
    above = k**2 + (j + 24) ** 2 + i**2 <= 4**2
    hu[ball | above] = 1000
    labels[ball], labels[above] = 35, 36
    affine = np.eye(4)
    affine[:3, 3] = -30
    return CTVolume(hu, affine), LabelMap(labels, affine, {35: "vertebrae_T9", 36: "vertebrae_T8"})


def _is(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 60) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(-1) <= tolerance


def test_outline_of_a_ball_is_the_circle_it_projects_to() -> None:
    _, labels = _ball()
    structures = Structures(labels, ("vertebrae_T9",))
    assert structures.names == ["vertebrae_T9"]
    (seen,) = structures.projected(_pose(20.0, -10.0), CAMERA)
    centre = CAMERA.project(np.array([20.0, -10.0, 700.0]))
    np.testing.assert_allclose(seen.centre_px, centre, atol=0.3)
    assert seen.label == "T9"
    assert seen.is_named(CAMERA)
    (line,) = seen.outlines
    # the silhouette of a ball: radius f R / sqrt(z^2 - R^2)
    expected = CAMERA.fx * RADIUS_MM / np.sqrt(700.0**2 - RADIUS_MM**2)
    radii = np.linalg.norm(line - centre, axis=1)
    assert radii.mean() == pytest.approx(expected, abs=1.0)
    assert np.abs(radii - radii.mean()).max() < 1.2


def test_a_shift_of_the_pose_shifts_the_outline() -> None:
    _, labels = _ball()
    structures = Structures(labels, ("*",))
    assert structures.names == ["vertebrae_T9", "vertebrae_T8"]
    before, after = (structures.projected(_pose(x), CAMERA)[0] for x in (0.0, 14.0))
    shift = np.mean(after.outlines[0], axis=0) - np.mean(before.outlines[0], axis=0)
    np.testing.assert_allclose(shift, [CAMERA.fx * 14.0 / 700.0, 0.0], atol=0.5)


def test_nothing_behind_the_source_and_no_name_beside_the_picture() -> None:
    _, labels = _ball()
    structures = Structures(labels, ("*",))
    assert structures.projected(_pose(z=-700.0), CAMERA) == []
    aside = structures.projected(_pose(x=900.0), CAMERA)
    assert not any(s.is_named(CAMERA) or s.outlines for s in aside)
    assert outlines(np.array([[0.0, 0.0, -5.0]]), CAMERA, 1.0) == []


@pytest.mark.parametrize(("accepted", "colour"), [(True, ACCEPTED), (False, REJECTED)])
def test_drawing_says_what_is(accepted: bool, colour: tuple[int, int, int]) -> None:
    _, labels = _ball()
    structures = Structures(labels, ("*",))
    radiograph = _radiograph()
    picture = draw(radiograph, CAMERA, _pose(), structures, accepted, "")
    assert picture.dtype == np.uint8
    assert picture.shape == (160, 200, 3)
    drawn = np.argwhere(_is(picture, colour))
    centre = np.array([CAMERA.cy, CAMERA.cx])
    assert len(drawn) > 60
    # outline and name, nothing elsewhere: the large ball has a radius of 22 px, the small one is
    # 34 px above it
    assert (np.linalg.norm(drawn - centre, axis=1) < 45).all()
    # the radiograph itself is left as it was
    plain = draw(radiograph, CAMERA, None, structures, accepted, "")
    np.testing.assert_array_equal(plain, grey_rgb(radiograph))
    captioned = draw(radiograph, CAMERA, None, None, accepted, "refused")
    assert (captioned != plain).any(-1)[:40].sum() > 50
    assert not (captioned != plain)[40:].any()
    started = draw(radiograph, CAMERA, _pose(), structures, accepted, "", colour=START)
    assert _is(started, START).sum() > 60


def test_edges_are_blue_under_outlines_and_coloured_alone() -> None:
    _, labels = _ball()
    edges = np.zeros((160, 200), np.float32)
    edges[100, 20:180] = 1.0
    alone = draw(_radiograph(), CAMERA, None, None, True, "", edges=edges)
    both = draw(_radiograph(), CAMERA, None, Structures(labels, ("*",)), True, "", edges=edges)
    assert _is(alone[100, 20:180], ACCEPTED).mean() > 0.9
    assert _is(both[100, 20:180], EDGES).mean() > 0.9
    np.testing.assert_array_equal(alone[:99], grey_rgb(_radiograph())[:99])
    # half opacity is half a colour
    half = paint(np.zeros((1, 1, 3), np.uint8), np.full((1, 1), 0.5, np.float32), (200, 100, 0))
    assert half[0, 0].tolist() == [85, 42, 0]


def test_grey_picture_is_bone_bright_and_darkens_what_is_masked() -> None:
    values = np.tile(np.linspace(0, 1, 64), (64, 1))
    mask = np.ones((64, 64), bool)
    mask[:, :10] = False
    values[20:44, 25:35] += 1.0
    values[0, 0] = 1e9  # masked pixels must not decide the window
    picture = grey_rgb(make_radiograph(values, "attenuation", mask=mask, auto_mask=False))
    assert picture.shape == (64, 64, 3)
    assert (picture[..., 0] == picture[..., 2]).all()
    assert picture[32, 30, 0] > picture[32, 22, 0] + 60
    assert picture[10:, 50:, 0].max() > 60


def test_bone_edges_surround_the_bone() -> None:
    ct, labels = _ball()
    bone = BoneRenderer(ct)
    image = bone.image(_pose(), CAMERA)
    assert image.shape == (160, 200)
    assert image[80, 100] > 0.5
    edges = bone.edges(_pose(), CAMERA)
    assert edges.shape == (160, 200)
    rows, columns = np.nonzero(edges > 0.5)
    radii = np.hypot(columns - CAMERA.cx, rows - CAMERA.cy)
    expected = CAMERA.fx * RADIUS_MM / 700.0
    large = radii[rows > CAMERA.cy]  # the lower half has the large ball alone
    assert len(large) > 30
    assert np.abs(large - expected).max() < 3.0
    # only the structure asked for
    small = BoneRenderer(ct, mask=labels.mask_of("vertebrae_T8")).image(_pose(), CAMERA)
    assert small[80, 100] == 0.0
    assert small.max() > 0.1
    x0, _, width, height = bone.box_px(_pose(), CAMERA, margin=0.0) or (0, 0, 0, 0)
    assert x0 <= CAMERA.cx - expected + 1
    assert x0 + width >= CAMERA.cx + expected - 1
    assert height > width
    assert bone.box_px(_pose(x=2000.0), CAMERA) is None
    assert not bone.edges(_pose(x=2000.0), CAMERA).any()


def test_no_bone_no_edges() -> None:
    assert not bone_edge_lines(np.zeros((20, 20), np.float32)).any()
    assert not bone_edge_lines(np.full((20, 20), 3.0, np.float32)).any()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_files_hold_the_pixels(suffix: str, dtype: type) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = np.arange(12, dtype=dtype).reshape(3, 4) * 20
    content = np.frombuffer(image_file_bytes(picture, suffix), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(content, cv2.IMREAD_UNCHANGED), picture)
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    content = np.frombuffer(image_file_bytes(red, suffix), np.uint8)
    assert cv2.imdecode(content, cv2.IMREAD_COLOR)[0, 0].tolist() == [0, 0, 255]
