"""Psi: a small 3-D network whose output is added to the CT before it is rendered.

What it learns reaches it through the projector, which is linear in the volume. The last layer
starts at zero: training begins with the CT itself. (A rotation-equivariant network would cost
several times as much; every patient lies in scanner axes, so there is no rotation to be
equivariant to within one training.)
"""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from xray_registration.rendering import AttenuationVolume

_MU_WATER = 0.02  # per mm: brings voxels to the order of 1


class VolumeResidual(nn.Module):
    """Three convolutions of ``width`` channels."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, width, 3, 1, 1), nn.GELU(),
            nn.Conv3d(width, width, 3, 1, 1), nn.GELU(),
        )  # fmt: skip
        self.last = nn.Conv3d(width, 1, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, mu_per_mm: Tensor) -> Tensor:
        """Mu (D, H, W) with the residual added; air stays air, nothing becomes negative."""
        x = mu_per_mm[None, None] / _MU_WATER
        change = self.last(self.layers(x))[0, 0] * _MU_WATER
        matter = (mu_per_mm > 0.05 * _MU_WATER).to(mu_per_mm.dtype)
        return F.relu(mu_per_mm + change * matter)

    def applied(self, volume: AttenuationVolume) -> AttenuationVolume:
        """The volume that is rendered; it requires a gradient while the network trains."""
        return replace(volume, mu_per_mm=self(volume.mu_per_mm))
