"""The sums of Joseph's method over slices as a linear map of the volume, with its transpose.

Each slice is one image of a batch for ``grid_sampler_2d``: one bilinear sample per ray and slice.
The sampler's own backward with respect to the grid is the in-slice gradient of mu at the very
samples of the picture, so image and Jacobian come from one pass over them. Being linear in the
volume, the map needs nothing kept for its reverse mode but the rays: memory does not grow with the
number of samples, and every further derivative is the map or its transpose again.

Rays are in sampler units: ``centre`` and ``slope`` (N, 2) hold (fast, across) in [-1, 1] at the
centre slice and per slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

# Rays of a tile and samples of one call of the sampler. On CPUs the samples stay in a core's cache,
# and larger temporaries would be fresh memory from the system every time; the slices of a call are
# what torch's threads share.
_CPU = (1 << 13, 1 << 17)
_CUDA = (1 << 20, 1 << 24)
_BILINEAR, _ZEROS, _ALIGN_CORNERS = 0, 0, True


def centre_slice(shape: Sequence[int]) -> float:
    """The slice that moments are taken about: less cancellation in float32."""
    return (shape[0] - 1) / 2


def ray_sums(slices: Tensor, centre: Tensor, slope: Tensor) -> Tensor:
    """Sum of mu over the slices (N,). ``slices``: [along, across, fast]."""
    (total,) = _Sums.apply(slices, centre, slope, False)
    return total


def ray_sums_and_moments(slices: Tensor, centre: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The sum (N,), and (2, N, 2): sum of the gradient, sum of (slice - centre) x gradient.

    Gradients are with respect to (fast, across), per sampler unit.
    """
    total, moments = _Sums.apply(slices, centre, slope, True)
    return total, moments


class _Sums(torch.autograd.Function):
    """slices -> sums; differentiable in the slices, not in the rays."""

    @staticmethod
    def forward(ctx: Any, slices: Tensor, centre: Tensor, slope: Tensor, moments: bool) -> Any:
        ctx.save_for_backward(centre, slope)
        ctx.shape = slices.shape
        return _sums(slices, centre, slope, moments)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _Transpose.apply(ctx.shape, *ctx.saved_tensors, *grads), None, None, None


class _Transpose(torch.autograd.Function):
    """Gradients of the sums -> gradient of the slices."""

    @staticmethod
    def forward(
        ctx: Any, shape: torch.Size, centre: Tensor, slope: Tensor, *grads: Tensor
    ) -> Tensor:
        ctx.save_for_backward(centre, slope)
        ctx.moments = len(grads) > 1
        return _transpose(shape, centre, slope, *grads)

    @staticmethod
    def backward(ctx: Any, grad_slices: Tensor) -> tuple[Any, ...]:
        sums = _Sums.apply(grad_slices.contiguous(), *ctx.saved_tensors, ctx.moments)
        return (None, None, None, *sums)


def _sums(slices: Tensor, centre: Tensor, slope: Tensor, moments: bool) -> tuple[Tensor, ...]:
    total = slices.new_zeros(len(centre))
    summed = slices.new_zeros(2, *centre.shape)
    one = slices.new_ones(())
    for rays, begin, end, grid in _calls(slices.shape, centre, slope):
        slab = slices[begin:end, None]
        values = torch.grid_sampler_2d(slab, grid, _BILINEAR, _ZEROS, _ALIGN_CORNERS)
        total[rays] += values.view(end - begin, -1).sum(0)
        if moments:
            _, gradient = torch.ops.aten.grid_sampler_2d_backward(
                one.expand_as(values),
                slab,
                grid,
                *(_BILINEAR, _ZEROS, _ALIGN_CORNERS, [False, True]),
            )
            offsets = _offsets(slices, begin, end)
            weights = torch.stack([torch.ones_like(offsets), offsets])
            part = weights @ gradient.view(end - begin, -1)
            summed[:, rays] += part.view(2, -1, 2)
    return (total, summed) if moments else (total,)


def _transpose(
    shape: torch.Size,
    centre: Tensor,
    slope: Tensor,
    grad_total: Tensor,
    grad_moments: Tensor | None = None,
) -> Tensor:
    result = grad_total.new_zeros(shape)

    def spread(values: Tensor, grid: Tensor, begin: int, end: int) -> None:
        gradient, _ = torch.ops.aten.grid_sampler_2d_backward(
            values[:, None, None],
            result[begin:end, None],
            grid,
            *(_BILINEAR, _ZEROS, _ALIGN_CORNERS, [True, False]),
        )
        result[begin:end] += gradient[:, 0]

    scale = _voxels_per_unit(grad_total, shape)
    for rays, begin, end, grid in _calls(shape, centre, slope):
        spread(grad_total[rays].expand(end - begin, -1), grid, begin, end)
        if grad_moments is None:
            continue
        offsets = _offsets(result, begin, end)[:, None, None]
        per_sample = (grad_moments[0, rays] + offsets * grad_moments[1, rays]) * scale
        # Within a voxel the sample is linear along either axis: its derivative there is the
        # difference between the voxel's two faces.
        low = ((grid[:, 0] + 1) * scale).floor()
        for axis in (0, 1):
            for side, sign in ((0, -1.0), (1, 1.0)):
                face = grid.clone()
                face[:, 0, :, axis] = (low[..., axis] + side) / scale[axis] - 1
                spread(sign * per_sample[..., axis], face, begin, end)
    return result


def _calls(
    shape: Sequence[int], centre: Tensor, slope: Tensor
) -> Iterator[tuple[slice, int, int, Tensor]]:
    """Tiles of rays times slabs of slices, with the sampler's grid (slices, 1, rays, 2).

    The grid's memory is used again for the next call.
    """
    tile, samples = _CUDA if centre.is_cuda else _CPU
    tile = min(tile, len(centre))
    slab = min(max(1, samples // tile), shape[0])
    memory = centre.new_empty(slab * tile * 2)
    for first in range(0, len(centre), tile):
        rays = slice(first, min(first + tile, len(centre)))
        count = rays.stop - rays.start
        for begin in range(0, shape[0], slab):
            end = min(begin + slab, shape[0])
            grid = memory[: (end - begin) * count * 2].view(end - begin, count, 2)
            offsets = torch.arange(begin, end, dtype=centre.dtype, device=centre.device)
            offsets = (offsets - centre_slice(shape)).view(-1, 1, 1)
            torch.addcmul(centre[rays], offsets, slope[rays], out=grid)
            yield rays, begin, end, grid[:, None]


def _offsets(like: Tensor, begin: int, end: int) -> Tensor:
    index = torch.arange(begin, end, dtype=like.dtype, device=like.device)
    return index - centre_slice(like.shape)


def _voxels_per_unit(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Voxels per sampler unit along (fast, across)."""
    return like.new_tensor([(shape[2] - 1) / 2, (shape[1] - 1) / 2])
