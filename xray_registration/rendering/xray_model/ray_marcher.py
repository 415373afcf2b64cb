"""Line integrals of two materials through a full-resolution CT by trilinear sampling at fixed
steps.

This is the reference side of every evaluation, so it shares nothing with the projectors that move
in a registration (rendering/joseph*.py, rendering/diffdrr_backend.py).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError, MissingDependencyError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.se3 import check_rigid
from xray_registration.optional import require

Backend = Literal["auto", "numba", "torch"]

_BRICK_SHIFT: Final = 3  # bricks of 8^3 voxel cells: a ray jumps over those that hold only air
_ROWS_PER_TASK: Final = 16
_LARGEST_SIZE: Final = 2_000_000_000  # offsets into the densities are 32 bit
_TORCH_SAMPLES: Final = 1 << 21  # samples that the torch back end holds at once


@dataclass(frozen=True)
class MarchVolume:
    """Densities ready for marching.

    Attributes:
        density: (Z + 2, Y + 2, X + 2, 2) float32 g/cm^3, one voxel of replicated border on each
            side.
        lps_from_index: (4, 4) LPS mm from the index (i, j, k, 1) of the padded array.
        occupied: (bz, by, bx) uint8: 0 where every sample inside the brick of 8^3 cells is zero.
    """

    density: NDArray[np.float32]
    lps_from_index: NDArray[np.float64]
    occupied: NDArray[np.uint8]

    @classmethod
    def from_density(
        cls, density: NDArray[np.float32], lps_from_index: NDArray[np.float64]
    ) -> MarchVolume:
        """From (Z, Y, X, 2) densities on the CT's grid. All-air borders are cut off: no ray sees
        them.
        """
        if density.ndim != 4 or density.shape[3] != 2:
            raise InputError(f"density has shape {density.shape}; expected (Z, Y, X, 2)")
        slices, begin = _content_box(density)
        if density[slices].size > _LARGEST_SIZE:
            raise InputError(
                f"the CT holds {density[slices].size // 2:,} voxels of tissue; accepted: up to "
                f"{_LARGEST_SIZE // 2:,}. Crop it or resample it"
            )
        padded = np.pad(density[slices], ((1, 1), (1, 1), (1, 1), (0, 0)), mode="edge")
        affine = np.array(lps_from_index, dtype=np.float64)
        affine[:3, 3] += affine[:3, :3] @ (np.array(begin[::-1], dtype=np.float64) - 1.0)
        return cls(np.ascontiguousarray(padded), affine, _occupancy(padded))

    @property
    def box_index(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper corner (i, j, k) of the volume: the outer faces of its border voxels."""
        shape = np.array(self.density.shape[2::-1], dtype=np.float64)
        return np.full(3, 0.5), shape - 1.5

    @property
    def smallest_voxel_mm(self) -> float:
        """Shortest edge of a voxel."""
        return float(np.linalg.norm(self.lps_from_index[:3, :3], axis=0).min())


def _content_box(density: NDArray[np.float32]) -> tuple[tuple[slice, ...], list[int]]:
    """Slices of the part that is not air, one voxel of air kept around it, and their (z, y, x)
    begin.
    """
    along_z, along_y, along_x = (np.zeros(count, dtype=bool) for count in density.shape[:3])
    for z, plane in enumerate(density):
        filled = plane.any(axis=-1)
        along_z[z] = filled.any()
        along_y |= filled.any(axis=1)
        along_x |= filled.any(axis=0)
    slices, begin = [], []
    for flags in (along_z, along_y, along_x):
        hits = np.flatnonzero(flags)
        first, last = (int(hits[0]), int(hits[-1])) if hits.size else (0, 0)
        begin.append(max(first - 1, 0))
        slices.append(slice(begin[-1], min(last + 2, len(flags))))
    return tuple(slices), begin


def _occupancy(padded: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Which bricks hold anything; cell i reads voxels i and i + 1, so bricks overlap by one
    voxel.
    """
    size = 1 << _BRICK_SHIFT
    filled = (padded != 0.0).any(axis=-1)
    for axis in range(3):
        count = filled.shape[axis]
        begins = np.arange(0, count, size)
        here = np.logical_or.reduceat(filled, begins, axis=axis)
        following = np.minimum(begins + size, count - 1)
        filled = here | np.take(filled, following, axis=axis)
    return np.ascontiguousarray(filled.astype(np.uint8))


@dataclass(frozen=True)
class _Rays:
    """One view's rays: matrices that map (u, v, 1) to a direction of unit camera depth, and
    limits.
    """

    index_from_pixel: NDArray[np.float64]
    direction_from_pixel: NDArray[np.float64]
    source_index: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def _rays(volume: MarchVolume, camera_from_ct: NDArray[np.float64], camera: Camera) -> _Rays:
    camera_from_pixel = np.linalg.inv(camera.K)
    index_from_camera = np.linalg.inv(camera_from_ct @ volume.lps_from_index)
    lower, upper = volume.box_index
    return _Rays(
        np.ascontiguousarray(index_from_camera[:3, :3] @ camera_from_pixel),
        np.ascontiguousarray(camera_from_pixel),
        np.ascontiguousarray(index_from_camera[:3, 3]),
        lower,
        upper,
    )


def path_integrals_g_per_cm2(
    volume: MarchVolume,
    camera_from_ct: NDArray[np.float64],
    camera: Camera,
    step_mm: float,
    backend: Backend = "auto",
    threads: int | None = None,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Density integrals along the ray through each pixel's centre.

    Args:
        volume: the two materials.
        camera_from_ct: (4, 4) rigid, mm, from CT LPS.
        camera: K and size; any principal point, skew and aspect.
        step_mm: largest distance between samples; each ray's way through the box is cut into equal
            parts no longer than this. At most half the smallest voxel edge.
        backend: "numba" (CPU), "torch" (any device) or "auto": numba on the CPU where it is
            installed.
        threads: of the numba back end; None = as many as this process may use. The result does not
            depend on it.
        device: torch device of the torch back end.

    Returns:
        (H, W, 2) float32 in g/cm^2 (density times length), in the order of the volume's materials.

    Raises:
        InputError: a pose that is not rigid, or a step that is not positive or too coarse.
        MissingDependencyError: backend "numba" without numba.
    """
    pose = check_rigid(camera_from_ct, "camera_from_ct")
    limit = 0.5 * volume.smallest_voxel_mm
    if not 0.0 < step_mm <= limit * (1.0 + 1e-6):
        raise InputError(
            f"step_mm is {step_mm!r}; accepted: more than 0 and at most half the CT's smallest "
            f"voxel edge, {limit:.4g} mm"
        )
    rays = _rays(volume, pose, camera)
    chosen = _chosen_backend(backend, device)
    if chosen == "numba":
        millimetres = _march_numba(volume, rays, camera, step_mm, threads)
    else:
        millimetres = _march_torch(volume, rays, camera, step_mm, device)
    return np.asarray(0.1 * millimetres, dtype=np.float32)


def _chosen_backend(backend: Backend, device: str) -> str:
    if backend not in ("auto", "numba", "torch"):
        raise InputError(f"backend is {backend!r}; accepted: auto, numba, torch")
    if backend == "numba" and device != "cpu":
        raise InputError(f"backend 'numba' runs on the CPU, not on {device!r}; use 'torch' there")
    if backend == "auto":
        if device != "cpu":
            return "torch"
        try:
            require("numba")
        except MissingDependencyError:
            return "torch"
        return "numba"
    return backend


def available_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _march_numba(
    volume: MarchVolume, rays: _Rays, camera: Camera, step_mm: float, threads: int | None
) -> NDArray[np.float32]:
    require("numba")
    from xray_registration.rendering.xray_model._march_numba import march_rows

    out = np.empty((camera.height, camera.width, 2), dtype=np.float32)

    def march(row: int) -> None:
        march_rows(
            volume.density,
            volume.occupied,
            _BRICK_SHIFT,
            rays.index_from_pixel,
            rays.direction_from_pixel,
            rays.source_index,
            rays.lower,
            rays.upper,
            float(step_mm),
            row,
            min(row + _ROWS_PER_TASK, camera.height),
            out,
        )

    with ThreadPoolExecutor(max_workers=threads or available_cpus()) as pool:
        for _ in pool.map(march, range(0, camera.height, _ROWS_PER_TASK)):
            pass
    return out


def _march_torch(
    volume: MarchVolume, rays: _Rays, camera: Camera, step_mm: float, device: str
) -> NDArray[np.float32]:
    """The same samples through torch.grid_sample; slower, for machines without numba and for
    GPUs.
    """
    import torch

    # (1, 2, Z, Y, X) view of the interleaved array: no second copy of the volume on the CPU
    densities = torch.from_numpy(volume.density).to(device).permute(3, 0, 1, 2)[None]
    sizes = torch.tensor(volume.density.shape[2::-1], dtype=torch.float64, device=device)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = np.stack((u.ravel(), v.ravel(), np.ones(u.size)), axis=-1)
    slopes = pixels @ rays.index_from_pixel.T
    norms = np.linalg.norm(pixels @ rays.direction_from_pixel.T, axis=-1)
    enter, leave = _clip(rays, slopes)
    length = (leave - enter) * norms
    counts = np.maximum(np.ceil(length / step_mm), 1.0)
    result = np.zeros((len(pixels), 2), dtype=np.float32)
    inside = np.flatnonzero(leave > enter)
    if not inside.size:
        return result.reshape(camera.height, camera.width, 2)
    longest = int(counts[inside].max())
    chunk = max(1, _TORCH_SAMPLES // longest)
    steps = torch.arange(longest, dtype=torch.float64, device=device) + 0.5
    source = torch.from_numpy(rays.source_index).to(device)
    for begin in range(0, inside.size, chunk):
        chosen = inside[begin : begin + chunk]
        part = (leave - enter)[chosen] / counts[chosen]
        first, part_t, slope, count = (
            torch.from_numpy(np.ascontiguousarray(values[:, None])).to(device)
            for values in (enter[chosen], part, slopes[chosen], counts[chosen])
        )
        depth = first + steps * part_t
        index = source + depth[..., None] * slope
        grid = (2.0 * index / (sizes - 1.0) - 1.0).to(torch.float32)
        sampled = torch.nn.functional.grid_sample(
            densities, grid[None, None], mode="bilinear", padding_mode="border", align_corners=True
        )[0, :, 0]
        sums = torch.where(steps < count, sampled, torch.zeros_like(sampled)).sum(-1)
        result[chosen] = sums.T.cpu().numpy() * (length / counts)[chosen, None]
    return result.reshape(camera.height, camera.width, 2)


def _clip(
    rays: _Rays, slopes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depths (N,) at which each ray enters and leaves the box; leave <= enter for a miss."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a = (rays.lower - rays.source_index) / slopes
        b = (rays.upper - rays.source_index) / slopes
    parallel = slopes == 0.0
    between = (rays.source_index >= rays.lower) & (rays.source_index <= rays.upper)
    near = np.where(parallel, np.where(between, -np.inf, np.inf), np.minimum(a, b))
    far = np.where(parallel, np.where(between, np.inf, -np.inf), np.maximum(a, b))
    return np.maximum(near.max(axis=-1), 0.0), far.min(axis=-1)
