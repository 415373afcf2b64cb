"""The same code on a GPU. Skipped without one."""

from __future__ import annotations

import pytest
import torch

from xray_registration.geometry import left_increment, so3_exp
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.rendering.homography import covering_camera, resample_turned

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SHAPE = (60, 64, 56)


@pytest.fixture
def volume(gaussians, centred_affine) -> AttenuationVolume:
    affine = centred_affine(SHAPE, (2.4, 2.2, 2.6), (0.1, 0.3, -0.2), flips=(-1, 1, 1))
    return gaussians.on_grid(SHAPE, affine, torch.float32)


@pytest.fixture
def poses(looking_at) -> torch.Tensor:
    rotations = ((0.1, 0.2, -0.3), (1.45, 0.0, 0.2), (0.1, 1.4, 0.0))
    return torch.stack([looking_at((0, 0, 0), 420, r) for r in rotations])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("poses_on", ["cpu", "cuda"])
def test_picture_and_jacobian_are_those_of_the_cpu(
    dtype, poses_on, volume, poses, odd_camera
) -> None:
    reference = JosephProjector(volume.to("cpu", torch.float64))
    image, jacobian = reference.image_and_jacobian(poses, odd_camera)
    projector = JosephProjector(volume.to("cuda", dtype))
    assert projector.backend == "torch"
    on_gpu, jacobian_on_gpu = projector.image_and_jacobian(poses.to(poses_on), odd_camera)
    assert on_gpu.is_cuda
    assert on_gpu.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 1e-7  # the volume is made in float32
    assert (on_gpu.cpu().double() - image).norm() < tolerance * image.norm()
    assert (jacobian_on_gpu.cpu().double() - jacobian).norm() < 10 * tolerance * jacobian.norm()


def test_reverse_mode(volume, poses, odd_camera) -> None:
    gradients = []
    for device in ("cpu", "cuda"):
        mu = volume.mu_per_mm.to(device, torch.float64).requires_grad_()
        projector = JosephProjector(AttenuationVolume(mu, volume.lps_from_index))
        xi = torch.zeros(3, 6, dtype=torch.float64, device=device, requires_grad=True)
        centre = torch.from_numpy(projector.isocentre_lps_mm).to(device)
        image = projector.image(left_increment(poses.to(device), xi, centre), odd_camera)
        gradients.append([g.cpu() for g in torch.autograd.grad(image.square().sum(), (xi, mu))])
    for on_cpu, on_gpu in zip(*gradients, strict=True):
        assert (on_cpu - on_gpu).norm() < 1e-8 * on_cpu.norm()


def test_homography(volume, poses, odd_camera) -> None:
    rotation = so3_exp(torch.tensor([[0.02, 0.03, 0.5]], dtype=torch.float64))
    wide = covering_camera(odd_camera, rotation)
    results = []
    for device in ("cpu", "cuda"):
        picture = JosephProjector(volume.to(device), backend="torch").image(poses[:1], wide)
        image, inside = resample_turned(picture, wide, odd_camera, rotation.to(device))
        assert inside.all()
        results.append(image.cpu())
    assert (results[0] - results[1]).norm() < 1e-4 * results[0].norm()
