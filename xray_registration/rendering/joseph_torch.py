"""Joseph projection in plain torch: any device, any precision, gradients to the volume as well.

Each slice across the stepping axis is one image of a batch for ``grid_sampler_2d``: one sample per
ray and slice. The sampler's own backward with respect to the grid is the in-slice gradient of mu at
the very samples of the picture, so image and Jacobian come from one pass over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from xray_registration.rendering.ray_geometry import Layout, RayGeometry

# samples per call of the sampler: bounds the memory, and fits a core's cache on CPUs
_SAMPLES_CPU = 1 << 18
_SAMPLES_CUDA = 1 << 26
_BILINEAR, _ZEROS, _ALIGN_CORNERS = 0, 0, True


@dataclass(frozen=True)
class _Rays:
    """Rays of views that share a layout; V views of H x W pixels, N = V H W rays."""

    ray: Tensor  # (V, H, W, 3), z = 1
    inverse_along: Tensor  # (V, H, W), 1 / d_along
    slope: Tensor  # (V, H, W, 2): (fast, across) per slice
    centre: Tensor  # (V, H, W, 2): (fast, across) at the centre slice, index units
    step_mm: Tensor  # (V, H, W), mm per slice


def arranged(mu_per_mm: Tensor, layout: Layout) -> Tensor:
    """[k, j, i] to [along, across, fast], contiguous."""
    return mu_per_mm.permute([2 - axis for axis in layout]).contiguous()


def centre_slice(shape: Sequence[int]) -> float:
    """The slice that moments are taken about."""
    return (shape[0] - 1) / 2


def image(slices: Tensor, geometries: Sequence[RayGeometry], size: tuple[int, int]) -> Tensor:
    """Line integrals (V, H, W); ``slices`` [along, across, fast] may require a gradient."""
    rays = _rays(slices, geometries, size)
    differentiable = torch.is_grad_enabled() and slices.requires_grad
    total = torch.zeros_like(rays.step_mm)
    for begin, end in _chunks(slices, rays):
        if differentiable:
            # the samples are drawn again in the backward pass instead of being kept
            part = checkpoint(_slab_sum, slices[begin:end], rays, begin, len(slices),
                              use_reentrant=False)  # fmt: skip
        else:
            part = _slab_sum(slices[begin:end], rays, begin, len(slices))
        total = total + part
    return total * rays.step_mm


@torch.no_grad()
def image_and_jacobian(
    slices: Tensor, geometries: Sequence[RayGeometry], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Line integrals (V, H, W) and their derivative (V, 6, H, W); see ``projector``."""
    rays = _rays(slices, geometries, size)
    count = rays.step_mm.numel()
    total = slices.new_zeros(count)
    # rows: sum of gradients, sum of (slice - centre) x gradients; columns: (fast, across) per ray
    moments = slices.new_zeros(2, 2 * count)
    for begin, end in _chunks(slices, rays):
        slab = slices[begin:end, None]
        offsets = _offsets(slices, begin, end)
        grid = _grid(rays, offsets, slices.shape)
        values = torch.grid_sampler_2d(slab, grid, _BILINEAR, _ZEROS, _ALIGN_CORNERS)
        total += values.view(end - begin, count).sum(0)
        _, gradient = torch.ops.aten.grid_sampler_2d_backward(
            torch.ones_like(values), slab, grid, _BILINEAR, _ZEROS, _ALIGN_CORNERS, [False, True]
        )
        weights = torch.stack([torch.ones_like(offsets), offsets])
        moments += weights @ gradient.view(end - begin, 2 * count)
    picture = total.view_as(rays.step_mm) * rays.step_mm
    return picture, _jacobian(picture, moments, rays, slices.shape, geometries)


def _rays(slices: Tensor, geometries: Sequence[RayGeometry], size: tuple[int, int]) -> _Rays:
    """Set up in float64, where the rays' offsets of many voxels are subtracted, then rounded."""
    height, width = size

    def stacked(name: str) -> Tensor:
        values = np.stack([getattr(geometry, name) for geometry in geometries])
        return torch.from_numpy(values).to(slices.device)

    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float64, device=slices.device),
        torch.arange(width, dtype=torch.float64, device=slices.device),
        indexing="ij",
    )
    pixel = torch.stack((u, v, torch.ones_like(u)), -1)
    ray = torch.einsum("vrc,hwc->vhwr", stacked("ray_from_pixel"), pixel)
    direction = torch.einsum("vrc,vhwc->vhwr", stacked("index_from_ray"), ray)
    source = stacked("source")[:, None, None, :]
    inverse_along = 1 / direction[..., 0]
    slope = direction[..., [2, 1]] * inverse_along[..., None]
    to_centre = centre_slice(slices.shape) - source[..., 0]
    centre = source[..., [2, 1]] + slope * to_centre[..., None]
    step = ray.norm(dim=-1) * inverse_along.abs()
    values = (ray, inverse_along, slope, centre, step)
    return _Rays(*(value.to(slices.dtype) for value in values))


def _chunks(slices: Tensor, rays: _Rays) -> list[tuple[int, int]]:
    samples = _SAMPLES_CUDA if slices.is_cuda else _SAMPLES_CPU
    chunk = max(1, samples // rays.step_mm.numel())
    return [(k, min(k + chunk, len(slices))) for k in range(0, len(slices), chunk)]


def _offsets(slices: Tensor, begin: int, end: int) -> Tensor:
    index = torch.arange(begin, end, dtype=slices.dtype, device=slices.device)
    return index - centre_slice(slices.shape)


def _grid(rays: _Rays, offsets: Tensor, shape: Sequence[int]) -> Tensor:
    """Sampler coordinates (K, V H, W, 2) in [-1, 1]; ``offsets``: slices from the centre."""
    scale = _sampler_scale(rays.slope, shape)
    slope, centre = rays.slope * scale, rays.centre * scale - 1
    grid = torch.addcmul(centre, offsets.view(-1, 1, 1, 1, 1), slope)
    return grid.flatten(1, 2)


def _sampler_scale(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Sampler units per voxel along (fast, across)."""
    return like.new_tensor([2 / (shape[2] - 1), 2 / (shape[1] - 1)])


def _slab_sum(slab: Tensor, rays: _Rays, begin: int, depth: int) -> Tensor:
    offsets = torch.arange(begin, begin + len(slab), dtype=slab.dtype, device=slab.device)
    shape = (depth, *slab.shape[1:])
    grid = _grid(rays, offsets - centre_slice(shape), shape)
    values = torch.grid_sampler_2d(slab[:, None], grid, _BILINEAR, _ZEROS, _ALIGN_CORNERS)
    return values.view(len(slab), *rays.step_mm.shape).sum(0)


def _jacobian(
    picture: Tensor,
    moments: Tensor,
    rays: _Rays,
    shape: Sequence[int],
    geometries: Sequence[RayGeometry],
) -> Tensor:
    """From the moments to d image / d (v, w) about the isocentre, camera axes: (V, 6, H, W).

    With p = z ray: dI/dv = -sum grad mu, dI/dw = -sum (p - c) x grad mu. The samples stay in their
    slices, so a shift along the stepping axis acts through the slopes; the derivative of the step
    length 1 / |d_along| adds the picture's own term.
    """

    def stacked(name: str) -> Tensor:
        values = np.stack([getattr(geometry, name) for geometry in geometries])
        return torch.from_numpy(values).to(picture)

    gradient, moment = (
        moments.view(2, *rays.slope.shape)
        * _sampler_scale(picture, shape)
        * rays.step_mm[..., None]
    )
    isocentre = stacked("isocentre_camera_mm")[:, None, None, :]
    source_along = picture.new_tensor([geometry.source[0] for geometry in geometries])
    inverse = rays.inverse_along[..., None]
    # depth of a sample relative to the isocentre's: (slice - centre) / d_along + offset
    offset = (centre_slice(shape) - source_along[:, None, None, None]) * inverse - isocentre[
        ..., 2:
    ]
    moment = moment * inverse + offset * gradient
    along_gradient = -(rays.slope * gradient).sum(-1)
    along_moment = -(rays.slope * moment).sum(-1) - picture * rays.inverse_along
    to_camera = stacked("camera_from_gradient")

    def in_camera(along: Tensor, fast_across: Tensor) -> Tensor:
        index = torch.stack((along, fast_across[..., 1], fast_across[..., 0]), -1)
        return torch.einsum("vrc,vhwc->vhwr", to_camera, index)

    g, m = in_camera(along_gradient, gradient), in_camera(along_moment, moment)
    lever = rays.ray * isocentre[..., 2:] - isocentre
    rotation = -(torch.linalg.cross(lever, g) + torch.linalg.cross(rays.ray, m))
    return torch.cat((-g, rotation), -1).permute(0, 3, 1, 2).contiguous()


def padded_counts(mu_per_mm: Tensor, layout: Layout) -> tuple[NDArray[np.int16], float]:
    """The volume as the native kernel wants it, and mu per count.

    [across][along][fast] with two voxels of zeros on either side of "across" and "fast". 15 bits
    over the largest mu: rounding is below 1e-4 of water, and the mean over a ray far below.
    """
    slices = arranged(mu_per_mm.detach(), layout).cpu().numpy()
    largest = float(slices.max(initial=0.0))
    mu_per_count = largest / 32000 if largest > 0 else 1.0
    along, across, fast = slices.shape
    counts = np.zeros((across + 4, along, fast + 4), np.int16)
    counts[2:-2, :, 2:-2] = np.rint(slices / mu_per_count).transpose(1, 0, 2)
    return counts, mu_per_count
