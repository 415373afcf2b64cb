"""HU to linear attenuation: anchors, monotone, continuous, energy."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.attenuation import (
    KNEE_HU,
    cortical_bone_hu,
    mu_bone_per_mm,
    mu_from_hu,
    mu_water_per_mm,
)

ENERGIES = [20.0, 35.0, 60.0, 70.0, 100.0, 150.0]


@pytest.mark.parametrize("energy", ENERGIES)
def test_anchors(energy):
    hu = [-3000, -2048, -1024, -1000, -500, 0, cortical_bone_hu()]
    water, bone = mu_water_per_mm(energy), mu_bone_per_mm(energy)
    expected = [0, 0, 0, 0, water / 2, water, bone]
    np.testing.assert_allclose(mu_from_hu(hu, energy), expected, rtol=1e-5, atol=1e-9)


def test_nist_figures():
    """At tabulated energies: mass attenuation (cm^2/g) times density, in mm^-1."""
    np.testing.assert_allclose(mu_water_per_mm([60, 80]), [0.02059, 0.01837], rtol=1e-12)
    np.testing.assert_allclose(mu_bone_per_mm(60), 0.3148 * 1.92 / 10, rtol=1e-12)
    assert mu_water_per_mm(70) == pytest.approx(0.01937, rel=0.005)  # NIST XCOM: 0.1937 cm^2/g


def test_cortical_bone_has_the_hu_that_scanners_show():
    assert 1400 < cortical_bone_hu() < 1900


@pytest.mark.parametrize("energy", ENERGIES)
def test_monotone_and_continuous(energy):
    hu = np.arange(-1100.0, 3100.0, 0.5, dtype=np.float32)
    step = np.diff(mu_from_hu(hu, energy).astype(np.float64))
    assert step.min() >= -1e-9
    steepest = float(mu_bone_per_mm(energy)) / 500.0
    assert step.max() < steepest


def test_bone_contrast_grows_as_the_beam_softens():
    ratio = [float(mu_from_hu(1200, e) / mu_from_hu(0, e)) for e in (40, 60, 80, 100)]
    assert ratio == sorted(ratio, reverse=True)


def test_near_the_ct_energy_it_is_the_definition_of_hu():
    hu = np.linspace(-1000, 3000, 50)
    straight = mu_water_per_mm(70) * (1 + hu / 1000)
    np.testing.assert_allclose(mu_from_hu(hu, 70, 70), straight, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float32, np.float64])
def test_types_and_shapes(dtype):
    hu = np.linspace(0, 200, 12 * 20 * 30).reshape(12, 20, 30).astype(dtype)
    mu = mu_from_hu(hu)
    assert (mu.shape, mu.dtype) == (hu.shape, np.float32)
    np.testing.assert_allclose(mu, mu_from_hu(hu.astype(np.float64)), rtol=1e-6)


def test_scalar_and_knee():
    below, above = mu_from_hu(KNEE_HU - 1e-3), mu_from_hu(KNEE_HU + 1e-3)
    assert below.shape == ()
    assert above == pytest.approx(float(below), rel=1e-5)


@pytest.mark.parametrize("energy", [19.9, 151.0, np.nan, -5.0])
def test_energy_outside_the_table(energy):
    with pytest.raises(InputError, match="20 to 150 keV"):
        mu_from_hu(0, energy)
