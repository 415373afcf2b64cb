"""Separable image filters on (N, H, W), linear, so that they act on Jacobian columns as well."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_SMALL_PX = 96  # of a side; such images are blurred by a matrix


def gaussian_kernel(sigma_px: float, like: Tensor) -> Tensor:
    """Normalised samples (2 r + 1,) of a Gaussian, cut at 2.5 sigma."""
    radius = max(1, math.ceil(2.5 * sigma_px))
    x = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    kernel = torch.exp(-0.5 * (x / sigma_px) ** 2)
    return kernel / kernel.sum()


def blurred(images: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of (N, H, W); the border is continued by its own value. 0: unchanged."""
    if sigma_px <= 0:
        return images
    height, width = images.shape[-2:]
    if not images.is_cuda and max(height, width) <= _SMALL_PX:
        # One product instead of many passes, whose calls cost more than their sums do. Less one
        # pixel: a flat image stays exactly flat.
        level = images[:, :1, :1]
        along_rows = (images - level) @ _blur_matrix(width, sigma_px, images.dtype).T
        return _blur_matrix(height, sigma_px, images.dtype) @ along_rows + level
    kernel = gaussian_kernel(sigma_px, images)
    radius = len(kernel) // 2
    # the padding of all images at once is one copy; replicate needs a 4-D input
    x = F.pad(images[:, None], (radius, radius, radius, radius), mode="replicate")
    if x.is_cuda:
        x = F.conv2d(x, kernel.view(1, 1, 1, -1))
        return F.conv2d(x, kernel.view(1, 1, -1, 1))[:, 0]
    weights = kernel.tolist()
    return _weighted_shifts(_weighted_shifts(x[:, 0], weights, 2), weights, 1)


@lru_cache(maxsize=128)
def _blur_matrix(size: int, sigma_px: float, dtype: torch.dtype) -> Tensor:
    """(size, size), what `blurred` does along one axis of that many pixels."""
    with torch.inference_mode(False), torch.no_grad():
        eye = torch.eye(size, dtype=dtype)
        kernel = gaussian_kernel(sigma_px, eye)
        radius = len(kernel) // 2
        rows = F.pad(eye[None], (radius, radius), mode="replicate")
        # row n: the response to an impulse at n
        return _weighted_shifts(rows, kernel.tolist(), 2)[0].T.contiguous()


def _weighted_shifts(images: Tensor, weights: list[float], axis: int) -> Tensor:
    """Convolution along one axis with symmetric weights (2 r + 1,), where they fit.

    On a CPU sums of shifted images take a third of the time of `conv2d` of one channel.
    """
    radius = len(weights) // 2
    length = images.shape[axis] - 2 * radius
    result = images.narrow(axis, radius, length) * weights[radius]
    for n, weight in enumerate(weights[:radius]):
        result.add_(images.narrow(axis, n, length), alpha=weight)
        result.add_(images.narrow(axis, 2 * radius - n, length), alpha=weight)
    return result


def halved(images: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; an odd last row or column of (N, H, W) is repeated."""
    height, width = images.shape[-2:]
    if height % 2 or width % 2:
        images = F.pad(images[:, None], (0, width % 2, 0, height % 2), mode="replicate")[:, 0]
    # sums of every second row and column: a fifth of the time of a pooling of one channel
    rows = images[:, ::2] + images[:, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def doubled(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """The inverse way, bilinear, cut to ``size`` (H, W); constants are kept by both."""
    if not images.is_cuda and max(size) <= _SMALL_PX:
        height, width = images.shape[-2:]
        columns = _doubling_matrix(width, images.dtype)[: size[1]]
        return _doubling_matrix(height, images.dtype)[: size[0]] @ (images @ columns.T)
    large = F.interpolate(images[:, None], scale_factor=2, mode="bilinear", align_corners=False)
    return large[:, 0, : size[0], : size[1]]


@lru_cache(maxsize=128)
def _doubling_matrix(size: int, dtype: torch.dtype) -> Tensor:
    """(2 size, size), what `doubled` does along one axis of that many pixels."""
    with torch.inference_mode(False), torch.no_grad():
        eye = torch.eye(size, dtype=dtype)[None]
        return F.interpolate(eye, scale_factor=2, mode="linear", align_corners=False)[0].T


def masked_derivatives(
    images: Tensor, sigma_px: float, mask: Tensor | None, usable: Tensor
) -> Tensor:
    """Derivatives (N, 2, H, W) of smoothed images (N, H, W); nothing under the mask comes through.

    The smoothing is a mean over the pixels of the mask (H, W; None: all) only, so its edge is no
    gradient. 0 where not ``usable`` (H, W).
    """
    if mask is None:
        return derivatives(blurred(images, sigma_px))
    share = blurred(mask[None], sigma_px).clamp_min(1e-3)
    return derivatives(blurred(images * mask, sigma_px) / share) * usable


def tile_sums(images: Tensor, size_px: int) -> Tensor:
    """(N, h, w) sums over square tiles of (N, H, W); the last ones are filled up with 0."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % size_px, 0, -height % size_px))
    return F.avg_pool2d(padded[:, None], size_px)[:, 0] * size_px**2


def derivatives(images: Tensor) -> Tensor:
    """Central differences (N, 2, H, W) along columns (x) and rows (y), per pixel."""
    x = F.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return torch.stack(
        (x[:, 1:-1, 2:] - x[:, 1:-1, :-2], x[:, 2:, 1:-1] - x[:, :-2, 1:-1]), dim=1
    ).mul_(0.5)


def eroded(mask: Tensor, radius_px: int | tuple[int, int]) -> Tensor:
    """The pixels (H, W) bool whose neighbourhood of that radius (or two: H, W) is all True.

    The neighbourhood is a rectangle; it ends at the image's border.
    """
    down, across = (radius_px, radius_px) if isinstance(radius_px, int) else radius_px
    return ~_spread(_spread(~mask, down, -2), across, -1)


def dilated(mask: Tensor, radius_px: int) -> Tensor:
    """The pixels (..., H, W) bool with a True pixel in their square neighbourhood."""
    return _spread(_spread(mask, radius_px, -2), radius_px, -1)


def _spread(mask: Tensor, radius_px: int, axis: int) -> Tensor:
    """Along one axis: True where any pixel within the radius is.

    A reach is doubled with each pass, so the passes grow with the logarithm of the radius.
    """
    if radius_px <= 0:
        return mask
    margin = [0, 0, radius_px, radius_px] if axis == -2 else [radius_px, radius_px]
    mask = F.pad(mask, margin)
    seen, size = 1, 2 * radius_px + 1
    while seen < size:
        shift = min(seen, size - seen)
        length = mask.shape[axis] - shift
        mask = mask.narrow(axis, 0, length) | mask.narrow(axis, shift, length)
        seen += shift
    return mask
