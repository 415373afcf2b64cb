"""The learned similarity: features of both pictures on a sphere, compared place by place.

Same interface as `GradientResidual`, so it can be the residual of a registration level. The moving
picture's features depend on the pose through the picture; their derivative is taken in forward
mode through the encoder, six columns at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xray_registration.similarity.encoder import Encoder, EncoderConfig
from xray_registration.similarity.filters import eroded
from xray_registration.similarity.manifold import (
    Geometry,
    check_geometry,
    epsilon,
    exponential,
    likeness,
    residual,
)


@dataclass(frozen=True, eq=False)
class SphericalTarget:
    """The fixed picture, prepared once per level.

    Attributes:
        points: (C + 1, H, W) its features on the manifold.
        weight: (H, W) in 0..1; 0 at masked pixels and close to them.
        usable: (H, W) in 0..1.
    """

    points: Tensor
    weight: Tensor
    usable: Tensor


class SphericalResidual(nn.Module):
    """Two encoders (moving, fixed) and a manifold.

    ``smoothing_px``, ``window_px`` and ``reach_px`` tell a registration level how far a pixel's
    features see, as `GradientResidual`'s do.
    """

    smoothing_px = 2.0
    window_px = 4.0
    reach_px = 2

    def __init__(self, config: EncoderConfig | None = None, geometry: Geometry = "sphere") -> None:
        super().__init__()
        check_geometry(geometry)
        self.config = config or EncoderConfig()
        self.geometry: Geometry = geometry
        self.moving_encoder = Encoder(self.config)
        self.fixed_encoder = Encoder(self.config)

    def target(self, fixed: Tensor, mask: Tensor) -> SphericalTarget:
        """Prepare the fixed picture (H, W) with its mask (H, W) bool, True = usable."""
        return self.targets(fixed[None], mask[None], single=True)

    def targets(self, fixed: Tensor, masks: Tensor, single: bool = False) -> SphericalTarget:
        """Of several fixed pictures (B, H, W), one for each moving one (in training)."""
        usable = masks.to(fixed.dtype)
        points = exponential(self.fixed_encoder(_normalised(fixed, usable), usable), self.geometry)
        weight = torch.stack([eroded(mask, self.reach_px) for mask in masks]).to(fixed.dtype)
        if single:
            return SphericalTarget(points[0], weight[0], usable[0])
        return SphericalTarget(points, weight, usable)

    def points(self, moving: Tensor, target: SphericalTarget) -> Tensor:
        """Features (B, C + 1, H, W) on the manifold of moving pictures (B, H, W)."""
        usable = target.usable.expand_as(moving)
        features = self.moving_encoder(_normalised(moving, usable), usable)
        return exponential(features, self.geometry)

    def forward(self, moving: Tensor, target: SphericalTarget) -> Tensor:
        """Residual (B, c, H, W) of moving pictures (B, H, W), unweighted; 0 where masked."""
        r = residual(self.points(moving, target), target.points, self.geometry)
        return r * target.usable.expand_as(moving)[:, None]

    def epsilon(self, moving: Tensor, target: SphericalTarget) -> Tensor:
        """The similarity (B,): weighted mean over the places; lower is better."""
        values = epsilon(self.points(moving, target), target.points, self.geometry)
        weight = target.weight.expand_as(values)
        return (weight * values).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)

    def with_jacobian(
        self, moving: Tensor, jacobian: Tensor, target: SphericalTarget
    ) -> tuple[Tensor, Tensor]:
        """Residual (B, c, H, W) and its derivative (B, Q, c, H, W) from that of the picture.

        Forward mode, one pass for all Q columns (torch.func.jvp under vmap): the value is computed
        once. Differentiable in the encoders' weights.
        """

        def along(tangent: Tensor) -> tuple[Tensor, Tensor]:
            both = torch.func.jvp(lambda x: self(x, target), (moving,), (tangent,))
            return both[0], both[1]

        values, changes = torch.func.vmap(along, in_dims=1, out_dims=(0, 1))(jacobian)
        return values[0], changes

    def correlation(self, moving: Tensor, target: SphericalTarget, weight: Tensor) -> Tensor:
        """Likeness (B,) in -1..1 over the pixels weighted by ``weight`` (B, H, W)."""
        values = likeness(self.points(moving, target), target.points, self.geometry)
        weights = weight * target.weight
        return (weights * values).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1e-12)


def _normalised(images: Tensor, usable: Tensor) -> Tensor:
    """Without level and width of the window: mean 0 and deviation 1 over the usable pixels."""
    share = usable.mean((1, 2), keepdim=True).clamp_min(1e-6)
    x = images * usable
    mean = x.mean((1, 2), keepdim=True) / share
    x = (x - mean) * usable
    variance = (x * x).mean((1, 2), keepdim=True) / share
    return x / (variance + 1e-12).sqrt()
