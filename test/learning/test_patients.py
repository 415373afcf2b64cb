"""Variants of the patient: the first as in the CT, the others moved away from the isocentre."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.patients import Patients, VariantConfig
from xray_registration.rendering import AttenuationVolume


def test_the_first_is_the_ct_and_seeds_repeat(phantom: CTVolume, isocentre: np.ndarray) -> None:
    config = VariantConfig(count=3)
    patients = Patients(phantom, isocentre, config, 5.0, seed=4, isolate_patient=False)
    as_ct = AttenuationVolume.from_ct(phantom, energy_kev=62.5)
    first = patients.volumes[0]
    np.testing.assert_allclose(first.lps_from_index, as_ct.lps_from_index)
    torch.testing.assert_close(first.mu_per_mm, as_ct.mu_per_mm)
    again = Patients(phantom, isocentre, config, 5.0, seed=4, isolate_patient=False)
    for a, b in zip(patients.volumes, again.volumes, strict=True):
        assert torch.equal(a.mu_per_mm, b.mu_per_mm)
    assert not torch.equal(patients.volumes[1].mu_per_mm, patients.volumes[2].mu_per_mm)


def test_the_isocentre_stays_and_the_rest_moves(phantom: CTVolume, isocentre: np.ndarray) -> None:
    config = VariantConfig(count=2, motion_mm=15.0, free_mm=60.0, energy_kev=(60.0, 60.0))
    patients = Patients(phantom, isocentre, config, 5.0, seed=1, isolate_patient=False)
    change = (patients.volumes[1].mu_per_mm - patients.volumes[0].mu_per_mm).abs()
    index = np.linalg.inv(patients.volumes[0].lps_from_index) @ np.r_[isocentre, 1.0]
    i, j, k = np.round(index[:3]).astype(int)
    near = change[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2]
    assert float(near.max()) < 1e-3 < float(change.max())


def test_bad_values() -> None:
    with pytest.raises(InputError, match="count"):
        VariantConfig(count=0)
    with pytest.raises(InputError, match="wavelength_mm"):
        VariantConfig(wavelength_mm=-3.0)
    with pytest.raises(InputError, match="continued_mm"):
        VariantConfig(continued_mm=-1.0)


def test_a_bone_that_was_cut_out_goes_on_in_every_second_patient() -> None:
    hu = np.full((40, 30, 30), -1000, np.int16)
    k, j, i = np.indices(hu.shape)
    # a shaft that the CT cuts at its first slice and that ends by itself, in a tip, before the last
    radius = np.where(k < 28, 8.0, np.sqrt(np.maximum(64.0 - (k - 28.0) ** 2, 0.0)))
    hu[(i - 15) ** 2 + (j - 15) ** 2 < radius**2] = 900
    ct = CTVolume(hu, np.diag([1.0, 1.0, 1.0, 1.0]), "shaft.nrrd", "0" * 64)
    config = VariantConfig(count=2, motion_mm=0.0, continued_mm=20.0)
    plain, longer = Patients(
        ct, np.array([15.0, 15.0, 20.0]), config, 1.0, seed=2, isolate_patient=False
    ).volumes
    (depth, *across), (more, *as_broad) = plain.mu_per_mm.shape, longer.mu_per_mm.shape
    assert (more, as_broad) == (depth + 20, across)
    np.testing.assert_allclose(
        longer.lps_from_index[:3, 3] - plain.lps_from_index[:3, 3], [0, 0, -20]
    )
    assert torch.equal(longer.mu_per_mm[0], longer.mu_per_mm[20])
