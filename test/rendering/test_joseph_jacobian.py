"""The Jacobian against float64 central differences of the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.geometry import Camera, left_increment
from xray_registration.rendering import AttenuationVolume, JosephProjector, native_kernel

needs_kernel = pytest.mark.skipif(
    native_kernel.unavailable_reason() is not None,
    reason=f"no compiled kernel: {native_kernel.unavailable_reason()}",
)
CAMERAS = {
    "square": Camera.from_detector(40, 40, 2.2, 900.0),
    "oblong pixels": Camera.from_detector(30, 50, (3.0, 1.7), 900.0),
    "skew, off-centre": Camera(np.array([[320.0, 15.0, 9.0], [0, 250.0, 33.0], [0, 0, 1]]), 37, 41),
}


def central_differences(
    projector: JosephProjector, pose: torch.Tensor, camera: Camera, step_mm: float, step_rad: float
) -> torch.Tensor:
    """(6, H, W), with the stepping axis held."""
    centre = torch.from_numpy(projector.isocentre_lps_mm)
    steps = torch.tensor([step_mm] * 3 + [step_rad] * 3, dtype=torch.float64)
    axes = list(projector.sampling_axes(pose)) * 6
    ahead, behind = (
        projector.image(left_increment(pose, sign * torch.diag(steps), centre), camera, axes)
        for sign in (1, -1)
    )
    return (ahead - behind) / (2 * steps[:, None, None])


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS.keys())
@pytest.mark.parametrize("rotation", [(0.1, 0.2, -0.3), (1.4, 0.1, 0.5), (0.2, 1.3, -0.4)])
def test_all_columns_on_a_smooth_phantom(
    rotation, camera, gaussians, centred_affine, looking_at
) -> None:
    affine = centred_affine((70, 80, 64), (1.9, 1.6, 2.1), (0.2, -0.1, 0.3), flips=(1, 1, -1))
    volume = gaussians.on_grid((70, 80, 64), affine)
    pose = looking_at((0, 0, 0), 420, rotation)
    centre = (12.0, -30.0, 7.0)  # any point, not only the middle
    truth = JosephProjector(volume, centre)
    differences = central_differences(truth, pose, camera, 1e-5, 1e-7)
    image, jacobian = truth.image_and_jacobian(pose[None], camera)
    assert torch.allclose(image, truth.image(pose[None], camera), rtol=1e-12, atol=1e-12)
    error = (jacobian[0] - differences).flatten(1).norm(dim=1) / differences.flatten(1).norm(dim=1)
    assert error.max() < 1e-3, error

    single = volume.to("cpu", torch.float32)
    backends = ["torch"] if native_kernel.unavailable_reason() else ["torch", "native"]
    for backend in backends:
        projector = JosephProjector(single, centre, backend=backend)
        image_32, jacobian_32 = projector.image_and_jacobian(pose[None], camera)
        assert (image_32 - image).norm() < 2e-4 * image.norm(), backend
        difference = (jacobian_32[0].double() - jacobian[0]).flatten(1).norm(dim=1)
        # neighbouring counts of the 16-bit volume are differenced: 1e-3 of the gradient
        assert (difference < 2e-3 * jacobian[0].flatten(1).norm(dim=1)).all(), backend


@pytest.mark.parametrize("rotation", [(0.05, 0.1, 0.0), (-0.1, 1.35, 0.2)])
def test_real_ct(rotation, example_volume, looking_at) -> None:
    """Half of the pixels are within 2 % of the median derivative, in all six columns."""
    camera = Camera.from_detector(64, 64, 4.0, 1020.0)
    pose = looking_at(example_volume.centre_lps_mm, 700.0, rotation)
    double = JosephProjector(example_volume.to("cpu", torch.float64))
    differences = central_differences(double, pose, camera, 1e-3, 1e-5)
    fast = JosephProjector(example_volume)
    _, jacobian = fast.image_and_jacobian(pose[None], camera)
    error = (jacobian[0].double() - differences).abs().flatten(1).median(dim=1).values
    scale = differences.abs().flatten(1).median(dim=1).values
    assert (error < 0.02 * scale).all(), error / scale


@needs_kernel
def test_kernel_and_torch_agree_on_the_real_ct(example_volume, looking_at) -> None:
    camera = Camera.from_detector(67, 45, (4.0, 5.0), 1020.0)  # rows are no multiple of 8 pixels
    poses = torch.stack(
        [looking_at(example_volume.centre_lps_mm, 700.0, r) for r in ((0, 0.1, 0), (0.1, 1.4, 0))]
    )
    fast, plain = (
        JosephProjector(example_volume, backend=b).image_and_jacobian(poses, camera)
        for b in ("native", "torch")
    )
    assert (fast[0] - plain[0]).abs().max() < 1e-3 * plain[0].max()
    difference = (fast[1] - plain[1]).norm(dim=(2, 3)) / plain[1].norm(dim=(2, 3))
    assert difference.max() < 2e-3


def test_isocentre_is_where_rotations_turn(gaussians, centred_affine, looking_at) -> None:
    """Moving the isocentre by d changes the rotation columns by those of the translation -w x d."""
    volume = gaussians.on_grid((60, 60, 60), centred_affine((60, 60, 60), (2.2, 2.2, 2.2)))
    camera = CAMERAS["oblong pixels"]
    pose = looking_at((0, 0, 0), 420, (0.2, 0.1, 0.4))
    shift = torch.tensor([11.0, -6.0, 17.0], dtype=torch.float64)
    _, first = JosephProjector(volume, (0, 0, 0)).image_and_jacobian(pose[None], camera)
    _, second = JosephProjector(volume, shift.numpy()).image_and_jacobian(pose[None], camera)
    in_camera = pose[:3, :3] @ shift
    moved = torch.linalg.cross(torch.eye(3, dtype=torch.float64), in_camera.expand(3, 3))
    expected = first[0, 3:] - torch.einsum("qc,chw->qhw", moved, first[0, :3])
    assert torch.allclose(second[0, :3], first[0, :3], atol=1e-12)
    assert torch.allclose(second[0, 3:], expected, atol=1e-9)


def test_volume_of_a_single_smooth_slab_keeps_its_symmetry(centred_affine, looking_at) -> None:
    """A slab that is uniform across the rays does not change when it is shifted across them."""
    mu = torch.zeros(64, 20, 64)
    mu[:, 5:15, :] = 0.02
    volume = AttenuationVolume(mu, centred_affine((64, 20, 64), (4.0, 2.0, 4.0)))
    camera = Camera.from_detector(24, 24, 4.0, 1000.0)
    _, jacobian = JosephProjector(volume).image_and_jacobian(
        looking_at((0, 0, 0), 700.0)[None], camera
    )
    assert jacobian[0, :3].abs().max() < 1e-6
    assert jacobian[0, 5].abs().max() < 1e-6  # nor when turned in its plane
