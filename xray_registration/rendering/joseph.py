"""The default projector: Joseph's method with an exact Jacobian, compiled or in torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.rendering import joseph_torch, native_kernel
from xray_registration.rendering.attenuation_volume import AttenuationVolume
from xray_registration.rendering.joseph_sums import centre_slice
from xray_registration.rendering.projector import PoseGradient, Projector, checked_poses
from xray_registration.rendering.ray_geometry import (
    Layout,
    RayGeometry,
    dominant_axis,
    group_by_layout,
    ray_geometry,
)

Backend = Literal["auto", "native", "torch"]
# The native kernel's volume, its filled blocks, mu per count.
_Counts = tuple[NDArray[np.int16], NDArray[np.int32] | None, float]
_PAD = 2  # voxels of zeros around the native kernel's volume

_log = logging.getLogger(__name__)


class JosephProjector(Projector):
    """Line integrals by one bilinear sample per slice of the axis that the rays run along.

    mu is 0 outside the grid and falls to 0 over one voxel at its sides. The whole volume must lie
    in front of the source (camera z > 0): what lies behind it would be counted as well.
    """

    def __init__(
        self,
        volume: AttenuationVolume,
        isocentre_lps_mm: ArrayLike | None = None,
        backend: Backend = "auto",
        slice_mm: float | None = None,
    ) -> None:
        """Prepare to render ``volume``; nothing is computed yet.

        Args:
            volume: mu; its device and precision are those of the images. A volume that requires a
                gradient gets one from images and from Jacobians, of any order (both are linear in
                it).
            isocentre_lps_mm: centre of rotations (3,); the centre of the grid when None.
            backend: "native" (compiled, CPU, float32), "torch", or "auto": native where it can be
                had and the volume is float32 on the CPU without a gradient.
            slice_mm: voxels are averaged along the rays, and only there, to about this length, so
                that there are fewer samples; None: as they are. What is lost is small beside what
                the same averaging across the rays would lose.
        """
        centre = volume.centre_lps_mm if isocentre_lps_mm is None else isocentre_lps_mm
        super().__init__(centre)
        if min(volume.mu_per_mm.shape) < 2:
            raise InputError(
                f"the volume has shape {tuple(volume.mu_per_mm.shape)}; expected 2 or more voxels "
                "along every axis."
            )
        self.volume = volume
        self.backend = _chosen_backend(backend, volume)
        self._slice_mm = slice_mm
        self._thick: dict[int, AttenuationVolume] = {}
        self._slices: dict[Layout, Tensor] = {}
        self._counts: dict[Layout, _Counts] = {}

    def with_slices_of(self, slice_mm: float) -> JosephProjector:
        """The same volume with voxels of about that length along the rays."""
        return JosephProjector(self.volume, self.isocentre_lps_mm, self.backend, slice_mm)

    def sampling_axes(self, camera_from_ct: Tensor) -> Sequence[int]:
        """The stepping axis of each pose: 0, 1, 2 for i, j, k."""
        poses = _as_numpy(checked_poses(camera_from_ct))
        return [dominant_axis(pose, self.volume) for pose in poses]

    def image(
        self,
        camera_from_ct: Tensor,
        camera: Camera,
        sampling_axes: Sequence[int] | None = None,
    ) -> Tensor:
        poses = checked_poses(camera_from_ct)
        if torch.is_grad_enabled() and poses.requires_grad:
            image, jacobian = self.image_and_jacobian(poses, camera, sampling_axes)
            centre = torch.from_numpy(self.isocentre_lps_mm).to(poses.device)
            with_pose: Tensor = PoseGradient.apply(poses, image, jacobian, centre)
            return with_pose
        return self._render(poses, camera, sampling_axes, jacobian=False)[0]

    def image_and_jacobian(
        self,
        camera_from_ct: Tensor,
        camera: Camera,
        sampling_axes: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        image, jacobian = self._render(
            checked_poses(camera_from_ct), camera, sampling_axes, jacobian=True
        )
        assert jacobian is not None
        return image, jacobian

    def _render(
        self, poses: Tensor, camera: Camera, axes: Sequence[int] | None, jacobian: bool
    ) -> tuple[Tensor, Tensor | None]:
        geometries = self._geometries(poses, camera, axes)
        groups = group_by_layout(geometries)
        if self.backend == "native":
            return self._render_native(geometries, groups, camera, jacobian)
        size = (camera.height, camera.width)
        images: dict[int, Tensor] = {}
        jacobians: dict[int, Tensor] = {}
        for layout, places in groups.items():
            slices, members = self._arranged(layout), [geometries[p] for p in places]
            if jacobian:
                pictures, derivatives = joseph_torch.image_and_jacobian(slices, members, size)
                jacobians.update(zip(places, derivatives, strict=True))
            else:
                pictures = joseph_torch.image(slices, members, size)
            images.update(zip(places, pictures, strict=True))
        order = range(len(geometries))
        return (
            torch.stack([images[p] for p in order]),
            torch.stack([jacobians[p] for p in order]) if jacobian else None,
        )

    def _render_native(
        self,
        geometries: Sequence[RayGeometry],
        groups: dict[Layout, list[int]],
        camera: Camera,
        jacobian: bool,
    ) -> tuple[Tensor, Tensor | None]:
        batch, height, width = len(geometries), camera.height, camera.width
        image = torch.empty(batch, height, width)
        derivative = torch.empty(batch, 6, height, width) if jacobian else None
        for layout, places in groups.items():
            counts, filled, mu_per_count = self._padded(layout)
            middle = centre_slice((counts.shape[1],))
            packed = np.stack([_packed(geometries[p], mu_per_count, middle) for p in places])
            native_kernel.project(
                counts,
                filled,
                packed,
                np.array(places, np.int32),
                image.numpy(),
                None if derivative is None else derivative.numpy(),
                torch.get_num_threads(),
            )
        return image, derivative

    def _geometries(
        self, poses: Tensor, camera: Camera, axes: Sequence[int] | None
    ) -> list[RayGeometry]:
        matrices = _as_numpy(poses)
        chosen = self.sampling_axes(poses) if axes is None else list(axes)
        if len(chosen) != len(matrices) or not set(chosen) <= {0, 1, 2}:
            raise InputError(
                f"sampling_axes is {axes}; expected 0, 1 or 2 for each of {len(matrices)} poses."
            )
        ray_from_pixel = np.asarray(np.linalg.inv(camera.K))
        return [
            ray_geometry(pose, ray_from_pixel, self._along(axis), self.isocentre_lps_mm, axis)
            for pose, axis in zip(matrices, chosen, strict=True)
        ]

    def _along(self, axis: int) -> AttenuationVolume:
        """The volume for rays along an axis (0, 1, 2 for i, j, k)."""
        if self._slice_mm is None:
            return self.volume
        if axis not in self._thick or self.volume.mu_per_mm.requires_grad:
            factors = [1, 1, 1]
            factors[axis] = self.volume.factors_for(self._slice_mm)[axis]
            self._thick[axis] = self.volume.coarsened((factors[0], factors[1], factors[2]))
        return self._thick[axis]

    def _arranged(self, layout: Layout) -> Tensor:
        mu = self._along(layout[0]).mu_per_mm
        if mu.requires_grad:
            return joseph_torch.arranged(mu, layout)
        if layout not in self._slices:
            self._slices[layout] = joseph_torch.arranged(mu, layout)
        return self._slices[layout]

    def _padded(self, layout: Layout) -> _Counts:
        if layout not in self._counts:
            mu = self._along(layout[0]).mu_per_mm
            counts, mu_per_count = joseph_torch.padded_counts(mu, layout)
            self._counts[layout] = counts, native_kernel.filled_blocks(counts), mu_per_count
        return self._counts[layout]


def _chosen_backend(backend: Backend, volume: AttenuationVolume) -> Literal["native", "torch"]:
    if backend not in ("auto", "native", "torch"):
        raise InputError(f"backend is {backend!r}; expected 'auto', 'native' or 'torch'.")
    if backend == "torch":
        return "torch"
    mu = volume.mu_per_mm
    if mu.is_cuda or mu.dtype != torch.float32 or mu.requires_grad:
        unfit: str | None = "it takes a float32 volume on the CPU without a gradient"
    elif np.prod([n + 2 * _PAD for n in mu.shape]) >= 2**31:
        unfit = "the volume has more than 2^31 voxels"
    else:
        unfit = native_kernel.unavailable_reason()
    if unfit is None:
        return "native"
    if backend == "native":
        raise InputError(f"backend 'native' cannot be used: {unfit}.")
    _log.info("projecting with torch, not the compiled kernel: %s", unfit)
    return "torch"


def _packed(geometry: RayGeometry, mu_per_count: float, middle: float) -> NDArray[np.float32]:
    """The C struct ``Geometry``: the padding shifts the source along "across" and "fast"."""
    return np.concatenate(
        [
            geometry.source + np.array([0, _PAD, _PAD]),
            geometry.index_from_ray.ravel(),
            geometry.camera_from_gradient.ravel(),
            geometry.isocentre_camera_mm,
            geometry.ray_from_pixel.ravel(),
            (mu_per_count, middle),
        ]
    ).astype(np.float32)


def _as_numpy(poses: Tensor) -> NDArray[np.float64]:
    matrices: NDArray[np.float64] = poses.detach().to("cpu", torch.float64).numpy()
    return matrices
