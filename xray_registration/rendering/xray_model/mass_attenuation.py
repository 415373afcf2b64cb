"""Mass attenuation coefficients of the materials that a C-arm picture is made of.

Figures: J. H. Hubbell and S. M. Seltzer, Tables of X-Ray Mass Attenuation Coefficients, NISTIR 5632
(NIST Standard Reference Database 126); tissues with the composition of ICRU Report 44. Between the
tabulated energies log(mu/rho) is linear in log(E), separately on each side of an absorption edge.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError

# Energies (keV) shared by every table without an edge between 10 and 150 keV.
_ENERGY_KEV: Final = (10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)

# mu/rho in cm^2/g at _ENERGY_KEV.
_PLAIN: Final[dict[str, tuple[float, ...]]] = {
    "water": (5.329, 1.673, 0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505),
    "cortical_bone": (28.51, 9.032, 4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480),
    "air": (5.120, 1.614, 0.7779, 0.3538, 0.2485, 0.2080, 0.1875, 0.1662, 0.1541, 0.1356),
    "carbon": (2.373, 0.8071, 0.4420, 0.2562, 0.2076, 0.1871, 0.1753, 0.1610, 0.1514, 0.1347),
    "aluminium": (26.23, 7.955, 3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378),
    "titanium": (110.7, 35.87, 15.85, 4.972, 2.214, 1.213, 0.7661, 0.4052, 0.2721, 0.1649),
    # stainless surgical steel is attenuated like the iron that it mostly is
    "steel": (170.6, 57.08, 25.68, 8.176, 3.629, 1.958, 1.205, 0.5952, 0.3717, 0.1964),
    "copper": (215.9, 74.05, 33.79, 10.92, 4.862, 2.613, 1.593, 0.7630, 0.4584, 0.2217),
}

# Materials with K edges inside the range: (energy, mu/rho) rows; an edge is the same energy twice.
_EDGED: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "iodine": (
        (10.0, 162.6), (15.0, 55.12), (20.0, 25.43), (30.0, 8.561), (33.17, 6.553),
        (33.17, 35.82), (40.0, 22.10), (50.0, 12.32), (60.0, 7.579), (80.0, 3.510),
        (100.0, 1.942), (150.0, 0.6978),
    ),
    "cesium_iodide": (
        (10.0, 171.1), (15.0, 58.15), (20.0, 26.86), (30.0, 9.045), (33.17, 6.923),
        (33.17, 21.22), (35.98, 17.19), (35.98, 30.27), (40.0, 22.97), (50.0, 12.87),
        (60.0, 7.921), (80.0, 3.677), (100.0, 2.035), (150.0, 0.7290),
    ),
}  # fmt: skip

DENSITY_G_PER_CM3: Final[dict[str, float]] = {
    "water": 1.0,
    "cortical_bone": 1.92,
    "air": 0.001205,
    "carbon": 1.7,
    "aluminium": 2.699,
    "titanium": 4.54,
    "steel": 7.9,
    "copper": 8.96,
    "iodine": 4.93,
    "cesium_iodide": 4.51,
}

MATERIALS: Final[tuple[str, ...]] = tuple(DENSITY_G_PER_CM3)
MIN_ENERGY_KEV: Final = 10.0
MAX_ENERGY_KEV: Final = 150.0


def mass_attenuation_cm2_per_g(material: str, energy_kev: ArrayLike) -> NDArray[np.float64]:
    """mu/rho of ``material`` in cm^2/g at each energy (any shape), the upper side at an exact edge.

    Raises:
        InputError: a material that is not tabulated, or an energy outside 10-150 keV.
    """
    energy = np.asarray(energy_kev, dtype=np.float64)
    if material in _PLAIN:
        table = np.column_stack((_ENERGY_KEV, _PLAIN[material]))
    elif material in _EDGED:
        table = np.array(_EDGED[material])
    else:
        raise InputError(
            f"material {material!r} is not tabulated; known: {', '.join(sorted(MATERIALS))}"
        )
    if energy.size and not (energy.min() >= MIN_ENERGY_KEV and energy.max() <= MAX_ENERGY_KEV):
        raise InputError(
            f"energy_kev {energy.min():g}..{energy.max():g} is outside the table's "
            f"{MIN_ENERGY_KEV:g}..{MAX_ENERGY_KEV:g} keV"
        )
    # Segment of each energy; "right" steps over the first row of a doubled edge energy.
    segment = np.clip(np.searchsorted(table[:, 0], energy, side="right") - 1, 0, len(table) - 2)
    log_table = np.log(table)
    e0, m0 = log_table[segment, 0], log_table[segment, 1]
    e1, m1 = log_table[segment + 1, 0], log_table[segment + 1, 1]
    # Only the last tabulated energy can end in a zero-length segment, and no table ends in an edge.
    return np.asarray(np.exp(m0 + (m1 - m0) * (np.log(energy) - e0) / (e1 - e0)))


def linear_attenuation_per_mm(material: str, energy_kev: ArrayLike) -> NDArray[np.float64]:
    """Linear attenuation in mm^-1 of ``material`` at its usual density, at each energy in keV."""
    return 0.1 * DENSITY_G_PER_CM3[material] * mass_attenuation_cm2_per_g(material, energy_kev)
