from __future__ import annotations

import math

import numpy as np
import pytest

from xray_registration.rendering.xray_model.config import (
    CollimatorConfig,
    DetectorConfig,
    DisplayConfig,
    ScatterConfig,
)
from xray_registration.rendering.xray_model.detector import (
    circle_transmission,
    collimator_transmission,
    detect,
    detector_blur_sigma_mm,
    focal_blur_sigma_mm,
    gaussian_blur,
    polychromatic_signal,
    scatter_image,
)
from xray_registration.rendering.xray_model.display import display_picture
from xray_registration.rendering.xray_model.mass_attenuation import mass_attenuation_cm2_per_g
from xray_registration.rendering.xray_model.spectrum import BeamConfig, make_spectrum

SPECTRUM = make_spectrum(BeamConfig())


def flat(value: float, size: int = 64) -> np.ndarray:
    return np.full((size, size), value, np.float32)


def test_polychromatic_signal_in_closed_form() -> None:
    rng = np.random.default_rng(0)
    water = rng.uniform(0.0, 30.0, (40, 50)).astype(np.float32)
    bone = rng.uniform(0.0, 5.0, (40, 50)).astype(np.float32)
    signal, quantum = polychromatic_signal({"water": water, "cortical_bone": bone}, SPECTRUM)
    energy = SPECTRUM.energy_kev
    thickness = np.stack((water, bone), -1).astype(float)
    mu = np.stack([mass_attenuation_cm2_per_g(n, energy) for n in ("water", "cortical_bone")])
    passed = SPECTRUM.detected * np.exp(-thickness @ mu)
    mean = SPECTRUM.detected @ energy
    np.testing.assert_allclose(signal, passed @ energy / mean, rtol=1e-4)
    np.testing.assert_allclose(quantum, passed @ energy**2 / (passed @ energy) / mean, rtol=1e-4)


def test_open_beam_is_one_and_thick_metal_is_finite() -> None:
    signal, _ = polychromatic_signal({"water": flat(0.0)}, SPECTRUM)
    np.testing.assert_allclose(signal, 1.0, rtol=1e-6)
    signal, quantum = polychromatic_signal({"steel": flat(500.0)}, SPECTRUM)
    assert np.isfinite(signal).all()
    assert np.isfinite(quantum).all()
    assert signal.max() < 1e-10


def test_the_beam_hardens_with_thickness() -> None:
    thickness = np.array([[0.5, 5.0, 20.0, 40.0]], np.float32)
    signal, quantum = polychromatic_signal({"water": thickness}, SPECTRUM)
    effective = -np.log(signal) / thickness
    assert (np.diff(effective[0]) < -1e-3).all()
    assert (np.diff(quantum[0]) > 0.0).all()
    # in a monochromatic world nothing would change
    assert effective[0, 0] / effective[0, -1] > 1.1


@pytest.mark.parametrize("transmission", [1.0, 0.02])
def test_noise_is_poisson_at_the_stated_dose(transmission: float) -> None:
    config = DetectorConfig(
        photons_per_pixel=5000.0, blur_fwhm_mm=0.0, electronic_noise_electrons=0.0, i0_dn=5000.0
    )
    quantum = flat(1.2, 400)
    image = detect(flat(transmission, 400), quantum, config, (0.3, 0.3), np.random.default_rng(1))
    photons = 5000.0 * transmission
    assert image.mean() == pytest.approx(photons, rel=0.01)
    assert image.var() == pytest.approx(1.2 * photons, rel=0.03)


def test_electronic_noise_adds_in_electrons() -> None:
    config = DetectorConfig(
        photons_per_pixel=100.0,
        blur_fwhm_mm=0.0,
        electrons_per_photon=500.0,
        electronic_noise_electrons=2000.0,
        i0_dn=100.0,
    )
    image = detect(flat(0.0, 400), flat(1.0, 400), config, (0.3, 0.3), np.random.default_rng(1))
    assert image.mean() == pytest.approx(0.0, abs=0.05)
    assert image.std() == pytest.approx(4.0, rel=0.02)


def test_detector_blur_correlates_the_noise() -> None:
    config = DetectorConfig(blur_fwhm_mm=0.9, electronic_noise_electrons=0.0)
    image = detect(flat(0.5, 300), flat(1.0, 300), config, (0.3, 0.3), np.random.default_rng(1))
    noise = image - image.mean()
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    sigma_px = detector_blur_sigma_mm(config) / 0.3
    assert neighbours == pytest.approx(math.exp(-1.0 / (4.0 * sigma_px**2)), abs=0.03)


def test_blur_has_its_width() -> None:
    config = DetectorConfig(focal_spot_mm=1.2, blur_fwhm_mm=0.7)
    # magnification 2: the spot's shadow is as wide as the spot; uniform, its sigma is width/sqrt 12
    assert focal_blur_sigma_mm(config, 1000.0, 500.0) == pytest.approx(1.2 / math.sqrt(12.0))
    assert focal_blur_sigma_mm(config, 1000.0, 1000.0) == 0.0
    sigma = (3.0, 1.5)
    point = flat(0.0, 61)
    point[30, 30] = 1.0
    spread = gaussian_blur(point, sigma).astype(float)
    offset = np.arange(61) - 30.0
    assert spread.sum() == pytest.approx(1.0, rel=1e-3)
    assert math.sqrt((spread.sum(0) * offset**2).sum()) == pytest.approx(3.0, rel=0.02)
    assert math.sqrt((spread.sum(1) * offset**2).sum()) == pytest.approx(1.5, rel=0.02)


def test_scatter_of_a_broad_object_has_the_stated_ratio() -> None:
    config = ScatterConfig(0.8, reference_attenuation=4.0, spread_sigma_mm=10.0)
    attenuation = flat(4.0, 400)
    primary = np.exp(-attenuation)
    scattered = scatter_image(primary, attenuation, config, (1.0, 1.0))
    assert scattered[200, 200] / primary[200, 200] == pytest.approx(0.8, rel=0.01)
    assert scattered[200, 0] / primary[200, 0] == pytest.approx(0.4, rel=0.1)  # half the field


def test_scatter_raises_the_signal_and_lowers_the_contrast() -> None:
    attenuation = flat(3.0, 200)
    attenuation[80:120, 80:120] = 4.5
    primary = np.exp(-attenuation)
    total = primary + scatter_image(primary, attenuation, ScatterConfig(), (1.0, 1.0))
    assert (total > primary).all()
    assert (
        np.log(total[60, 60] / total[100, 100]) < np.log(primary[60, 60] / primary[100, 100]) - 0.1
    )
    smooth = total - primary
    assert np.abs(np.diff(smooth, axis=1)).max() < 0.05 * smooth.max()
    nothing = scatter_image(primary, attenuation, ScatterConfig(0.0), (1.0, 1.0))
    assert not nothing.any()


def test_collimator_opens_a_turned_rectangle() -> None:
    config = CollimatorConfig(40.0, 20.0, centre_mm=(10.0, -5.0), rotation_deg=30.0, leak=0.01)
    size, pitch = (400, 300), (0.5, 0.5)
    opened = collimator_transmission(config, size, pitch, 1020.0, 0.6)
    x = (np.arange(400) - 199.5) * 0.5 - 10.0
    y = (np.arange(300) - 149.5)[:, None] * 0.5 + 5.0
    along = math.cos(math.radians(30.0)) * x + math.sin(math.radians(30.0)) * y
    across = -math.sin(math.radians(30.0)) * x + math.cos(math.radians(30.0)) * y
    inside = (np.abs(along) < 38.0) & (np.abs(across) < 18.0)
    outside = (np.abs(along) > 42.0) | (np.abs(across) > 22.0)
    assert opened[inside].min() > 0.98
    np.testing.assert_allclose(opened[outside], 0.01, atol=0.01)
    # half of the open beam on the edge itself
    edge = (np.abs(along - 40.0) < 0.05) & (np.abs(across) < 15.0)
    assert opened[edge].mean() == pytest.approx(0.505, abs=0.03)


def test_collimator_penumbra_follows_the_focal_spot() -> None:
    config = CollimatorConfig(40.0, 40.0, source_to_blades_mm=255.0)
    soft = collimator_transmission(config, (2000, 1), (0.1, 0.1), 1020.0, 1.0)[0]
    x = (np.arange(2000) - 999.5) * 0.1
    right = x > 0
    slope = -np.gradient(soft[right], 0.1)
    mean = (slope * x[right]).sum() / slope.sum()
    sigma = math.sqrt((slope * (x[right] - mean) ** 2).sum() / slope.sum())
    # a 1 mm spot magnified 3 times
    assert mean == pytest.approx(40.0, abs=0.05)
    assert sigma == pytest.approx(3.0 / math.sqrt(12.0), rel=0.02)


def test_circle_has_its_area() -> None:
    circle = circle_transmission(50.0, (300, 260), (0.25, 0.25))
    assert circle.sum() * 0.25**2 == pytest.approx(math.pi * 25.0**2, rel=2e-3)
    assert circle[130, 150] == 1.0
    assert circle[0, 0] == 0.0


@pytest.mark.parametrize("scale", ["log", "linear", "sqrt"])
@pytest.mark.parametrize("polarity", ["bone_dark", "bone_bright"])
def test_display_is_monotone_and_uses_its_range(scale: str, polarity: str) -> None:
    intensity = np.linspace(200.0, 50000.0, 10000, dtype=np.float32).reshape(100, 100)
    config = DisplayConfig(scales=(scale,), polarity=polarity)  # type: ignore[arg-type]
    picture, found, drawn = display_picture(
        intensity, np.ones((100, 100), bool), flat(1.0, 100), config, np.random.default_rng(2)
    )
    steps = np.diff(picture.ravel().astype(int))
    assert found == polarity
    assert drawn["scale"] == scale
    assert (steps >= 0).all() if polarity == "bone_dark" else (steps <= 0).all()
    assert picture.dtype == np.uint8
    assert (picture.min(), picture.max()) == (0, 255)


def test_display_draws_differ_by_seed_only() -> None:
    intensity = np.random.default_rng(0).uniform(100, 60000, (50, 50)).astype(np.float32)
    mask = np.ones((50, 50), bool)

    def draw(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return display_picture(intensity, mask, flat(1.0, 50), DisplayConfig(), rng)[0]

    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()
