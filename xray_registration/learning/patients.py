"""The patient of the CT as he may lie on the table: moved soft tissue, other contrast, other beam.

Made at the training's own coarse resolution and without labels, so that any CT will do. (The X-ray
model of the evaluation has its own generators; none of them is used here.)
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.imaging.attenuation import mu_from_hu
from xray_registration.imaging.patient import patient_mask
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering import AttenuationVolume

_BONE_HU = 350.0  # cortical bone; contrast-enhanced blood rarely reaches it
_ENHANCED_HU = (110.0, 450.0)
_BONE_REACH_MM = 7.0
# a face that shows so much of what a slice some voxels farther in shows is one where the CT was cut
_BODY_HU, _CUT_SHARE, _INNER_VOXELS = -500.0, 0.7, 5


@dataclass(frozen=True)
class VariantConfig:
    """How many patients, and how they differ. The first one is always as in the CT.

    Attributes:
        count: of patients.
        motion_mm: largest displacement; it grows from 0 at the isocentre to ``free_mm`` from it.
        wavelength_mm: distance of the control points of the motion.
        free_mm: see there.
        energy_kev: lowest and highest energy of the attenuation curve.
        continued_mm: so far every second patient goes on beyond the faces where the CT ends within
            him, as its last slice is: a bone that was cut out of its CT has no end there in the
            pictures.
    """

    count: int = 12
    motion_mm: float = 9.0
    wavelength_mm: float = 70.0
    free_mm: float = 70.0
    energy_kev: tuple[float, float] = (50.0, 75.0)
    continued_mm: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "energy_kev", tuple(self.energy_kev))
        if self.count < 1:
            raise InputError(f"count is {self.count}; expected one patient or more.")
        for field in fields(self):
            value = np.asarray(getattr(self, field.name), dtype=np.float64)
            may_be_none = field.name in ("motion_mm", "continued_mm")
            is_ok = (value >= 0).all() if may_be_none else (value > 0).all()
            if not (np.isfinite(value).all() and is_ok):
                raise InputError(f"{field.name} is {value}; expected positive numbers.")


def coarse_density(
    ct: CTVolume, spacing_mm: float, isolate_patient: bool = True
) -> AttenuationVolume:
    """HU + 1000 on a coarse grid (in place of mu), cropped to the body; air is 0.

    Raises:
        InputError: nothing attenuates.
    """
    mask = patient_mask(ct) if isolate_patient else None
    hu = np.maximum(ct.hu.astype(np.float32), -1000.0)
    if mask is not None:
        hu[~mask] = -1000.0
    # the means are taken of HU: mu follows from them for every energy
    density = AttenuationVolume(torch.from_numpy(hu + 1000.0), ct.lps_from_index)
    density = density.cropped_to_matter(50.0)
    return density.coarsened(density.factors_for(spacing_mm))


class Patients:
    """Volumes of all variants on one coarse grid."""

    def __init__(
        self,
        ct: CTVolume,
        isocentre_lps_mm: NDArray[np.float64],
        config: VariantConfig,
        spacing_mm: float,
        seed: int,
        isolate_patient: bool = True,
    ) -> None:
        """Coarsen the CT and vary it (under a second a variant).

        Raises:
            InputError: nothing attenuates.
        """
        density = coarse_density(ct, spacing_mm, isolate_patient)
        self._hu = density.mu_per_mm - 1000.0
        self._grid = density.lps_from_index
        self._isocentre = np.asarray(isocentre_lps_mm, dtype=np.float64)
        self.volumes = [
            self._variant(np.random.default_rng([seed, n]), config, n > 0)
            for n in range(config.count)
        ]
        if config.continued_mm > 0:
            ends = _cut_ends(self._hu)
            self.volumes[1::2] = [
                _continued(volume, ends, config.continued_mm) for volume in self.volumes[1::2]
            ]

    def _variant(
        self, random: np.random.Generator, config: VariantConfig, changed: bool
    ) -> AttenuationVolume:
        hu, energy = self._hu, float(np.mean(config.energy_kev))
        if changed:
            energy = random.uniform(*config.energy_kev)
            hu = _contrast(hu, self._spacing_kji, random)
            hu = self._moved(hu, random, config)
        mu = torch.from_numpy(mu_from_hu(hu.numpy(), energy))
        return AttenuationVolume(mu.contiguous(), self._grid)

    @property
    def _spacing_kji(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(self._grid[:3, :3], axis=0))[::-1]

    def _moved(self, hu: Tensor, random: np.random.Generator, config: VariantConfig) -> Tensor:
        """Pulled from x + u(x); u smooth, growing with the distance from the isocentre."""
        shape = torch.tensor(hu.shape)
        extent_mm = shape.numpy() * self._spacing_kji
        nodes = [max(3, int(np.ceil(e / config.wavelength_mm)) + 1) for e in extent_mm]
        coarse = torch.from_numpy(random.uniform(-1, 1, (1, 3, *nodes)).astype(np.float32))
        field = F.interpolate(coarse, size=tuple(hu.shape), mode="trilinear", align_corners=True)
        axes = [torch.arange(n, dtype=torch.float64) for n in hu.shape]
        k, j, i = torch.meshgrid(*axes, indexing="ij")
        index = torch.stack((i, j, k, torch.ones_like(i)), -1)
        offset = index @ torch.from_numpy(self._grid[:3].T.copy()) - torch.from_numpy(
            self._isocentre
        )
        distance = offset.norm(dim=-1).to(torch.float32)
        ramp = (distance / config.free_mm).clamp(0, 1)
        ramp = ramp * ramp * (3 - 2 * ramp) * (config.motion_mm * random.uniform(0.3, 1.0))
        # displacement in mm along k, j, i to sampler units (x = i first)
        per_mm = torch.tensor([2.0 / (n - 1) / s for n, s in zip(hu.shape, self._spacing_kji)])
        units = field[0] * ramp * per_mm[:, None, None, None].to(torch.float32)
        lines = [torch.linspace(-1, 1, n) for n in hu.shape]
        base = torch.stack(torch.meshgrid(*lines, indexing="ij"), 0)
        grid = (base + units).flip(0).movedim(0, -1)[None]
        density = (hu + 1000.0)[None, None]
        return F.grid_sample(density, grid, align_corners=True)[0, 0] - 1000.0


def _cut_ends(hu: Tensor) -> list[list[bool]]:
    """For each axis k, j, i whether the body was cut at the first and at the last slice."""
    body, ends = hu > _BODY_HU, []
    for axis in range(3):
        areas = body.sum([other for other in range(3) if other != axis]).tolist()
        inner = min(_INNER_VOXELS, len(areas) - 1)
        # a body that ends by itself is narrower at its end
        pairs = (areas[0], areas[inner]), (areas[-1], areas[-1 - inner])
        ends.append([outermost > _CUT_SHARE * within > 0 for outermost, within in pairs])
    return ends


def _continued(
    volume: AttenuationVolume, ends: list[list[bool]], length_mm: float
) -> AttenuationVolume:
    """With the outermost slices repeated where the body was cut; ``ends`` of `_cut_ends`."""
    (k0, k1), (j0, j1), (i0, i1) = (
        [round(length_mm / spacing) if is_cut else 0 for is_cut in both]
        for spacing, both in zip(volume.spacing_mm[::-1], ends, strict=True)
    )
    mu = F.pad(volume.mu_per_mm[None, None], (i0, i1, j0, j1, k0, k1), mode="replicate")[0, 0]
    grid = volume.lps_from_index.copy()
    grid[:3, 3] -= grid[:3, :3] @ [i0, j0, k0]
    return AttenuationVolume(mu.contiguous(), grid)


def _contrast(hu: Tensor, spacing_kji: NDArray[np.float64], random: np.random.Generator) -> Tensor:
    """Enhanced soft tissue away from bone gets another enhancement: none to twice as much."""
    from scipy import ndimage

    values = hu.numpy()
    bone = values > _BONE_HU
    size = [2 * round(_BONE_REACH_MM / s) + 1 for s in spacing_kji]
    near_bone = ndimage.maximum_filter(bone, size=size)
    low, high = _ENHANCED_HU
    enhanced = (values > low) & (values < high) & ~near_bone
    rest = 45.0 + random.uniform(0.0, 2.0) * (values - 45.0)
    return torch.from_numpy(np.where(enhanced, rest, values).astype(np.float32))
