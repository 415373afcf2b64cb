"""Bodies made up from a few CTs, as volumes of attenuation; see `crowd` for what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import so3_exp
from xray_registration.imaging.attenuation import KNEE_HU, mu_from_hu
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.patients import coarse_density

_BONE_HU = 300.0


@dataclass(frozen=True)
class CrowdConfig:
    """How many made-up patients, and how far they are from the CTs they are made of.

    Attributes:
        count: of patients; 0: none, a training is about the CTs themselves.
        variants: of each patient, who differ by ``motion_mm`` as of `VariantConfig`.
        box_mm: edges of the bodies along x, y, z.
        turned_deg: largest angle about each axis.
        scaled, stretched: largest factor (and its inverse) of all axes together, of each alone.
        warped_mm: largest standard deviation of a smooth displacement of ``wavelength_mm``.
        mirrored, overturned: probability of left for right, and of head for feet.
        joined: probability that a second body is laid over the first.
        bone: lowest and highest factor of what bone has more than soft tissue.
        motion_mm, free_mm, wavelength_mm, energy_kev: as of `VariantConfig`.
    """

    count: int = 0
    variants: int = 2
    box_mm: tuple[float, float, float] = (300.0, 270.0, 300.0)
    turned_deg: float = 25.0
    scaled: float = 1.35
    stretched: float = 1.2
    warped_mm: float = 12.0
    mirrored: float = 0.5
    overturned: float = 0.3
    joined: float = 0.4
    bone: tuple[float, float] = (0.7, 1.4)
    motion_mm: float = 9.0
    free_mm: float = 70.0
    wavelength_mm: float = 70.0
    energy_kev: tuple[float, float] = (50.0, 75.0)

    def __post_init__(self) -> None:
        for name in ("box_mm", "bone", "energy_kev"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, value in asdict(self).items():
            numbers = np.asarray(value, dtype=np.float64)
            if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
                raise InputError(f"{name} is {value}; expected numbers of 0 or more.")
        positive = (*self.box_mm, *self.energy_kev, self.free_mm, self.wavelength_mm, self.variants)
        if min(positive) <= 0 or min(self.scaled, self.stretched) < 1:
            raise InputError(
                f"{self}: expected box_mm, energy_kev, free_mm, wavelength_mm and variants > 0, "
                "scaled and stretched >= 1."
            )


class BodyMaker:
    """Makes a body out of the CTs: a function of a seed and of two numbers.

    Attributes:
        shape: voxels of a body, in the order of its axes.
    """

    def __init__(
        self,
        cts: Sequence[CTVolume],
        config: CrowdConfig,
        spacing_mm: float,
        axes: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        """Coarsen the CTs.

        Args:
            cts: what bodies are made of, as much as there is of each.
            config: how.
            spacing_mm: of the voxels.
            axes: of a body, in the order in which they are stored; 0, 1, 2 for x, y, z.
            device: where bodies are made.

        Raises:
            InputError: no CT, or one without bone.
        """
        if not cts:
            raise InputError("a crowd is made of one CT or more; there is none.")
        self._config, self._spacing, self._device = config, spacing_mm, device
        self._order = axes
        self.shape = tuple(max(2, round(config.box_mm[axis] / spacing_mm)) for axis in axes)
        self._sources = [_Source.of(ct, spacing_mm, device) for ct in cts]
        volumes = np.array([source.body_mm3 for source in self._sources])
        self._shares = volumes / volumes.sum()

    def made(self, seed: int, patient: int, variant: int) -> Tensor:
        """Mu of variant ``variant`` of patient ``patient``, a tensor of `shape`."""
        config = self._config
        random = np.random.default_rng([seed, patient])
        moved = np.random.default_rng([seed, patient, variant])
        places = self._places()
        if variant:
            ramp = (places.norm(dim=-1, keepdim=True) / config.free_mm).clamp(0, 1)
            ramp = ramp * ramp * (3 - 2 * ramp) * (config.motion_mm * moved.uniform(0.3, 1.0))
            places = places + ramp * self._smooth(moved.uniform(-1.0, 1.0, self._nodes()))
        mu = self._pulled(random, moved, places)
        if random.uniform() < config.joined:
            mu = mu + random.uniform(0.3, 1.0) * self._pulled(random, moved, places)
        return mu

    def _pulled(
        self, random: np.random.Generator, moved: np.random.Generator, places: Tensor
    ) -> Tensor:
        """One of the CTs, cut out about a point of its bone and changed, as mu."""
        config = self._config
        source = self._sources[int(random.choice(len(self._sources), p=self._shares))]
        linear = _turned(random.uniform(-1, 1, 3) * np.radians(config.turned_deg))
        size = random.uniform(-1, 1) * np.log(config.scaled)
        stretch = random.uniform(-1, 1, 3) * np.log(config.stretched)
        signs = np.array(
            [
                -1.0 if random.uniform() < config.mirrored else 1.0,
                1.0,
                -1.0 if random.uniform() < config.overturned else 1.0,
            ]
        )
        linear = linear @ np.diag(signs * np.exp(size + stretch))
        warp = random.normal(size=self._nodes()) * config.warped_mm * random.uniform(0.2, 1.0)
        middle = source.bone_lps_mm[int(random.integers(len(source.bone_lps_mm)))]
        bone = random.uniform(*config.bone)
        there = (places + self._smooth(warp)) @ _tensor(linear.T, self._device)
        hu = source.at(there + _tensor(middle, self._device))
        hu = torch.where(hu > KNEE_HU, KNEE_HU + bone * (hu - KNEE_HU), hu)
        return _mu(hu, moved.uniform(*config.energy_kev))

    def _places(self) -> Tensor:
        """(*shape, 3) LPS mm about the isocentre."""
        axes = [
            self._spacing * (torch.arange(n, device=self._device) - (n - 1) / 2) for n in self.shape
        ]
        at = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        return at[..., np.argsort(self._order).tolist()]

    def _nodes(self) -> tuple[int, ...]:
        length = self._config.wavelength_mm
        return (3, *(max(3, int(np.ceil(n * self._spacing / length)) + 1) for n in self.shape))

    def _smooth(self, nodes: NDArray[np.float64]) -> Tensor:
        """Displacements (*shape, 3) between nodes (3, ...)."""
        coarse = _tensor(nodes, self._device)[None]
        fine = F.interpolate(coarse, size=self.shape, mode="trilinear", align_corners=True)
        return fine[0].movedim(0, -1)


@dataclass(frozen=True, eq=False)
class _Source:
    """A CT on a coarse grid: HU + 1000 [k, j, i], its affine, its bone, the size of the body."""

    density: Tensor
    index_from_lps: NDArray[np.float64]
    bone_lps_mm: NDArray[np.float64]
    body_mm3: float

    @classmethod
    def of(cls, ct: CTVolume, spacing_mm: float, device: torch.device) -> _Source:
        volume = coarse_density(ct, spacing_mm)
        bone = torch.nonzero(volume.mu_per_mm > _BONE_HU + 1000.0).flip(1).double().numpy()
        if not len(bone):
            raise InputError(f"{ct.path}: nothing exceeds {_BONE_HU:g} HU; expected bone.")
        grid = volume.lps_from_index
        return cls(
            volume.mu_per_mm.to(device),
            np.asarray(np.linalg.inv(grid), dtype=np.float64),
            np.asarray(bone @ grid[:3, :3].T + grid[:3, 3], dtype=np.float64),
            float((volume.mu_per_mm > 500.0).sum()) * abs(float(np.linalg.det(grid[:3, :3]))),
        )

    def at(self, lps_mm: Tensor) -> Tensor:
        """HU (...) at points (..., 3); where the CT ends within the body it goes on as there."""
        matrix = _tensor(self.index_from_lps, lps_mm.device)
        index = lps_mm @ matrix[:3, :3].T + matrix[:3, 3]
        sizes = torch.tensor(self.density.shape[::-1], device=lps_mm.device)
        grid = 2.0 * index / (sizes - 1) - 1.0
        values = F.grid_sample(
            self.density[None, None], grid[None], padding_mode="border", align_corners=True
        )
        return values[0, 0] - 1000.0


def _tensor(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


def _mu(hu: Tensor, energy_kev: float) -> Tensor:
    """`mu_from_hu`, two straight lines, on the device of ``hu``."""
    air, knee, dense = mu_from_hu(np.array([-1000.0, KNEE_HU, 3000.0]), energy_kev).tolist()
    low = air + (hu + 1000.0) * ((knee - air) / (KNEE_HU + 1000.0))
    high = knee + (hu - KNEE_HU) * ((dense - knee) / (3000.0 - KNEE_HU))
    return torch.where(hu > KNEE_HU, high, low).clamp_min(0.0)


def _turned(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (3, 3) about x, then y, then z by radians (3,)."""
    x, y, z = so3_exp(torch.from_numpy(np.diag(angles)))
    turned: NDArray[np.float64] = (z @ y @ x).numpy()
    return turned
