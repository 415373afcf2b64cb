"""Hounsfield units to linear attenuation.

Two slopes: below a knee in soft tissue a voxel is water of some density; above it, a mixture that
ends at cortical bone. Cortical bone attenuates more strongly at low energy than water does, so the
upper slope steepens as the beam softens; at the CT's own effective energy the curve is close to
the single line that defines Hounsfield units.

Mass attenuation coefficients (total, with coherent scattering) of liquid water and of ICRU-44
cortical bone: J. H. Hubbell and S. M. Seltzer, NIST Standard Reference Database 126 (1995, updated
2004), table 4, https://physics.nist.gov/PhysRefData/XrayMassCoef/tab4.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError

_ENERGY_KEV = np.array([20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0])
_WATER_CM2_PER_G = np.array([0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505])
_BONE_CM2_PER_G = np.array([4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480])
_WATER_G_PER_CM3 = 1.000
_BONE_G_PER_CM3 = 1.920
_MM_PER_CM = 10.0

#: Mean energy of a filtered fluoroscopy beam of about 90 to 100 kVp behind a patient.
DEFAULT_ENERGY_KEV = 60.0
#: Effective energy of a diagnostic CT at 120 kVp; cortical bone then has about 1600 HU.
CT_ENERGY_KEV = 70.0
#: Muscle, organs and contrast-free blood lie below; the mixture with bone starts here.
KNEE_HU = 100.0


def mu_water_per_mm(energy_kev: ArrayLike) -> NDArray[np.float64]:
    """Linear attenuation of liquid water, mm^-1, at 20 to 150 keV (log-log interpolation)."""
    return _linear_attenuation(energy_kev, _WATER_CM2_PER_G, _WATER_G_PER_CM3)


def mu_bone_per_mm(energy_kev: ArrayLike) -> NDArray[np.float64]:
    """Linear attenuation of cortical bone (1.92 g/cm^3), mm^-1, at 20 to 150 keV."""
    return _linear_attenuation(energy_kev, _BONE_CM2_PER_G, _BONE_G_PER_CM3)


def cortical_bone_hu(ct_energy_kev: float = CT_ENERGY_KEV) -> float:
    """HU of cortical bone in a CT of the given effective energy, by the definition of HU."""
    ratio = mu_bone_per_mm(ct_energy_kev) / mu_water_per_mm(ct_energy_kev)
    return float(1000.0 * (ratio - 1.0))


def mu_from_hu(
    hu: ArrayLike,
    energy_kev: float = DEFAULT_ENERGY_KEV,
    ct_energy_kev: float = CT_ENERGY_KEV,
) -> NDArray[np.float32]:
    """HU of any shape to linear attenuation in mm^-1 (float32, same shape, never negative).

    mu = mu_water (1 + HU/1000) up to the knee, then a line to (HU, mu) of cortical bone, carried
    on beyond it (enamel, metal). Continuous and increasing; at and below -1000 HU, padding
    included, it is 0.

    Args:
        hu: Hounsfield units.
        energy_kev: effective energy of the X-ray image, 20 to 150.
        ct_energy_kev: effective energy of the CT that measured the HU.

    Raises:
        InputError: energy outside the table.
    """
    water = float(mu_water_per_mm(energy_kev))
    bone = float(mu_bone_per_mm(energy_kev))
    bone_hu = cortical_bone_hu(ct_energy_kev)
    at_knee = water * (1.0 + KNEE_HU / 1000.0)
    slope = (bone - at_knee) / (bone_hu - KNEE_HU)
    values = np.asarray(hu)
    if (
        np.issubdtype(values.dtype, np.integer)
        and values.dtype.itemsize <= 2
        and values.size > 4096
    ):
        return _through_table(values, energy_kev, ct_energy_kev)
    x = values.astype(np.float32)
    mu = np.float32(water) * (np.float32(1.0) + x / np.float32(1000.0))
    upper = np.float32(at_knee) + np.float32(slope) * (x - np.float32(KNEE_HU))
    result: NDArray[np.float32] = np.maximum(np.where(x > KNEE_HU, upper, mu), np.float32(0.0))
    return result.astype(np.float32, copy=False)


def _through_table(
    values: NDArray[Any], energy_kev: float, ct_energy_kev: float
) -> NDArray[np.float32]:
    """8- and 16-bit volumes: one look-up a voxel, several times faster than the arithmetic."""
    low, high = int(values.min()), int(values.max())
    every = np.arange(low, high + 1, dtype=np.float32)
    table = mu_from_hu(every, energy_kev, ct_energy_kev)
    return table[values.astype(np.int32) - low]


def _linear_attenuation(
    energy_kev: ArrayLike, mass_cm2_per_g: NDArray[np.float64], density_g_per_cm3: float
) -> NDArray[np.float64]:
    energy = np.asarray(energy_kev, dtype=np.float64)
    low, high = _ENERGY_KEV[0], _ENERGY_KEV[-1]
    if not np.all((energy >= low) & (energy <= high)):
        raise InputError(f"energy_kev is {energy.tolist()}; expected {low:g} to {high:g} keV.")
    mass = np.exp(np.interp(np.log(energy), np.log(_ENERGY_KEV), np.log(mass_cm2_per_g)))
    return np.asarray(mass * density_g_per_cm3 / _MM_PER_CM)
