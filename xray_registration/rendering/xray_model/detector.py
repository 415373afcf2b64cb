"""From path integrals to detected signal: beam hardening, blur, scatter, field edges, noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xray_registration.rendering.xray_model.config import (
    CollimatorConfig,
    DetectorConfig,
    ScatterConfig,
)
from xray_registration.rendering.xray_model.mass_attenuation import mass_attenuation_cm2_per_g
from xray_registration.rendering.xray_model.spectrum import Spectrum

Image = NDArray[np.float32]

_SIGMA_PER_FWHM: Final = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
_PIXELS_PER_CHUNK: Final = 1 << 16


def polychromatic_signal(
    integrals_g_per_cm2: Mapping[str, Image], spectrum: Spectrum
) -> tuple[Image, Image]:
    """What an energy-integrating detector sees behind the given materials.

    Args:
        integrals_g_per_cm2: material name to (H, W) density integrals.
        spectrum: the open beam.

    Returns:
        transmission: (H, W) signal as a share of the open beam's, sum_E w(E) exp(-sum_m mu_m(E)
            t_m).
        quantum: (H, W) variance over mean of that signal in units of one photon of the open beam's
            mean energy: a photon of energy E counts E, so hard beams are a little noisier than
                counts.
    """
    names = [name for name, image in integrals_g_per_cm2.items() if np.any(image)]
    shape = next(iter(integrals_g_per_cm2.values())).shape
    energy = spectrum.energy_kev
    mean = spectrum.mean_detected_energy_kev
    weights = np.stack(
        (spectrum.detected * energy / mean, spectrum.detected * (energy / mean) ** 2), axis=-1
    ).astype(np.float32)
    if not names:
        share, square = weights.sum(axis=0)
        return np.full(shape, share), np.full(shape, square / share)
    rates = np.stack([mass_attenuation_cm2_per_g(name, energy) for name in names])
    minus_mu = (-rates).astype(np.float32)
    flat = [integrals_g_per_cm2[name].reshape(-1) for name in names]
    sums = np.empty((flat[0].size, 2), dtype=np.float32)
    for begin in range(0, flat[0].size, _PIXELS_PER_CHUNK):
        part = slice(begin, begin + _PIXELS_PER_CHUNK)
        exponent = np.stack([values[part] for values in flat], axis=-1) @ minus_mu
        sums[part] = np.exp(exponent, out=exponent) @ weights
    transmission = sums[:, 0].reshape(shape)
    # Behind a centimetre of steel float32 underflows; the few photons that count are scattered
    # then.
    quantum = np.divide(
        sums[:, 1], sums[:, 0], out=np.ones(len(sums), np.float32), where=sums[:, 0] > 1e-30
    )
    return transmission, quantum.reshape(shape)


def gaussian_blur(image: Image, sigma_px: tuple[float, float]) -> Image:
    """Blur by sigma in pixels along (columns, rows); nothing below a twentieth of a pixel."""
    from scipy import ndimage

    if max(sigma_px) < 0.05:
        return image
    return np.asarray(ndimage.gaussian_filter(image, sigma_px[::-1], mode="nearest", truncate=4.0))


def focal_blur_sigma_mm(detector: DetectorConfig, sdd_mm: float, object_depth_mm: float) -> float:
    """Sigma on the detector of the focal spot's shadow of an object at ``object_depth_mm``.

    The spot's width times (M - 1), M = SDD / depth, is the full width of the penumbra; the Gaussian
    has the standard deviation of a uniform spot of that width.
    """
    magnification = sdd_mm / min(max(object_depth_mm, 0.05 * sdd_mm), sdd_mm)
    return detector.focal_spot_mm * (magnification - 1.0) / math.sqrt(12.0)


def detector_blur_sigma_mm(detector: DetectorConfig) -> float:
    """Sigma of the detector's point spread."""
    return detector.blur_fwhm_mm * _SIGMA_PER_FWHM


def scatter_image(
    primary: Image, attenuation: Image, config: ScatterConfig, pitch_mm: tuple[float, float]
) -> Image:
    """(H, W) scattered signal, a share of the open beam.

    A convolution model (after Ohnesorge et al., Eur. Radiol. 9:563, 1999, forward scatter): every
    ray gives off scatter in proportion to what arrives times what was removed, primary *
    attenuation, and a broad Gaussian spreads it. Outside of the image there is no beam.
    """
    if config.scatter_to_primary_ratio == 0.0:
        return np.zeros_like(primary)
    strength = config.scatter_to_primary_ratio / config.reference_attenuation
    potential = primary * np.maximum(attenuation, 0.0)
    sigma_px = tuple(config.spread_sigma_mm / pitch for pitch in pitch_mm)
    return strength * _broad_blur(potential, (sigma_px[0], sigma_px[1]))


def _broad_blur(image: Image, sigma_px: tuple[float, float]) -> Image:
    """Gaussian blur with zeros outside, on block means: a broad kernel needs no fine grid."""
    from scipy import ndimage

    block_x, block_y = (max(1, int(sigma / 6.0)) for sigma in sigma_px)
    height, width = image.shape
    rows, columns = -(-height // block_y), -(-width // block_x)
    padded = np.zeros((rows * block_y, columns * block_x), dtype=np.float32)
    padded[:height, :width] = image
    small = padded.reshape(rows, block_y, columns, block_x).mean(axis=(1, 3))
    # room around the field, so that the interpolation to the border pixels has neighbours
    margin = 2
    small = np.pad(small, margin)
    sigmas = (sigma_px[1] / block_y, sigma_px[0] / block_x)
    small = ndimage.gaussian_filter(small, sigmas, mode="constant", truncate=4.0)
    y = (np.arange(height) + 0.5) / block_y - 0.5 + margin
    x = (np.arange(width) + 0.5) / block_x - 0.5 + margin
    grid = np.meshgrid(y, x, indexing="ij")
    return np.asarray(ndimage.map_coordinates(small, grid, order=1, output=np.float32))


def collimator_transmission(
    config: CollimatorConfig,
    size: tuple[int, int],
    pitch_mm: tuple[float, float],
    sdd_mm: float,
    focal_spot_mm: float,
) -> Image:
    """(H, W) share of the beam that the blades let pass; ``size`` is (width, height).

    The edge of a blade is the integral of the focal spot's shadow: a Gaussian step here.
    """
    from scipy.special import ndtr

    x, y = _detector_mm(size, pitch_mm)
    angle = math.radians(config.rotation_deg)
    dx, dy = x - config.centre_mm[0], y - config.centre_mm[1]
    along = math.cos(angle) * dx + math.sin(angle) * dy
    across = -math.sin(angle) * dx + math.cos(angle) * dy
    ratio = max(sdd_mm - config.source_to_blades_mm, 0.0) / config.source_to_blades_mm
    sigma = max(focal_spot_mm * ratio / math.sqrt(12.0), 1e-3)
    opened = ndtr((config.half_width_mm - np.abs(along)) / sigma)
    opened *= ndtr((config.half_height_mm - np.abs(across)) / sigma)
    return np.asarray(config.leak + (1.0 - config.leak) * opened, dtype=np.float32)


def circle_transmission(
    diameter_mm: float, size: tuple[int, int], pitch_mm: tuple[float, float]
) -> Image:
    """(H, W) 1 inside a centred circle, 0 outside, anti-aliased over one pixel."""
    x, y = _detector_mm(size, pitch_mm)
    inside = 0.5 * diameter_mm - np.hypot(x, y)
    return np.clip(0.5 + inside / max(pitch_mm), 0.0, 1.0).astype(np.float32)


def _detector_mm(
    size: tuple[int, int], pitch_mm: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Column and row position of every pixel in mm from the image's centre, (1, W) and (H, 1)."""
    width, height = size
    x = (np.arange(width, dtype=np.float64) - 0.5 * (width - 1)) * pitch_mm[0]
    y = (np.arange(height, dtype=np.float64) - 0.5 * (height - 1)) * pitch_mm[1]
    return x[None, :], y[:, None]


def detect(
    signal: Image,
    quantum: Image,
    config: DetectorConfig,
    pitch_mm: tuple[float, float],
    random: np.random.Generator,
) -> Image:
    """Expected signal (share of the open beam) to a noisy read-out in DN, not yet rounded or cut.

    Photons arrive independently in each pixel (Poisson); the scintillator's light then blurs
    signal and quantum noise together, so the noise is correlated as in real panels; read-out noise
    comes last.
    """
    photons = np.asarray(signal, dtype=np.float64) * config.photons_per_pixel
    detected = random.poisson(photons / quantum) * np.asarray(quantum, dtype=np.float64)
    sigma = detector_blur_sigma_mm(config)
    blurred = gaussian_blur(detected.astype(np.float32), (sigma / pitch_mm[0], sigma / pitch_mm[1]))
    noise = config.electronic_noise_electrons / config.electrons_per_photon
    if noise > 0.0:
        blurred = blurred + noise * random.standard_normal(blurred.shape, dtype=np.float32)
    return np.asarray(blurred * np.float32(config.i0_dn / config.photons_per_pixel))
