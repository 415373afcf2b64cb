"""DiffDRR's own renderers behind the projector interface: the reference that ours is held against.

V. Gopalakrishnan and P. Golland, "Fast Auto-Differentiable Digitally Reconstructed Radiographs for
Solving Inverse Problems in Intraoperative Imaging" (CLIP workshop, MICCAI 2022); package
``diffdrr`` 0.6.1. It is one to two orders of magnitude slower than ``JosephProjector``.

DiffDRR's detector model knows no skew and puts pixel centres at +0.5. Its renderers only ask for
the end points of the rays, in index units; these are computed here from the ``Camera``, so that any
K, image size, pose and affine goes in and no half pixel has to be converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.geometry.se3 import left_increment
from xray_registration.optional import require
from xray_registration.rendering.attenuation_volume import AttenuationVolume
from xray_registration.rendering.projector import Projector, checked_poses

Renderer = Literal["trilinear", "siddon"]

# Samples of one call of the renderer, which holds about 40 bytes for each at a time. Measured:
# twice as fast as whole images of 128 x 128, whose temporaries are always fresh memory.
_SAMPLES_PER_CALL = 1 << 20


class DiffDRRProjector(Projector):
    """Line integrals by DiffDRR's ``Trilinear`` (ray marching) or ``Siddon`` (exact voxel lengths).

    The volume counts as for ``JosephProjector``: mu is 0 outside the grid, and the whole of it must
    lie in front of the source. ``image`` has a reverse mode to the pose and to the volume through
    torch; Siddon's gradient with respect to the pose is of little use (mu is then constant within a
    voxel).
    """

    def __init__(
        self,
        volume: AttenuationVolume,
        isocentre_lps_mm: ArrayLike | None = None,
        renderer: Renderer = "trilinear",
        samples: int | None = None,
        step_mm: float = 0.1,
        step_rad: float = 1e-3,
        samples_per_call: int = _SAMPLES_PER_CALL,
    ) -> None:
        """Import DiffDRR's renderers.

        Args:
            volume: mu; its device and precision are those of the images.
            isocentre_lps_mm: centre of rotations (3,); the centre of the grid when None.
            renderer: "trilinear" or "siddon".
            samples: samples per ray of "trilinear", from the nearest to the farthest depth of the
                volume; None takes as many as smallest voxel edges fit into its diagonal.
            step_mm, step_rad: half widths of the central differences.
            samples_per_call: bounds the memory. Poses, then pixels, are split into calls of about
                this many samples; the picture does not depend on it.

        Raises:
            InputError: an argument is not one of these.
            MissingDependencyError: diffdrr is not installed.
        """
        centre = volume.centre_lps_mm if isocentre_lps_mm is None else isocentre_lps_mm
        super().__init__(centre)
        if renderer not in ("trilinear", "siddon"):
            raise InputError(f"renderer is {renderer!r}; expected 'trilinear' or 'siddon'.")
        if samples is not None and samples < 2:
            raise InputError(f"samples is {samples}; expected 2 or more, or None.")
        if not (step_mm > 0 and step_rad > 0):
            raise InputError(f"step_mm = {step_mm}, step_rad = {step_rad}; expected both > 0.")
        if samples_per_call < 1:
            raise InputError(f"samples_per_call is {samples_per_call}; expected 1 or more.")
        renderers = require("diffdrr.renderers", pip="--no-deps diffdrr==0.6.1")
        self.volume = volume
        self.renderer = renderer
        self.samples = _samples_of(volume) if samples is None else samples
        self.samples_per_call = samples_per_call
        self._steps = torch.tensor([step_mm] * 3 + [step_rad] * 3, dtype=torch.float64)
        self._render: Any = renderers.Trilinear() if renderer == "trilinear" else renderers.Siddon()

    def image(
        self,
        camera_from_ct: Tensor,
        camera: Camera,
        sampling_axes: Sequence[int] | None = None,
    ) -> Tensor:
        poses = checked_poses(camera_from_ct)
        per_ray = self.samples
        if self.renderer == "siddon":
            per_ray = sum(self.volume.shape_ijk) + 3
        rays = camera.rays(torch.float64, poses.device).reshape(-1, 3)
        rays_at_once = max(1, self.samples_per_call // per_ray)
        poses_at_once = max(1, rays_at_once // len(rays))
        images = [self._some_poses(some, rays, rays_at_once) for some in poses.split(poses_at_once)]
        return torch.cat(images).view(len(poses), camera.height, camera.width)

    def image_and_jacobian(
        self,
        camera_from_ct: Tensor,
        camera: Camera,
        sampling_axes: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The image and its central differences: thirteen renderings of every pose."""
        poses = checked_poses(camera_from_ct).detach()
        steps = self._steps.to(poses.device)
        increments = torch.cat((torch.diag(steps), -torch.diag(steps)))
        centre = torch.from_numpy(self.isocentre_lps_mm).to(poses.device)
        moved = left_increment(poses[:, None].double(), increments, centre)
        every = torch.cat((poses[:, None].double(), moved), 1).flatten(0, 1)
        with torch.no_grad():
            images = self.image(every, camera).unflatten(0, (len(poses), 13))
        difference = images[:, 1:7] - images[:, 7:]
        return images[:, 0], difference / (2 * steps.to(images)[:, None, None])

    def _some_poses(self, poses: Tensor, rays: Tensor, rays_at_once: int) -> Tensor:
        """Images (B, N) of rays (N, 3) in the camera frame, z = 1."""
        near, far = self._depths(poses.detach())
        rotation, translation = poses.double()[:, :3, :3], poses.double()[:, :3, 3:]
        affine = torch.as_tensor(self.volume.lps_from_index.copy(), device=poses.device)
        index_from_mm = torch.linalg.inv(affine[:3, :3])
        source = -rotation.mT @ translation - affine[:3, 3:]
        # DiffDRR's "target" of a ray: its point in the plane of the farthest depth
        reach = rays * far[:, None, None]
        target = rotation.mT @ reach.mT + source
        source_index, target_index = ((index_from_mm @ p).mT for p in (source, target))
        volume = self.volume.mu_per_mm.permute(2, 1, 0)
        length = reach.norm(dim=-1)[:, None]
        options: dict[str, Any] = {}
        if self.renderer == "trilinear":
            options = {
                "n_points": self.samples,
                "alphamin": (near / far)[:, None, None].to(volume),
                "alphamax": torch.ones_like(far)[:, None, None].to(volume),
            }
        parts = [
            self._render(volume, source_index.to(volume), some.to(volume), mm.to(volume), **options)
            for some, mm in zip(
                target_index.split(rays_at_once, 1), length.split(rays_at_once, -1), strict=True
            )
        ]
        return torch.cat(parts, -1)[:, 0]

    def _depths(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest and farthest depth (B,) of the grid, with the voxel over which mu falls to 0."""
        edges = [(-1.0, float(n)) for n in self.volume.shape_ijk]
        corners = np.array([(i, j, k, 1.0) for i in edges[0] for j in edges[1] for k in edges[2]])
        points = torch.from_numpy(corners @ self.volume.lps_from_index.T).to(poses.device)
        depth = (poses.double()[:, 2:3] @ points.T)[:, 0]
        return depth.amin(1).clamp_min(0.0), depth.amax(1)


def _samples_of(volume: AttenuationVolume) -> int:
    edges = volume.lps_from_index[:3, :3] * np.array(volume.shape_ijk)
    # the longest diagonal of the parallelepiped
    signs = np.array([(1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1)])
    longest = np.linalg.norm(edges @ signs.T, axis=0).max()
    return int(np.ceil(longest / volume.spacing_mm.min())) + 1
