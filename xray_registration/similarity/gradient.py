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
from xray_registration.similarity.filters import (
    blurred,
    doubled,
    eroded,
    halved,
    masked_derivatives,
)

_SMALLEST_HALVED_WINDOW_PX = 4.0
_NOISE_SHARE = 0.1  # of the squared length of a normalised gradient


@dataclass(frozen=True)
class GradientTarget:
    """The fixed picture, prepared once per level.

    Attributes:
        normalised: (2, H, W).
        weight: (H, W) in 0..1; 0 at masked pixels and close to them.
        usable: (H, W) in 0..1, the mask that the local normalisation is weighted with.
        mask: (H, W) in 0..1, the pixels that smoothing may draw from; None for all.
    """

    normalised: Tensor
    weight: Tensor
    usable: Tensor
    mask: Tensor | None


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

    @property
    def reach_px(self) -> int:
        """How far from a pixel that must not count its neighbours do not count either."""
        return 1 + round(self.smoothing_px)

    def target(self, fixed: Tensor, mask: Tensor) -> GradientTarget:
        """Prepare the fixed picture (H, W) with its mask (H, W) bool, True = usable."""
        usable = eroded(mask, self.reach_px).to(fixed.dtype)
        drawn_from = None if bool(mask.all()) else mask.to(fixed.dtype)
        gradient = self._gradient(fixed[None], drawn_from, usable)
        normalised = gradient / self._root(gradient, usable)[:, None]
        return GradientTarget(normalised[0], usable, usable, drawn_from)

    def normalised(self, images: Tensor) -> Tensor:
        """Locally normalised gradients (N, 2, H, W) of images (N, H, W) without a mask."""
        everywhere = torch.ones_like(images[0])
        gradient = self._gradient(images, None, everywhere)
        return gradient / self._root(gradient, everywhere)[:, None]

    def __call__(self, moving: Tensor, target: GradientTarget) -> Tensor:
        """Residual (B, 2, H, W) of moving pictures (B, H, W); 0 where masked, else unweighted."""
        gradient = self._gradient(moving, target.mask, target.usable)
        return gradient / self._root(gradient, target.usable)[:, None] - target.normalised

    def with_jacobian(
        self, moving: Tensor, jacobian: Tensor, target: GradientTarget
    ) -> tuple[Tensor, Tensor]:
        """Residual (B, 2, H, W) and its derivative (B, Q, 2, H, W) from that of the picture.

        dn = dD / s - n (G * (D . dD) + de / 2) / s^2, with s the local root mean square and e the
        global floor, de / 2 = floor^2 mean(D . dD). Exact; de is 0.3 to 0.8 % of the gradient of
        the cost 15 mm off, and costs one mean.
        """
        batch, columns, height, width = jacobian.shape
        stack = torch.cat((moving[:, None], jacobian), 1).view(-1, height, width)
        gradients = self._gradient(stack, target.mask, target.usable)
        gradients = gradients.view(batch, columns + 1, 2, height, width)
        gradient, changes = gradients[:, 0], gradients[:, 1:]
        root = self._root(gradient, target.usable)
        normalised = gradient / root[:, None]
        # component by component: sums over an axis of two are slow
        products = gradient[:, None, 0] * changes[:, :, 0]
        products = torch.addcmul(products, gradient[:, None, 1], changes[:, :, 1])
        local = self._local_mean(products.flatten(0, 1), target.usable).view_as(products)
        local += self.floor**2 * _mean(products, target.usable)[..., None, None]
        inverse = 1 / root[:, None]
        change = changes * inverse[:, :, None]
        change.addcmul_(normalised[:, None], (local * inverse**2)[:, :, None], value=-1)
        return normalised - target.normalised, change

    def dominance(self, moving: Tensor, background: Tensor, target: GradientTarget) -> Tensor:
        """Weights (B, H, W), 1 where all structure is the moving picture's, small where it is not.

        The inverse variance of a normalised residual whose background is wrong by as much as it has
        structure, before noise that makes a tenth of the whole: 1 / (1 + 10 share).
        """
        energies = []
        for images in (moving, background):
            gradient = self._gradient(images, target.mask, target.usable)
            energies.append(self._local_mean((gradient**2).sum(1), target.usable))
        total = energies[0] + energies[1]
        floor = self.floor**2 * _mean(total, target.usable).clamp_min(1e-20)
        share = energies[1] / (total + floor[:, None, None])
        return 1 / (1 + share / _NOISE_SHARE)

    def correlation(self, moving: Tensor, target: GradientTarget, weight: Tensor) -> Tensor:
        """Gradient correlation (B,) in -1..1 over the pixels weighted by ``weight`` (B, H, W)."""
        gradient = self._gradient(moving, target.mask, target.usable)
        normalised = gradient / self._root(gradient, target.usable)[:, None]
        weights = (weight * target.weight)[:, None]
        both = (weights * normalised * target.normalised).sum((1, 2, 3))
        moving_norm = (weights * normalised**2).sum((1, 2, 3))
        fixed_norm = (weights * target.normalised**2).sum((1, 2, 3))
        return both / (moving_norm * fixed_norm).sqrt().clamp_min(1e-12)

    def _gradient(self, images: Tensor, mask: Tensor | None, usable: Tensor) -> Tensor:
        """`masked_derivatives`, in the fixed picture and in the moving one alike."""
        return masked_derivatives(images, self.smoothing_px, mask, usable)

    def _root(self, gradient: Tensor, usable: Tensor) -> Tensor:
        """Local root mean square (B, H, W) of gradients (B, 2, H, W)."""
        energy = (gradient**2).sum(1)
        floor = self.floor**2 * _mean(energy, usable).clamp_min(1e-20)
        return (self._local_mean(energy, usable) + floor[:, None, None]).sqrt()

    def _local_mean(self, images: Tensor, usable: Tensor) -> Tensor:
        """Gaussian mean over the usable pixels only; linear in the images.

        A wide window is applied to pictures of half the size: it leaves nothing finer anyway, and
        it costs an eighth.
        """
        if self.window_px < _SMALLEST_HALVED_WINDOW_PX:
            share = blurred(usable[None], self.window_px)
            return blurred(images * usable, self.window_px) / share.clamp_min(1e-3)
        window = self.window_px / 2
        share = blurred(halved(usable[None]), window).clamp_min(1e-3)
        return doubled(blurred(halved(images * usable), window) / share, usable.shape)


def _mean(images: Tensor, usable: Tensor) -> Tensor:
    """Mean (...) of images (..., H, W) over the usable pixels."""
    return (images * usable).sum((-2, -1)) / usable.sum().clamp_min(1)
