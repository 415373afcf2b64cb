"""From Hounsfield units to densities of water and of cortical bone, and the patient without the
couch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.patient import patient_mask
from xray_registration.imaging.volume import AIR_HU, CTVolume
from xray_registration.rendering.xray_model.checks import require_range
from xray_registration.rendering.xray_model.mass_attenuation import (
    DENSITY_G_PER_CM3,
    mass_attenuation_cm2_per_g,
)

MATERIAL_NAMES = ("water", "cortical_bone")  # in the order of every (..., 2) array


@dataclass(frozen=True)
class MaterialConfig:
    """How a CT number becomes matter.

    Attributes:
        ct_effective_energy_kev: energy at which the CT's numbers hold (about 70 keV at 120 kV).
        bone_from_hu: below it (less the smoothing) a voxel is water of some density; from it up to
            pure cortical bone (about 1600 HU) the two mix by volume.
        bone_smoothing_hu: half width of the smooth start of that mixture.
        air_below_hu: voxels below it weigh nothing (scanner noise in air, padding).
        largest_hu: higher numbers (metal in the CT and its streaks) are cut to it.
        isolate_patient: leave out what does not belong to the body: couch, gown, cushions.

    Raises:
        InputError: a value outside its range.
    """

    ct_effective_energy_kev: float = 70.0
    bone_from_hu: float = 130.0
    bone_smoothing_hu: float = 50.0
    air_below_hu: float = -970.0
    largest_hu: float = 4000.0
    isolate_patient: bool = True

    def __post_init__(self) -> None:
        require_range("ct_effective_energy_kev", self.ct_effective_energy_kev, 40.0, 140.0)
        require_range("bone_from_hu", self.bone_from_hu, 0.0, 800.0)
        require_range("bone_smoothing_hu", self.bone_smoothing_hu, 0.0, 300.0)
        require_range("air_below_hu", self.air_below_hu, -1000.0, -300.0)
        require_range("largest_hu", self.largest_hu, 1000.0, 32767.0)


def decompose_hu(hu: NDArray[np.generic], config: MaterialConfig) -> NDArray[np.float32]:
    """Densities (..., 2) in g/cm^3 of water and cortical bone in voxels of ``hu`` (...).

    Between soft tissue and cortical bone the two mix by volume. The water takes what the bone
    leaves of the voxel's attenuation, so that at ``ct_effective_energy_kev`` the mixture
    attenuates exactly as
    the CT says: mu_w d_w + mu_b d_b = mu_w (1 + HU / 1000).
    """
    if hu.dtype == np.int16:  # a table of all values is twenty times faster on a whole CT
        table = _decompose(np.arange(-32768, 32768, dtype=np.float32), config)
        return np.take(table, hu.astype(np.int32) + 32768, axis=0)
    return _decompose(hu.astype(np.float32), config)


def _decompose(hu: NDArray[np.float32], config: MaterialConfig) -> NDArray[np.float32]:
    energy = config.ct_effective_energy_kev
    ratio = float(
        mass_attenuation_cm2_per_g("cortical_bone", energy)
        / mass_attenuation_cm2_per_g("water", energy)
    )
    cortical = DENSITY_G_PER_CM3["cortical_bone"]
    hu = np.minimum(hu, np.float32(config.largest_hu))
    total = np.where(hu < config.air_below_hu, np.float32(0.0), 1.0 + hu / np.float32(1000.0))
    total = np.maximum(total, 0.0)
    pure_bone_hu = 1000.0 * (cortical * ratio - 1.0)
    rise = _smooth_ramp(hu - config.bone_from_hu, config.bone_smoothing_hu)
    bone = cortical * rise / (pure_bone_hu - config.bone_from_hu)
    bone = np.minimum(bone, total / ratio)  # from cortical bone on there is no water left
    return np.stack((total - ratio * bone, bone), axis=-1).astype(np.float32)


def _smooth_ramp(x: NDArray[np.float32], half_width: float) -> NDArray[np.float32]:
    """max(x, 0) whose corner is a parabola over -half_width..half_width."""
    if half_width == 0.0:
        return np.maximum(x, 0.0)
    inside = np.clip(x + half_width, 0.0, 2.0 * half_width)
    return np.asarray(inside**2 / (4.0 * half_width) + np.maximum(x - half_width, 0.0))


def material_densities(ct: CTVolume, config: MaterialConfig) -> NDArray[np.float32]:
    """(D, H, W, 2) densities in g/cm^3 of MATERIAL_NAMES on the CT's grid.

    Raises:
        InputError: nothing but air in the CT.
    """
    densities = decompose_hu(ct.hu, config)
    if config.isolate_patient:
        densities[~patient_mask(ct)] = 0.0
    if not densities.any():
        raise InputError(
            f"{ct.path or 'CT volume'}: every voxel is air (largest value {ct.hu.max():g}, air is "
            f"{AIR_HU:g}); expected Hounsfield units of a patient"
        )
    return densities
