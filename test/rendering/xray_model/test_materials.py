from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering.xray_model.mass_attenuation import mass_attenuation_cm2_per_g
from xray_registration.rendering.xray_model.materials import (
    MaterialConfig,
    decompose_hu,
    material_densities,
)

CONFIG = MaterialConfig()


def test_known_tissues() -> None:
    water, bone = decompose_hu(np.array([-1000, -3000, 0, -100, 1600, 3000], np.int16), CONFIG).T
    np.testing.assert_allclose(water[:4], [0.0, 0.0, 1.0, 0.9], atol=1e-6)
    np.testing.assert_allclose(bone[:4], 0.0)
    assert bone[4] == pytest.approx(1.92, rel=0.01)  # cortical bone
    assert water[4] < 0.02
    assert water[5] == pytest.approx(0.0, abs=1e-6)


def test_the_mixture_attenuates_as_the_ct_says() -> None:
    hu = np.arange(-960, 3500, 7).astype(np.float32)
    densities = decompose_hu(hu, CONFIG)
    energy = CONFIG.ct_effective_energy_kev
    mu = [mass_attenuation_cm2_per_g(name, energy) for name in ("water", "cortical_bone")]
    np.testing.assert_allclose(densities @ np.array(mu), mu[0] * (1.0 + hu / 1000.0), rtol=1e-5)


def test_the_split_is_smooth_and_monotone() -> None:
    hu = np.arange(-900, 1500, 1).astype(np.float32)
    bone = decompose_hu(hu, CONFIG)[:, 1].astype(np.float64)
    slope = np.diff(bone)
    assert (slope >= -1e-6).all()
    assert np.abs(np.diff(slope)).max() < 0.03 * slope.max()


def test_integer_table_and_formula_agree() -> None:
    hu = np.random.default_rng(1).integers(-2048, 3072, (5, 6, 7)).astype(np.int16)
    np.testing.assert_array_equal(
        decompose_hu(hu, CONFIG), decompose_hu(hu.astype(np.float32), CONFIG)
    )


def test_a_ct_of_air_is_refused(make_ct: Callable[..., CTVolume]) -> None:
    with pytest.raises(InputError, match="every voxel is air"):
        material_densities(make_ct(np.full((4, 4, 4), -1000), (1, 1, 1)), CONFIG)


def test_bad_settings_name_the_field() -> None:
    with pytest.raises(InputError, match="bone_from_hu"):
        MaterialConfig(bone_from_hu=-5.0)
