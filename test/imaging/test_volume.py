"""CTVolume: geometry, sampling, cropping, the box of the bone."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.volume import CTVolume, axis_code, ct_info, load_ct

AXES = ["LPS", "LAS", "RAS", "PIR", "oblique", "oblique_left_handed"]


@pytest.fixture
def points(phantom):
    """Points well inside every phantom, whatever its axes."""
    rng = np.random.default_rng(3)
    return np.array(phantom.centre) + rng.uniform(-5.0, 5.0, size=(50, 3))


@pytest.mark.parametrize("axes", AXES)
def test_same_hu_at_the_same_lps_point_whatever_the_axes(phantom, points, axes):
    ct = CTVolume(phantom.hu_for(axes), phantom.affine_for(axes))
    np.testing.assert_allclose(ct.sample_hu(points), phantom.hu_at(points), atol=1e-2)


def test_index_and_lps_are_inverse(phantom, points):
    ct = CTVolume(phantom.hu_for("oblique"), phantom.affine_for("oblique"))
    np.testing.assert_allclose(ct.lps_of_index(ct.index_of_lps(points)), points, atol=1e-9)
    np.testing.assert_allclose(ct.index_from_lps @ ct.lps_from_index, np.eye(4), atol=1e-12)


def test_properties(phantom):
    ct = CTVolume(phantom.hu_for("PIR"), phantom.affine_for("PIR"))
    assert ct.shape_ijk == phantom.shape_ijk
    assert ct.hu.shape == phantom.shape_ijk[::-1]
    np.testing.assert_allclose(ct.spacing_mm, phantom.spacing)
    extent = np.array(phantom.shape_ijk) * phantom.spacing
    # PIR: i runs along P (y), j along I (-z), k along R (-x).
    np.testing.assert_allclose(np.ptp(ct.bounds, axis=0), extent[[2, 0, 1]])
    np.testing.assert_allclose(ct.bounds.mean(axis=0), phantom.centre)


def test_border_voxels_are_inside_and_beyond_is_air(phantom):
    ct = CTVolume(phantom.hu_for("oblique"), phantom.affine_for("oblique"))
    last = np.array(ct.shape_ijk) - 1
    corners = ct.lps_of_index([[0, 0, 0], last])
    np.testing.assert_allclose(ct.sample_hu(corners), [ct.hu[0, 0, 0], ct.hu[-1, -1, -1]])
    assert ct.sample_hu(ct.lps_of_index([-0.6, 3, 3])) == -1000.0
    assert ct.sample_hu(ct.lps_of_index([-0.6, 3, 3]), outside_hu=-50.0) == -50.0


def test_array_and_affine_are_read_only(phantom):
    ct = CTVolume(phantom.hu_for(), phantom.affine_for())
    with pytest.raises(ValueError, match="read-only"):
        ct.hu[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        ct.lps_from_index[0, 0] = 1


def test_whole_numbers_become_int16_and_fractions_float32(phantom):
    affine = phantom.affine_for()
    assert CTVolume(np.full((12, 16, 20), -1000.0), affine).hu.dtype == np.int16
    assert CTVolume(np.full((12, 16, 20), 0.5), affine).hu.dtype == np.float32
    assert CTVolume(np.full((12, 16, 20), 40000, np.int32), affine).hu.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:3], r"shape \(3, 4\)"),
        (lambda a: a + np.diag([0, 0, 0, 1.0]), "last row"),
        (lambda a: a * np.nan, "NaN"),
        (lambda a: a + np.outer([1, 0, 0, 0], [0, 0.5, 0, 0]), "right angles"),
        (lambda a: np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ a, "metres"),
        (lambda a: np.diag([50.0, 50.0, 50.0, 1.0]) @ a, "spacing"),
    ],
)
def test_bad_affine_is_refused(phantom, change, message):
    with pytest.raises(InputError, match=message):
        CTVolume(phantom.hu_for(), change(phantom.affine_for()))


def test_bad_array_is_refused(phantom):
    with pytest.raises(InputError, match="shape"):
        CTVolume(np.zeros((4, 4)), phantom.affine_for())
    with pytest.raises(InputError, match="bool"):
        CTVolume(np.zeros((4, 4, 4), bool), phantom.affine_for())


@pytest.mark.parametrize("axes", ["LAS", "oblique"])
def test_crop_keeps_the_world(phantom, axes):
    ct = CTVolume(phantom.hu_for(axes), phantom.affine_for(axes), path="x", sha256="y")
    inside = ct.lps_of_index([[6.2, 5.1, 4.4], [9.7, 8.3, 6.6]])
    part = ct.cropped_to(box_lps_mm=[inside.min(axis=0), inside.max(axis=0)], margin_mm=1.0)
    assert part.hu.size < ct.hu.size
    assert (part.path, part.sha256) == ("x", "y")
    np.testing.assert_allclose(part.sample_hu(inside), ct.sample_hu(inside), atol=1e-3)


def test_crop_to_a_mask(phantom):
    ct = CTVolume(phantom.hu_for(), phantom.affine_for())
    mask = np.zeros(ct.hu.shape, bool)
    mask[3:6, 4:9, 2:7] = True
    part = ct.cropped_to(mask=mask)
    np.testing.assert_array_equal(part.hu, ct.hu[3:6, 4:9, 2:7])
    assert ct.cropped_to(mask=mask, margin_mm=1e3).hu.shape == ct.hu.shape


def test_crop_refuses_nonsense(phantom):
    ct = CTVolume(phantom.hu_for(), phantom.affine_for())
    with pytest.raises(InputError, match="exactly one"):
        ct.cropped_to()
    with pytest.raises(InputError, match="empty"):
        ct.cropped_to(mask=np.zeros(ct.hu.shape, bool))
    with pytest.raises(InputError, match="shape"):
        ct.cropped_to(mask=np.ones((2, 2, 2), bool))
    with pytest.raises(InputError, match="outside the CT"):
        ct.cropped_to(box_lps_mm=[[500, 500, 500], [600, 600, 600]])


def test_bone_box_ignores_specks(phantom):
    hu = np.full((40, 60, 60), -1000, np.int16)
    hu[10:30, 20:40, 15:45] = 700
    hu[2, 2, 2] = 3000  # a metal clip far away
    ct = CTVolume(hu, phantom.affine_for("oblique", (60, 60, 40)))
    expected = ct.lps_of_index([29.5, 29.5, 19.5])
    np.testing.assert_allclose(ct.bone_box_lps().mean(axis=0), expected, atol=1.5)


def test_bone_box_without_bone(phantom):
    ct = CTVolume(np.full((8, 8, 8), 30, np.int16), phantom.affine_for())
    with pytest.raises(InputError, match="no voxel reaches 200 HU"):
        ct.bone_box_lps()


@pytest.mark.parametrize("axes", ["LPS", "LAS", "RAS", "PIR"])
def test_axis_code(phantom, axes):
    assert axis_code(phantom.directions[axes]) == axes


def test_info_is_json(phantom, write_volume):
    import json

    info = ct_info(load_ct(write_volume("ct.nii.gz", affine=phantom.affine_for("RAS"))))
    assert info["index_axes"] == "RAS"
    assert len(json.loads(json.dumps(info))["sha256"]) == 64
