"""Label maps: the grid check, names, centroids, masks, surface points."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.labels import (
    TOTALSEGMENTATOR_BONES,
    LabelMap,
    load_label_map,
    read_label_names,
)
from xray_registration.imaging.volume import CTVolume, load_ct


@pytest.fixture
def ct(phantom):
    return CTVolume(phantom.hu_for("oblique"), phantom.affine_for("oblique"), path="the_ct.nii")


@pytest.fixture
def labels(phantom):
    array = np.zeros(phantom.shape_ijk[::-1], np.uint8)
    array[2:5, 4:8, 3:9] = 27
    array[7:9, 10:15, 12:18] = 28
    return array


def test_round_trip_on_the_ct_grid(phantom, write_volume, ct, labels):
    found = load_label_map(write_volume("l.nii.gz", labels, phantom.affine_for("oblique")), ct)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.names == {27: "vertebrae_L5", 28: "vertebrae_L4"}
    np.testing.assert_array_equal(found.lps_from_index, ct.lps_from_index)
    with pytest.raises(ValueError, match="read-only"):
        found.labels[0, 0, 0] = 1


def test_whole_floats_are_labels(phantom, write_volume, ct, labels):
    path = write_volume("l.nrrd", labels.astype(np.float64), phantom.affine_for("oblique"))
    assert load_label_map(path, ct).labels.dtype == np.uint8


def test_other_size_is_refused(write_volume, ct):
    small = np.ones((12, 16, 19), np.uint8)
    with pytest.raises(InputError, match=r"another grid.*\(19, 16, 12\).*\(20, 16, 12\)"):
        load_label_map(write_volume("l.nii.gz", small), ct)


@pytest.mark.parametrize("axes", ["LPS", "RAS"])
def test_other_axes_are_refused_showing_both_affines(phantom, write_volume, ct, labels, axes):
    path = write_volume("l.nii.gz", labels, phantom.affine_for(axes))
    with pytest.raises(InputError, match=r"another grid.*mm apart") as caught:
        load_label_map(path, ct)
    for affine in (phantom.affine_for(axes), ct.lps_from_index):
        assert str(np.round(affine[0, 3], 1))[:4] in str(caught.value)


@pytest.mark.parametrize(("shift_mm", "fine"), [(0.05, True), (0.1, False), (-0.3, False)])
def test_shift_against_a_tenth_of_a_voxel(phantom, write_volume, ct, labels, shift_mm, fine):
    affine = phantom.affine_for("oblique")
    affine[0, 3] += shift_mm
    path = write_volume("l.nii.gz", labels, affine)
    if fine:
        load_label_map(path, ct)
    else:
        with pytest.raises(InputError, match=r"allowed 0\.080 mm"):
            load_label_map(path, ct)


def test_slightly_other_spacing_adds_up_and_is_refused(phantom, write_volume, ct, labels):
    affine = phantom.affine_for("oblique")
    affine[:3, 0] *= 1.01
    with pytest.raises(InputError, match="another grid"):
        load_label_map(write_volume("l.nii.gz", labels, affine), ct)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a * 0.5, r"voxels are not whole numbers \(e\.g\. 13\.5\)"),
        (lambda a: np.where(a == 27, np.nan, a), "not whole numbers"),
        (lambda a: -a, "run from -28 to 0"),
        (lambda a: a * 3000, "0 to 65535"),
        (lambda a: a * 0, "background"),
    ],
)
def test_values_that_are_no_labels(phantom, write_volume, ct, labels, change, message):
    values = change(labels.astype(np.float32)).astype(np.float32)
    path = write_volume("l.mha", values, phantom.affine_for("oblique"))
    with pytest.raises(InputError, match=message):
        load_label_map(path, ct)


def test_unreadable_label_map(ct, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_label_map(tmp_path / "absent.nii.gz", ct)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.json", json.dumps({"27": "radius", "28": "ulna"})),
        ("names.json", json.dumps({"radius": 27, "ulna": 28})),
        ("names.csv", "id,name\n27,radius\n28,ulna\n"),
        ("names.csv", "group,structure,Label\narm,radius,27\narm,ulna,28\n"),
    ],
)
def test_names_from_a_file(phantom, write_volume, tmp_path, ct, labels, name, text):
    (tmp_path / name).write_text(text)
    path = write_volume("l.nii.gz", labels, phantom.affine_for("oblique"))
    assert load_label_map(path, ct, names=tmp_path / name).names == {27: "radius", 28: "ulna"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.json", "[1, 2]"),
        ("names.json", "{broken"),
        ("names.json", '{"a": {}}'),
        ("names.csv", "x,y\n1,2\n"),
        ("names.csv", "id,name\nfirst,radius\n"),
    ],
)
def test_bad_names_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="cannot be read as label names"):
        read_label_names(tmp_path / name)


def test_names_given_and_missing(phantom, labels):
    found = LabelMap(labels, phantom.affine_for(), {27: "radius", 99: "absent"})
    assert found.names == {27: "radius", 28: "label_28"}
    with pytest.raises(InputError, match=r"no structure 'ulna'.*label_28, radius"):
        found.mask_of("ulna")
    with pytest.raises(InputError, match="same name 'bone'"):
        LabelMap(labels, phantom.affine_for(), {27: "bone", 28: "bone"})


def test_totalsegmentator_ids():
    """A few of the published ids, and that the spine is whole and in order."""
    facts = {25: "sacrum", 27: "vertebrae_L5", 32: "vertebrae_T12", 44: "vertebrae_C7"}
    facts |= {50: "vertebrae_C1", 75: "femur_left", 78: "hip_right", 91: "skull"}
    facts |= {92: "rib_left_1", 103: "rib_left_12", 115: "rib_right_12", 116: "sternum"}
    assert facts.items() <= TOTALSEGMENTATOR_BONES.items()
    assert len(set(TOTALSEGMENTATOR_BONES.values())) == len(TOTALSEGMENTATOR_BONES)
    spine = [TOTALSEGMENTATOR_BONES[n] for n in range(27, 51)]
    assert len(spine) == 24
    assert all(name.startswith("vertebrae_") for name in spine)


def test_centroids(phantom, labels):
    affine = phantom.affine_for("PIR")
    found = LabelMap(labels, affine, TOTALSEGMENTATOR_BONES).centroids_lps_mm()
    middle = affine[:3, :3] @ [5.5, 5.5, 3.0] + affine[:3, 3]
    np.testing.assert_allclose(found["vertebrae_L5"], middle)
    assert set(found) == {"vertebrae_L5", "vertebrae_L4"}


def test_masks_and_box(phantom, labels):
    found = LabelMap(labels, phantom.affine_for(), TOTALSEGMENTATOR_BONES)
    np.testing.assert_array_equal(found.mask_of("vertebrae_L4"), labels == 28)
    both = found.mask_of(["vertebrae_L4", "vertebrae_L5"])
    np.testing.assert_array_equal(both, labels > 0)
    np.testing.assert_allclose(
        np.ptp(found.box_lps_mm("vertebrae_L5"), axis=0), np.array([5, 3, 2]) * phantom.spacing
    )


def test_surface_points(phantom, labels):
    affine = phantom.affine_for("oblique")
    found = LabelMap(labels, affine, TOTALSEGMENTATOR_BONES)
    every = found.surface_points_lps_mm("vertebrae_L5", 10_000)
    assert len(every) == 6 * 4 * 3 - 4 * 2 * 1  # the box without its inner part
    index = (every - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    whole = np.rint(index).astype(int)
    np.testing.assert_allclose(index, whole, atol=1e-9)
    assert np.all(labels[whole[:, 2], whole[:, 1], whole[:, 0]] == 27)
    few = found.surface_points_lps_mm("vertebrae_L5", 12, seed=4)
    assert few.shape == (12, 3)
    np.testing.assert_array_equal(few, found.surface_points_lps_mm("vertebrae_L5", 12, seed=4))
    assert not np.array_equal(few, found.surface_points_lps_mm("vertebrae_L5", 12, seed=5))


def test_structure_at_the_border_of_the_grid_has_a_surface(phantom):
    array = np.zeros((12, 16, 20), np.uint8)
    array[:] = 27
    found = LabelMap(array, phantom.affine_for(), TOTALSEGMENTATOR_BONES)
    assert len(found.surface_points_lps_mm("vertebrae_L5", 10**6)) == 12 * 16 * 20 - 10 * 14 * 18


def test_real_pelvis(shared_data):
    stem = shared_data / "ct" / "pelvis_totalsegmentator_3mm"
    ct = load_ct(f"{stem}.nii.gz")
    found = load_label_map(f"{stem}_labels.nii.gz", ct)
    centres = found.centroids_lps_mm()
    # LPS: x grows to the patient's left, z to the head.
    assert centres["hip_left"][0] > centres["hip_right"][0] + 100.0
    assert centres["femur_left"][0] > centres["femur_right"][0] + 100.0
    heights = [centres[f"vertebrae_L{n}"][2] for n in (5, 4, 3, 2, 1)]
    assert heights == sorted(heights)
    assert centres["sacrum"][2] < heights[0]
    assert np.median(ct.hu[found.mask_of("femur_left")]) > 100


def test_real_labels_on_another_ct_are_refused(shared_data):
    knee = load_ct(shared_data / "ct" / "knee_ibsi_sts051.nii.gz")
    with pytest.raises(InputError, match="another grid"):
        load_label_map(shared_data / "ct" / "pelvis_totalsegmentator_3mm_labels.nii.gz", knee)
