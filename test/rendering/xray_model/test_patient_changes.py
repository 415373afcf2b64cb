"""Deformation and contrast: what the patient has become since the CT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering.xray_model.contrast import (
    add_contrast,
    bone_names,
    remove_contrast,
)
from xray_registration.rendering.xray_model.deformation import DeformationConfig, deform_ct

Build = Callable[..., CTVolume]


@pytest.fixture
def patient(make_ct: Build) -> tuple[CTVolume, LabelMap]:
    """Body with a spine, a rib and a vessel full of contrast; 2 x 2 x 3 mm."""
    hu = np.full((50, 80, 90), -1000)
    labels = np.zeros(hu.shape, np.uint8)
    hu[:, 10:70, 10:80] = 40
    hu[:, 50:62, 38:52], labels[:, 50:62, 38:52] = 700, 1
    hu[20:24, 12:16, 15:75], labels[20:24, 12:16, 15:75] = 600, 2
    hu[:, 36:44, 55:63], labels[:, 36:44, 55:63] = 280, 3
    ct = make_ct(hu, (2.0, 2.0, 3.0))
    names = {1: "vertebrae_T8", 2: "rib_left_8", 3: "aorta"}
    return ct, LabelMap(labels, ct.lps_from_index, names)


def gradient_ct(ct: CTVolume, axis: int) -> CTVolume:
    """HU that tell the position along LPS ``axis`` in tenths of a millimetre."""
    shape = ct.hu.shape
    k, j, i = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    position = ct.lps_of_index(np.stack((i, j, k), -1))[..., axis]
    return CTVolume((10.0 * position).astype(np.float32), ct.lps_from_index)


def test_the_spine_stays_and_the_rest_moves_up_to_the_amplitude(
    patient: tuple[CTVolume, LabelMap],
) -> None:
    ct, labels = patient
    config = DeformationConfig(amplitude_mm=6.0, wavelength_mm=60.0, blend_mm=20.0)
    inner = np.s_[5:-5, 8:-8, 8:-8]  # from further out the field may look beyond the volume
    fields = []
    for axis in range(3):
        straight = gradient_ct(ct, axis)
        bent = deform_ct(straight, labels, ["vertebrae_T8"], config, seed=5)
        fields.append((bent.hu - straight.hu)[inner] / 10.0)
        spine = labels.mask_of("vertebrae_T8")
        np.testing.assert_array_equal(bent.hu[spine], straight.hu[spine])
    length = np.sqrt(sum(field**2 for field in fields))
    assert length.max() <= 6.0 + 0.05
    assert length.max() > 3.0
    # nowhere does it fold: neighbouring voxels keep their order
    for axis, spacing in enumerate((2.0, 2.0, 3.0)):
        assert np.abs(np.diff(fields[axis], axis=2 - axis)).max() < spacing


def test_the_motion_starts_smoothly_at_the_bone(patient: tuple[CTVolume, LabelMap]) -> None:
    ct, labels = patient
    config = DeformationConfig(amplitude_mm=6.0, wavelength_mm=60.0, blend_mm=30.0)
    straight = gradient_ct(ct, 1)
    moved = np.abs(deform_ct(straight, labels, ["vertebrae_T8"], config, 5).hu - straight.hu) / 10.0
    assert moved[25, 62, 38:52].max() < 0.2  # the next voxel row behind the bone


def test_deformation_is_seeded_and_honest_about_its_source(
    patient: tuple[CTVolume, LabelMap],
) -> None:
    ct, labels = patient
    ct = replace(ct, sha256="abc")
    config = DeformationConfig()
    first = deform_ct(ct, labels, ["vertebrae_T8"], config, 5)
    again = deform_ct(ct, labels, ["vertebrae_T8"], config, 5)
    other = deform_ct(ct, labels, ["vertebrae_T8"], config, 6)
    np.testing.assert_array_equal(first.hu, again.hu)
    assert (first.hu != other.hu).any()
    assert first.hu.dtype == ct.hu.dtype
    assert first.sha256 == ""
    rib = labels.mask_of("rib_left_8")
    assert (first.hu[rib] != ct.hu[rib]).mean() > 0.05


def test_no_amplitude_no_change(patient: tuple[CTVolume, LabelMap]) -> None:
    ct, labels = patient
    same = deform_ct(ct, labels, ["vertebrae_T8"], DeformationConfig(amplitude_mm=0.0), 1)
    np.testing.assert_array_equal(same.hu, ct.hu)


def test_folding_fields_are_refused() -> None:
    with pytest.raises(InputError, match="folds"):
        DeformationConfig(amplitude_mm=20.0, blend_mm=10.0)
    with pytest.raises(InputError, match="wavelength_mm"):
        DeformationConfig(wavelength_mm=1.0)


def test_contrast_goes_and_bone_stays(patient: tuple[CTVolume, LabelMap]) -> None:
    ct, labels = patient
    plain = remove_contrast(ct, labels)
    np.testing.assert_array_equal(plain.hu[labels.mask_of("aorta")], 45)
    for bone in ("vertebrae_T8", "rib_left_8"):
        mask = labels.mask_of(bone)
        np.testing.assert_array_equal(plain.hu[mask], ct.hu[mask])
    background = labels.labels == 0
    np.testing.assert_array_equal(plain.hu[background], ct.hu[background])


def test_bone_surface_is_protected_by_the_margin(patient: tuple[CTVolume, LabelMap]) -> None:
    ct, labels = patient
    hu = ct.hu.copy()
    hu[10, 63, 45] = 300  # 2 voxels from the spine's edge at row 61
    kept = remove_contrast(replace(ct, hu=hu), labels, bone_margin_mm=5.0)
    gone = remove_contrast(replace(ct, hu=hu), labels, bone_margin_mm=2.0)
    assert kept.hu[10, 63, 45] == 300
    assert gone.hu[10, 63, 45] == 45


def test_contrast_can_be_added(patient: tuple[CTVolume, LabelMap]) -> None:
    ct, labels = patient
    plain = remove_contrast(ct, labels)
    filled = add_contrast(plain, labels, ["aorta"], enhancement_hu=300.0)
    np.testing.assert_array_equal(filled.hu[labels.mask_of("aorta")], 345)
    np.testing.assert_array_equal(filled.hu[labels.labels != 3], plain.hu[labels.labels != 3])


def test_names_that_sound_like_bone(patient: tuple[CTVolume, LabelMap]) -> None:
    assert bone_names(patient[1]) == ("vertebrae_T8", "rib_left_8")


def test_bad_labels_are_refused(patient: tuple[CTVolume, LabelMap]) -> None:
    ct, labels = patient
    cut = LabelMap(labels.labels[:-1], labels.lps_from_index, labels.names)
    shifted = labels.lps_from_index.copy()
    shifted[0, 3] += 5.0
    moved = LabelMap(labels.labels, shifted, labels.names)
    boneless = LabelMap(np.where(labels.labels == 3, 3, 0), labels.lps_from_index, {3: "aorta"})
    for wrong in (cut, moved):
        with pytest.raises(InputError, match="grid"):
            remove_contrast(ct, wrong)
        with pytest.raises(InputError, match="grid"):
            deform_ct(ct, wrong, ["vertebrae_T8"], DeformationConfig(), 0)
    with pytest.raises(InputError, match="sounds like bone"):
        remove_contrast(ct, boneless)
    with pytest.raises(InputError, match="vertebrae_T99"):
        deform_ct(ct, labels, ["vertebrae_T99"], DeformationConfig(), 0)
