"""Phantoms with known line integrals, and poses that look at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xray_registration.geometry import Camera, so3_exp
from xray_registration.rendering import AttenuationVolume

Affine = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussians:
    """mu(p) = sum of a exp(-|p - c|^2 / (2 s^2)): smooth, with line integrals in closed form."""

    amplitude: NDArray[np.float64]  # (N,) per mm
    centre_lps_mm: NDArray[np.float64]  # (N, 3)
    sigma_mm: NDArray[np.float64]  # (N,)

    def on_grid(
        self, shape_ijk: Sequence[int], lps_from_index: Affine, dtype: torch.dtype = torch.float64
    ) -> AttenuationVolume:
        k, j, i = np.meshgrid(*(np.arange(n) for n in reversed(shape_ijk)), indexing="ij")
        points = np.stack([i, j, k], -1) @ lps_from_index[:3, :3].T + lps_from_index[:3, 3]
        mu = np.zeros(points.shape[:3])
        for a, c, s in zip(self.amplitude, self.centre_lps_mm, self.sigma_mm, strict=True):
            mu += a * np.exp(-((points - c) ** 2).sum(-1) / (2 * s * s))
        return AttenuationVolume(torch.from_numpy(mu).to(dtype), lps_from_index)

    def image(self, camera_from_ct: torch.Tensor, camera: Camera) -> torch.Tensor:
        """Exact line integrals (B, H, W), float64."""
        rays = camera.rays(torch.float64)
        direction = rays / rays.norm(dim=-1, keepdim=True)
        total = torch.zeros(len(camera_from_ct), camera.height, camera.width, dtype=torch.float64)
        for a, c, s in zip(self.amplitude, self.centre_lps_mm, self.sigma_mm, strict=True):
            centre = camera_from_ct[:, :3, :3] @ torch.from_numpy(c) + camera_from_ct[:, :3, 3]
            offset = torch.linalg.cross(direction[None], centre[:, None, None, :])
            distance_sq = (offset**2).sum(-1)
            total += a * s * np.sqrt(2 * np.pi) * torch.exp(-distance_sq / (2 * s * s))
        return total


@pytest.fixture(scope="session")
def gaussians() -> Gaussians:
    """Three blobs within 45 mm of the origin; the grids of the tests reach 5 sigma further."""
    return Gaussians(
        amplitude=np.array([0.03, 0.05, 0.04]),
        centre_lps_mm=np.array([[2.0, -6.0, 4.0], [-18.0, 12.0, -3.0], [14.0, 10.0, -16.0]]),
        sigma_mm=np.array([14.0, 9.0, 8.0]),
    )


@pytest.fixture(scope="session")
def centred_affine() -> Callable[..., Affine]:
    """Affine of a grid whose middle is at the origin: spacing, rotation vector, flipped axes."""

    def build(
        shape_ijk: Sequence[int],
        spacing_mm: Sequence[float],
        rotation: Sequence[float] = (0.0, 0.0, 0.0),
        order: Sequence[int] = (0, 1, 2),
        flips: Sequence[int] = (1, 1, 1),
    ) -> Affine:
        axes = so3_exp(torch.tensor(rotation, dtype=torch.float64)).numpy()
        directions = np.eye(3)[:, list(order)] * np.array(flips)
        affine = np.eye(4)
        affine[:3, :3] = axes @ directions @ np.diag(spacing_mm)
        affine[:3, 3] = -affine[:3, :3] @ (np.array(shape_ijk) - 1) / 2
        return affine

    return build


@pytest.fixture(scope="session")
def looking_at() -> Callable[..., torch.Tensor]:
    """camera_from_ct (4, 4) with a point on the optical axis, turned by a rotation vector.

    With no rotation the camera looks along +y of the CT (from the front), its rows downwards to the
    feet.
    """

    def build(
        point_lps_mm: Sequence[float] | NDArray[np.float64],
        distance_mm: float,
        rotation: Sequence[float] = (0.0, 0.0, 0.0),
        shift_mm: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> torch.Tensor:
        frontal = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
        turned = so3_exp(torch.tensor(rotation, dtype=torch.float64)) @ frontal
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = turned
        pose[:3, 3] = (
            torch.tensor([0.0, 0.0, distance_mm], dtype=torch.float64)
            + torch.tensor(shift_mm, dtype=torch.float64)
            - turned @ torch.as_tensor(np.array(point_lps_mm, dtype=np.float64))
        )
        return pose

    return build


@pytest.fixture(scope="session")
def odd_camera() -> Camera:
    """Nothing is square or centred: skew, two pixel sizes, an off-centre principal point."""
    k = np.array([[310.0, 4.0, 20.3], [0, 240.0, 19.1], [0, 0, 1]])
    return Camera(k, 45, 37, 900.0)


@pytest.fixture(scope="session")
def example_volume(example_ct) -> AttenuationVolume:  # type: ignore[no-untyped-def]
    """The example CT at about 1.4 mm."""
    return AttenuationVolume.from_ct(example_ct, spacing_mm=1.4)
