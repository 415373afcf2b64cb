"""Locally normalised gradients: gradient correlation as a least-squares residual.

The gradient of each picture is divided by its own local root mean square,
n = D / sqrt(G * |D|^2 + e). The residual is r = n_moving - n_fixed, so half its square is, up to
the lengths of n, one minus the local correlation of the two gradients: what gradient NCC measures
(Penney et al., IEEE Trans. Med. Imaging 17 (1998) 586), in the form that a second-order method
needs. A locally linear change of the intensities (window, contrast, a smooth shading) leaves n as
it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.similarity.filters import blurred, derivatives, eroded


@dataclass(frozen=True)
class GradientTarget:
    """The fixed picture, prepared once per level.

    Attributes:
        normalised: (2, H, W).
        weight: (H, W) in 0..1; 0 where a masked pixel reaches into the filters.
        usable: (H, W) in 0..1, the mask that the local normalisation is weighted with.
    """

    normalised: Tensor
    weight: Tensor
    usable: Tensor


@dataclass(frozen=True)
class GradientResidual:
    """Parameters in pixels of the level.

    Attributes:
        smoothing_px: Gaussian before differentiation.
        window_px: Gaussian of the local root mean square.
        floor: e = (floor x global root mean square)^2: noise of a flat picture stays small.
    """

    smoothing_px: float = 1.0
    window_px: float = 4.0
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not (self.smoothing_px >= 0 and self.window_px > 0 and self.floor > 0):
            raise InputError(f"{self}: expected smoothing >= 0, window > 0 and floor > 0.")

    def target(self, fixed: Tensor, mask: Tensor) -> GradientTarget:
        """Prepare the fixed picture (H, W) with its mask (H, W) bool, True = usable."""
        reach = 1 + round(self.smoothing_px)
        kept = eroded(mask, reach)
        usable = kept.to(fixed.dtype)
        gradient = derivatives(blurred(fixed[None], self.smoothing_px))
        normalised = gradient / self._root(gradient, usable)[:, None]
        return GradientTarget(normalised[0] * usable, usable, usable)

    def __call__(self, moving: Tensor, target: GradientTarget) -> Tensor:
        """Residual (B, 2, H, W) of moving pictures (B, H, W); not weighted."""
        gradient = derivatives(blurred(moving, self.smoothing_px))
        return gradient / self._root(gradient, target.usable)[:, None] - target.normalised

    def with_jacobian(
        self, moving: Tensor, jacobian: Tensor, target: GradientTarget
    ) -> tuple[Tensor, Tensor]:
        """Residual (B, 2, H, W) and its derivative (B, Q, 2, H, W) from that of the picture.

        dn = dD / s - n (G * (D . dD)) / s^2, with s the local root mean square; the global floor e
        is held (it changes slowly, and with it the derivative is no longer local).
        """
        batch, columns, height, width = jacobian.shape
        stack = torch.cat((moving[:, None], jacobian), 1).view(-1, height, width)
        gradients = derivatives(blurred(stack, self.smoothing_px))
        gradients = gradients.view(batch, columns + 1, 2, height, width)
        gradient, changes = gradients[:, 0], gradients[:, 1:]
        root = self._root(gradient, target.usable)
        normalised = gradient / root[:, None]
        products = (gradient[:, None] * changes).sum(2)
        local = self._local_mean(products.flatten(0, 1), target.usable).view_as(products)
        inverse = 1 / root[:, None]
        change = changes * inverse[:, :, None]
        change -= normalised[:, None] * (local * inverse**2)[:, :, None]
        return normalised - target.normalised, change

    def correlation(self, moving: Tensor, target: GradientTarget, weight: Tensor) -> Tensor:
        """Gradient correlation (B,) in -1..1 over the pixels weighted by ``weight`` (B, H, W)."""
        gradient = derivatives(blurred(moving, self.smoothing_px))
        normalised = gradient / self._root(gradient, target.usable)[:, None]
        weights = (weight * target.weight)[:, None]
        both = (weights * normalised * target.normalised).sum((1, 2, 3))
        moving_norm = (weights * normalised**2).sum((1, 2, 3))
        fixed_norm = (weights * target.normalised**2).sum((1, 2, 3))
        return both / (moving_norm * fixed_norm).sqrt().clamp_min(1e-12)

    def _root(self, gradient: Tensor, usable: Tensor) -> Tensor:
        """Local root mean square (B, H, W) of gradients (B, 2, H, W)."""
        energy = (gradient**2).sum(1)
        mean = (energy * usable).sum((1, 2)) / usable.sum().clamp_min(1)
        floor = self.floor**2 * mean.clamp_min(1e-20)
        return (self._local_mean(energy, usable) + floor[:, None, None]).sqrt()

    def _local_mean(self, images: Tensor, usable: Tensor) -> Tensor:
        """Gaussian mean over the usable pixels only."""
        share = blurred(usable[None], self.window_px)
        return blurred(images * usable, self.window_px) / share.clamp_min(1e-3)
