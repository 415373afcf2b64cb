"""The volume that a projector integrates: linear attenuation on a grid with its full affine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.imaging.attenuation import DEFAULT_ENERGY_KEV, mu_from_hu
from xray_registration.imaging.patient import patient_mask
from xray_registration.imaging.volume import CTVolume


@dataclass(frozen=True, eq=False)
class AttenuationVolume:
    """Linear attenuation in mm^-1.

    Attributes:
        mu_per_mm: (D, H, W) = [k, j, i], float32 or float64, any device. May require a gradient.
        lps_from_index: (4, 4), index (i, j, k) to LPS mm; any direction, also left-handed.
    """

    mu_per_mm: Tensor
    lps_from_index: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.mu_per_mm.ndim != 3 or not self.mu_per_mm.is_floating_point():
            raise InputError(
                f"mu_per_mm is {self.mu_per_mm.dtype} of shape {tuple(self.mu_per_mm.shape)}; "
                "expected a floating (D, H, W)."
            )
        affine = np.array(self.lps_from_index, dtype=np.float64)
        if affine.shape != (4, 4) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise InputError(f"lps_from_index is {affine}; expected an invertible 4x4 affine.")
        affine.setflags(write=False)
        object.__setattr__(self, "lps_from_index", affine)

    @classmethod
    def from_ct(
        cls,
        ct: CTVolume,
        *,
        spacing_mm: float | None = None,
        energy_kev: float = DEFAULT_ENERGY_KEV,
        isolate_patient: bool = False,
        air_per_mm: float = 1e-3,
        device: torch.device | str = "cpu",
    ) -> AttenuationVolume:
        """HU to mu, averaged to about ``spacing_mm`` and cropped to what attenuates.

        Args:
            ct: the CT.
            spacing_mm: coarsen by whole-number blocks until voxels are about this large; an axis
                that is coarser already keeps its spacing. None keeps every voxel.
            energy_kev: photon energy of the attenuation curve.
            isolate_patient: leave out the CT's couch, which is not in the operating room.
            air_per_mm: what lies below this (5 % of water) at the border of the grid is cut away.
            device: where the volume lives.
        """
        mu = torch.from_numpy(mu_from_hu(ct.hu, energy_kev))
        if isolate_patient:
            mu[torch.from_numpy(~patient_mask(ct))] = 0.0
        volume = cls(mu, ct.lps_from_index).cropped_to_matter(air_per_mm)
        if spacing_mm is not None:
            volume = volume.coarsened(volume.factors_for(spacing_mm))
        return volume.to(device)

    @cached_property
    def index_from_mm(self) -> NDArray[np.float64]:
        """(3, 3), a way in LPS mm as one in voxels."""
        return np.asarray(np.linalg.inv(self.lps_from_index[:3, :3]))

    @property
    def shape_ijk(self) -> tuple[int, int, int]:
        """Voxels along i, j, k."""
        depth, height, width = self.mu_per_mm.shape
        return width, height, depth

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel edges (3,) along i, j, k in mm."""
        return np.asarray(np.linalg.norm(self.lps_from_index[:3, :3], axis=0))

    @property
    def centre_lps_mm(self) -> NDArray[np.float64]:
        """Centre of the grid (3,)."""
        middle = (np.array(self.shape_ijk) - 1) / 2
        return np.asarray(self.lps_from_index[:3, :3] @ middle + self.lps_from_index[:3, 3])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> AttenuationVolume:
        """The same volume on another device or in another precision."""
        return AttenuationVolume(
            self.mu_per_mm.to(device=device, dtype=dtype or self.mu_per_mm.dtype),
            self.lps_from_index,
        )

    def factors_for(self, spacing_mm: float) -> tuple[int, int, int]:
        """Whole-number block sizes (i, j, k) that bring voxels nearest to ``spacing_mm``."""
        if not spacing_mm > 0:
            raise InputError(f"spacing_mm is {spacing_mm}; expected a positive length in mm.")
        i, j, k = (max(1, int(np.floor(spacing_mm / s + 0.5))) for s in self.spacing_mm)
        return i, j, k

    def coarsened(self, factors_ijk: tuple[int, int, int]) -> AttenuationVolume:
        """Block means; the grid is filled up with air to whole blocks. Line integrals are kept."""
        if factors_ijk == (1, 1, 1):
            return self
        factors = np.array(factors_ijk)
        missing = (-np.array(self.shape_ijk)) % factors
        # F.pad takes the last axis first: i, then j, then k
        padding = [n for m in missing for n in (0, int(m))]
        padded = F.pad(self.mu_per_mm, padding)
        kernel = (int(factors[2]), int(factors[1]), int(factors[0]))
        mu = F.avg_pool3d(padded[None, None], kernel)[0, 0]
        step = np.diag([*factors.astype(float), 1.0])
        # the centre of a block is (factor - 1) / 2 old voxels after its first voxel
        step[:3, 3] = (factors - 1) / 2
        return AttenuationVolume(mu, self.lps_from_index @ step)

    def cropped_to_matter(self, air_per_mm: float) -> AttenuationVolume:
        """Cut to the index box of everything above ``air_per_mm``; outside it mu counts as 0."""
        matter = self.mu_per_mm.detach() > air_per_mm
        if not bool(matter.any()):
            raise InputError(
                f"the CT has nothing that attenuates more than {air_per_mm:g} per mm "
                "(water: about 0.02); is it in Hounsfield units?"
            )
        low, high = [], []
        for axis in (2, 1, 0):  # i, j, k
            other = tuple(a for a in (0, 1, 2) if a != axis)
            present = torch.nonzero(matter.amax(other)).ravel()
            low.append(int(present[0]))
            high.append(int(present[-1]) + 1)
        return self.cropped(low, high)

    def cropped(self, low_ijk: ArrayLike, high_ijk: ArrayLike) -> AttenuationVolume:
        """Voxels low <= index < high along (i, j, k)."""
        (i0, j0, k0), (i1, j1, k1) = np.asarray(low_ijk), np.asarray(high_ijk)
        shift = np.eye(4)
        shift[:3, 3] = (i0, j0, k0)
        return AttenuationVolume(
            self.mu_per_mm[k0:k1, j0:j1, i0:i1].contiguous(), self.lps_from_index @ shift
        )
