"""The similarity of the baselines: multiscale NCC and gradient NCC, as xvr weighs them.

S = 1/2 (1/2 NCC + 1/2 local NCC, 9 px) + 1/2 local NCC of the Sobel derivatives, 11 px (the
defaults of xvr, Gopalakrishnan et al. 2025). The local means are box filters over windows that lie
wholly within the mask, which costs a fraction of unfolding every patch; pixels that the mask
excludes count nowhere, in favour of the baselines: the published code has no mask.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_NCC_WINDOW = 9
_GRADIENT_WINDOW = 11
_FLAT = 1e-3  # of the picture's variance: below it a window shows noise


class MultiscaleGradientNcc:
    """Of one fixed picture (H, W) and its mask (H, W); called with moving pictures (B, H, W)."""

    def __init__(self, fixed: Tensor, mask: Tensor) -> None:
        self._mask = mask.to(fixed.dtype)[None]
        self._inner = _windows_inside(self._mask, 3)
        self._fixed = _standardised(fixed[None], self._mask)
        self._fixed_gradient = _sobel(self._fixed)
        self._local = _LocalNcc(self._fixed[:, None], self._mask, _NCC_WINDOW)
        self._gradient = _LocalNcc(self._fixed_gradient, self._inner, _GRADIENT_WINDOW)

    def __call__(self, moving: Tensor) -> Tensor:
        """(B,) in -1..1."""
        standard = _standardised(moving, self._mask)
        whole = (standard * self._fixed * self._mask).sum((1, 2)) / self._mask.sum().clamp_min(1)
        ncc = 0.5 * whole + 0.5 * self._local(standard[:, None])
        return 0.5 * ncc + 0.5 * self._gradient(_sobel(standard))


class _LocalNcc:
    """Mean over all windows of the correlation of moving and fixed (B, C, H, W)."""

    def __init__(self, fixed: Tensor, mask: Tensor, size: int) -> None:
        self._size = size
        self._weight = _windows_inside(mask, size)[:, None]
        self._count = (self._weight.sum() * fixed.shape[1]).clamp_min(1)
        self._mean = self._pooled(fixed)
        self._fixed = fixed
        variance = self._pooled(fixed**2) - self._mean**2
        scale = (variance * self._weight).sum((2, 3), keepdim=True)
        self._floor = _FLAT * scale / self._weight.sum().clamp_min(1) + 1e-12
        self._variance = variance.clamp_min(0) + self._floor

    def __call__(self, moving: Tensor) -> Tensor:
        mean = self._pooled(moving)
        variance = (self._pooled(moving**2) - mean**2).clamp_min(0) + self._floor
        covariance = self._pooled(moving * self._fixed) - mean * self._mean
        correlation = covariance * (variance * self._variance).rsqrt()
        return (correlation * self._weight).sum((1, 2, 3)) / self._count

    def _pooled(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, self._size, stride=1, padding=self._size // 2)


def _standardised(images: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum().clamp_min(1)
    mean = (images * mask).sum((1, 2), keepdim=True) / count
    centred = (images - mean) * mask
    variance = (centred**2).sum((1, 2), keepdim=True) / count
    return centred * (variance + 1e-12).rsqrt()


def _sobel(images: Tensor) -> Tensor:
    """(B, H, W) to (B, 2, H, W): derivatives along columns and rows, zero beyond the border."""
    x = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]], dtype=images.dtype)
    kernel = torch.stack((x, x.T))[:, None].to(images.device)
    return functional.conv2d(images[:, None], kernel, padding=1)


def _windows_inside(mask: Tensor, size: int) -> Tensor:
    """1 where the whole window lies in the mask (1, H, W) and in the picture."""
    outside = functional.pad(1 - mask, [size // 2] * 4, value=1.0)
    return 1 - functional.max_pool2d(outside[None], size, stride=1)[0]
