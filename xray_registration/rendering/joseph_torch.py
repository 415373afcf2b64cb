"""Joseph projection in plain torch: any device, any precision, gradients to the volume as well.

The arithmetic of the compiled kernel (``joseph_kernel.cpp``); the sums over the slices, where the
time goes, are in ``joseph_sums``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.rendering.joseph_sums import (
    centre_slice,
    ray_sums,
    ray_sums_and_moments,
)
from xray_registration.rendering.ray_geometry import Layout, RayGeometry


@dataclass(frozen=True)
class _Rays:
    """Rays of views that share a layout: V views of H x W pixels."""

    ray: Tensor  # (V, H, W, 3), z = 1
    inverse_along: Tensor  # (V, H, W), 1 / d_along
    slope: Tensor  # (V, H, W, 2): (fast, across) per slice
    centre: Tensor  # (V, H, W, 2): (fast, across) at the centre slice, index units
    step_mm: Tensor  # (V, H, W), mm per slice


def arranged(mu_per_mm: Tensor, layout: Layout) -> Tensor:
    """[k, j, i] to [along, across, fast], contiguous."""
    return mu_per_mm.permute([2 - axis for axis in layout]).contiguous()


def image(slices: Tensor, geometries: Sequence[RayGeometry], size: tuple[int, int]) -> Tensor:
    """Line integrals (V, H, W); differentiable in ``slices`` [along, across, fast]."""
    rays = _rays(slices, geometries, size)
    total = ray_sums(slices, *_in_sampler_units(rays, slices.shape))
    return total.view_as(rays.step_mm) * rays.step_mm


def image_and_jacobian(
    slices: Tensor, geometries: Sequence[RayGeometry], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Line integrals (V, H, W) and their derivative (V, 6, H, W); see ``projector``.

    Both are differentiable in ``slices``.
    """
    rays = _rays(slices, geometries, size)
    total, moments = ray_sums_and_moments(slices, *_in_sampler_units(rays, slices.shape))
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


def _in_sampler_units(rays: _Rays, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """``centre`` and ``slope`` of all rays, (V H W, 2), where the grid's ends are -1 and 1."""
    scale = _sampler_scale(rays.slope, shape)
    return (rays.centre * scale - 1).flatten(0, 2), (rays.slope * scale).flatten(0, 2)


def _sampler_scale(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Sampler units per voxel along (fast, across)."""
    return like.new_tensor([2 / (shape[2] - 1), 2 / (shape[1] - 1)])


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
