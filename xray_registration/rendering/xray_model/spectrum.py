"""The beam that leaves the tube and what the detector makes of each photon.

Tube: thick-target bremsstrahlung of tungsten after Kramers (Phil. Mag. 46:836, 1923), photon number
per keV ~ (E0 - E) / E, plus the K lines of tungsten above its 69.5 keV edge, behind aluminium and
copper filters. Detector: a caesium iodide layer that gives light in proportion to the absorbed
energy (energy integrating), as in flat panels and image intensifiers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.rendering.xray_model.checks import require_range
from xray_registration.rendering.xray_model.mass_attenuation import (
    MAX_ENERGY_KEV,
    MIN_ENERGY_KEV,
    linear_attenuation_per_mm,
    mass_attenuation_cm2_per_g,
)

_TUNGSTEN_K_EDGE_KEV: Final = 69.525
# Kramers' law knows no absorption in the anode itself. Taken as aluminium: with 1.2 mm, beams of
# 60, 80, 100 and 120 kV behind 2.5 mm aluminium have half-value layers of 2.3, 2.9, 3.6 and 4.3 mm,
# the values that IEC 60601-1-3:2008 sets for such tubes (2.2, 2.9, 3.6, 4.3).
_ANODE_ALUMINIUM_MM: Final = 1.2
# K-alpha2, K-alpha1, K-beta: energy (keV) and share of the K photons (Thompson et al., X-ray Data
# Booklet, LBNL 2009: relative intensities 58 : 100 : 34, K-beta lines taken together).
_TUNGSTEN_K_LINES: Final = ((57.98, 0.30), (59.32, 0.52), (67.5, 0.18))


@dataclass(frozen=True)
class BeamConfig:
    """Tube and scintillator settings.

    Attributes:
        tube_voltage_kv: peak voltage, 40-150 kV.
        filter_aluminium_mm: total (inherent and added) aluminium filtration.
        filter_copper_mm: added copper filtration (mobile C-arms: often 0.1 mm).
        energy_bin_kev: width of the energy bins.
        scintillator_cesium_iodide_mg_per_cm2: thickness of the detector's CsI layer.

    Raises:
        InputError: a value outside its range.
    """

    tube_voltage_kv: float = 80.0
    filter_aluminium_mm: float = 3.0
    filter_copper_mm: float = 0.1
    energy_bin_kev: float = 3.0
    scintillator_cesium_iodide_mg_per_cm2: float = 180.0

    def __post_init__(self) -> None:
        require_range("tube_voltage_kv", self.tube_voltage_kv, 40.0, MAX_ENERGY_KEV)
        require_range("filter_aluminium_mm", self.filter_aluminium_mm, 0.5, 40.0)
        require_range("filter_copper_mm", self.filter_copper_mm, 0.0, 3.0)
        require_range("energy_bin_kev", self.energy_bin_kev, 0.5, 10.0)
        require_range(
            "scintillator_cesium_iodide_mg_per_cm2",
            self.scintillator_cesium_iodide_mg_per_cm2,
            10.0,
            1000.0,
        )


@dataclass(frozen=True)
class Spectrum:
    """Energy bins of the beam at the detector when nothing is in the way.

    Attributes:
        energy_kev: (N,) centres of the bins.
        fluence: (N,) share of the photons that reach the detector, sums to 1.
        detected: (N,) share of the detected photons, sums to 1.
    """

    energy_kev: NDArray[np.float64]
    fluence: NDArray[np.float64]
    detected: NDArray[np.float64]

    @property
    def signal_weights(self) -> NDArray[np.float64]:
        """(N,) share of each bin in the unattenuated signal: detected photons times energy, sum
        1.
        """
        weights = self.detected * self.energy_kev
        return np.asarray(weights / weights.sum())

    @property
    def mean_detected_energy_kev(self) -> float:
        """Mean energy of the detected photons of the open beam."""
        return float(self.detected @ self.energy_kev)

    def effective_energy_kev(self) -> float:
        """Energy at which water attenuates as a thin water layer attenuates this beam's signal."""
        mu = mass_attenuation_cm2_per_g("water", self.energy_kev)
        grid = np.linspace(MIN_ENERGY_KEV, MAX_ENERGY_KEV, 1401)
        mu_grid = mass_attenuation_cm2_per_g("water", grid)  # falls monotonically
        return float(np.interp(-(self.signal_weights @ mu), -mu_grid, grid))

    def half_value_layer_mm_aluminium(self) -> float:
        """First half-value layer for air kerma: the usual check of a tube's beam quality."""
        mu = linear_attenuation_per_mm("aluminium", self.energy_kev)
        kerma = self.fluence * self.energy_kev * _air_energy_absorption(self.energy_kev)
        low, high = 0.0, 50.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            if kerma @ np.exp(-mu * middle) > 0.5 * kerma.sum():
                low = middle
            else:
                high = middle
        return 0.5 * (low + high)


def make_spectrum(config: BeamConfig) -> Spectrum:
    """The binned beam of ``config``.

    Raises:
        InputError: the filter leaves (almost) no photons.
    """
    peak = config.tube_voltage_kv
    count = max(4, math.ceil((peak - MIN_ENERGY_KEV) / config.energy_bin_kev))
    edges = np.asarray(np.linspace(MIN_ENERGY_KEV, peak, count + 1), dtype=np.float64)
    energy = 0.5 * (edges[:-1] + edges[1:])
    width = edges[1] - edges[0]
    photons = width * (peak - energy) / energy + _characteristic_photons(peak, edges)
    aluminium_mm = config.filter_aluminium_mm + _ANODE_ALUMINIUM_MM
    filters = aluminium_mm * linear_attenuation_per_mm("aluminium", energy)
    filters += config.filter_copper_mm * linear_attenuation_per_mm("copper", energy)
    fluence = photons * np.exp(-filters)
    if not fluence.sum() > 1e-4 * photons.sum():
        raise InputError(
            f"filter_aluminium_mm {config.filter_aluminium_mm:g} and filter_copper_mm "
            f"{config.filter_copper_mm:g} stop the whole {peak:g} kV beam; use thinner filters"
        )
    layer = 1e-3 * config.scintillator_cesium_iodide_mg_per_cm2
    absorbed = 1.0 - np.exp(-layer * mass_attenuation_cm2_per_g("cesium_iodide", energy))
    detected = fluence * absorbed
    return Spectrum(energy, fluence / fluence.sum(), detected / detected.sum())


def _characteristic_photons(peak_kv: float, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Photons of tungsten's K lines in each bin, in the units of the Kramers spectrum.

    Their number grows like (U - 1)^1.63 with the overvoltage U = E0 / E_K (Green and Cosslett,
    J. Phys. D 1:425, 1968), scaled so that they are 8 % of a 100 kV beam behind 3 mm aluminium.
    """
    photons = np.zeros(len(edges) - 1)
    overvoltage = peak_kv / _TUNGSTEN_K_EDGE_KEV
    if overvoltage <= 1.0:
        return photons
    total = 18.0 * (overvoltage - 1.0) ** 1.63
    for energy, share in _TUNGSTEN_K_LINES:
        photons[np.searchsorted(edges, energy) - 1] += total * share
    return photons


def _air_energy_absorption(energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
    """mu_en/rho of dry air in cm^2/g (NISTIR 5632), for air kerma."""
    energy = (10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)
    values = (4.742, 1.334, 0.5389, 0.1537, 0.06833, 0.04098, 0.03041, 0.02407, 0.02325, 0.02496)
    return np.asarray(np.exp(np.interp(np.log(energy_kev), np.log(energy), np.log(values))))
