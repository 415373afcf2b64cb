"""A crowd of patients made up from a few CTs: what a network for patients to come learns from.

There are far fewer CTs than patients. Cut out at another place, turned, mirrored, stretched, warped
beyond what anatomy allows, and laid over one another, a handful of CTs becomes hundreds of bodies
that have nothing in common but that they are bone in soft tissue. What tells a pose in all of them
will do so in the next one.

All bodies are boxes of one size about their own isocentre, so that a batch can show as many of them
as it has pictures: on a GPU some thousand pictures a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.crowd_bodies import BodyMaker, CrowdConfig
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.rendering import AttenuationVolume, JosephProjector

_VIEWS = 32  # that are rendered at a time: 200 MB of sample positions
_STEEPEST = 0.3  # cosine of the beam and the axis that is stepped along


class Crowd:
    """The bodies, and pictures of them.

    Attributes:
        count: of patients.
        variants: of each.
    """

    def __init__(
        self,
        cts: Sequence[CTVolume],
        config: CrowdConfig,
        space: PoseSpace,
        spacing_mm: float,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make them up (a tenth of a second each on a CPU).

        Args:
            cts: what they are made of.
            config: how.
            space: the poses that pictures are taken from, about the point (0, 0, 0).
            spacing_mm: of the bodies' voxels.
            seed: of the bodies.
            device: where they are kept and rendered.

        Raises:
            InputError: no CT, or one without bone; poses from all sides.
        """
        self.count = config.count
        self.variants, self._spacing = config.variants, spacing_mm
        self._device = torch.device(device)
        beam = space.nominal[2, :3]
        axis = int(np.abs(beam).argmax())
        sampled = space.sample(np.random.default_rng(0), 256)[:, 2, axis].abs()
        if float(sampled.min()) < _STEEPEST:
            raise InputError(
                f"{space}: the views differ by too much; expected them to stay within 70 degrees "
                f"of the patient's {'xyz'[axis]} axis."
            )
        # the stepping axis first: [along, across, fast]
        across, fast = (other for other in (2, 1, 0) if other != axis)
        self._order = (axis, across, fast)
        maker = BodyMaker(cts, config, spacing_mm, self._order, self._device)
        self._bodies = torch.empty(
            (config.count * config.variants, *maker.shape), dtype=torch.float16, device=self._device
        )
        for patient in range(config.count):
            for variant in range(config.variants):
                body = maker.made(seed, patient, variant)
                self._bodies[patient * config.variants + variant] = body

    def line_integrals(
        self,
        patients: NDArray[np.int64],
        variants: NDArray[np.int64],
        poses: Tensor,
        camera: Camera,
    ) -> Tensor:
        """(B, H, W) float32 of mu ds, by Joseph's method (on a GPU along one axis for all).

        Args:
            patients, variants: (B,) whom to render.
            poses: camera_from_patient (B, 4, 4), mm.
            camera: of all.
        """
        bodies = torch.from_numpy(patients * self.variants + variants)
        if self._device.type == "cpu":  # its compiled kernel is faster, one body at a time
            return torch.cat(
                [
                    self._projector(body).image(pose[None], camera)
                    for body, pose in zip(bodies.tolist(), poses, strict=True)
                ]
            )
        parts = [
            self._rendered(bodies[first : first + _VIEWS], poses[first : first + _VIEWS], camera)
            for first in range(0, len(bodies), _VIEWS)
        ]
        return torch.cat(parts)

    def _projector(self, body: int) -> JosephProjector:
        """Of one body, on its grid [z, y, x]."""
        axes = [self._order.index(axis) for axis in (2, 1, 0)]
        mu = self._bodies[body].permute(axes).to(torch.float32)
        grid = np.diag([self._spacing] * 3 + [1.0])
        grid[:3, 3] = [-0.5 * self._spacing * (n - 1) for n in mu.shape[::-1]]
        return JosephProjector(AttenuationVolume(mu, grid), (0.0, 0.0, 0.0))

    def _rendered(self, bodies: Tensor, poses: Tensor, camera: Camera) -> Tensor:
        height, width = camera.height, camera.width
        volumes = self._bodies[bodies.to(self._device)].to(torch.float32)
        count, along, across, fast = volumes.shape
        matrices = poses.to(self._device, torch.float32)
        rotation, translation = matrices[:, :3, :3], matrices[:, :3, 3]
        source = -(rotation.mT @ translation[..., None])[..., 0][:, self._order]
        pixel = torch.stack(
            torch.meshgrid(
                torch.arange(width, dtype=torch.float64),
                torch.arange(height, dtype=torch.float64),
                indexing="xy",
            ),
            -1,
        )
        pixel = torch.cat((pixel, torch.ones_like(pixel[..., :1])), -1)
        inverse = torch.from_numpy(np.linalg.inv(camera.K).astype(np.float64))
        ray = (pixel @ inverse.T).to(self._device, torch.float32)  # (H, W, 3), z = 1
        direction = torch.einsum("brc,hwr->bhwc", rotation, ray)[..., self._order]
        step = self._spacing / direction[..., 0].abs()  # of the depth z, per slice
        slices = self._spacing * (torch.arange(along, device=self._device) - (along - 1) / 2)
        depth = (slices[None, :] - source[:, :1])[..., None, None] / direction[:, None, ..., 0]
        half = 0.5 * self._spacing * (torch.tensor([fast, across], device=self._device) - 1)
        slope = direction[..., [2, 1]] / half
        start = source[:, [2, 1]] / half
        grid = start[:, None, None, None] + depth[..., None] * slope[:, None]
        values = F.grid_sample(
            volumes.view(count * along, 1, across, fast),
            grid.view(count * along, height, width, 2),
            align_corners=True,
        )
        total = values.view(count, along, height, width).sum(1)
        return total * step * ray.norm(dim=-1)
