"""DiffDRR behind our interface, and our caster against it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, inverse
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.rendering.diffdrr_backend import DiffDRRProjector

pytest.importorskip("diffdrr.renderers", reason="diffdrr is not installed")

# rotations about the camera's axes, and cameras of a C-arm: frontal, lateral, oblique, tilted
VIEWS = {
    "frontal": ((0.05, 0.02, -0.04), Camera.from_detector(56, 56, 6.0, 1020.0)),
    "lateral": ((0.03, 1.5, 0.1), Camera.from_detector(64, 40, (5.0, 7.0), 1020.0)),
    "oblique, off-centre": (
        (0.1, 0.6, 0.2),
        Camera(np.array([[150.0, 3.0, 18.0], [0, 180.0, 40.0], [0, 0, 1]]), 48, 52),
    ),
    "cranial": ((0.45, -0.2, 1.6), Camera.from_detector(50, 50, 4.0, 1100.0, cx=30.0, cy=20.0)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_our_picture_is_diffdrrs(view, example_volume, looking_at) -> None:
    """Less than 1 % of relative difference on the real CT, for both back ends."""
    rotation, camera = VIEWS[view]
    pose = looking_at(example_volume.centre_lps_mm, 700.0, rotation)[None]
    reference = DiffDRRProjector(example_volume).image(pose, camera)
    assert reference.max() > 2  # the thorax is in the picture
    backends = ["torch", JosephProjector(example_volume).backend]
    for backend in backends:
        ours = JosephProjector(example_volume, backend=backend).image(pose, camera)
        assert (ours - reference).norm() < 0.01 * reference.norm(), backend


def test_siddon_is_the_same_picture_of_blocks(example_volume, looking_at) -> None:
    rotation, camera = VIEWS["oblique, off-centre"]
    pose = looking_at(example_volume.centre_lps_mm, 700.0, rotation)[None]
    reference = DiffDRRProjector(example_volume, renderer="siddon").image(pose, camera)
    ours = JosephProjector(example_volume).image(pose, camera)
    assert (ours - reference).norm() < 0.015 * reference.norm()


def test_rays_are_those_of_diffdrrs_own_detector(example_volume, looking_at) -> None:
    """The whole of DiffDRR (its DRR module, detector, pose and affine) on the same picture.

    Its detector has no skew and counts pixels from the image's middle.
    """
    drr = pytest.importorskip("diffdrr.drr")
    pose_module = pytest.importorskip("diffdrr.pose")
    torchio = pytest.importorskip("torchio")
    height, width, pitch, sdd = 40, 48, 7.0, 1020.0
    camera = Camera.from_detector(width, height, pitch, sdd)
    pose = looking_at(example_volume.centre_lps_mm, 700.0, (0.1, 0.3, 0.05))[None]
    data = example_volume.mu_per_mm.permute(2, 1, 0)[None].contiguous()
    image = torchio.ScalarImage(tensor=data, affine=example_volume.lps_from_index)
    subject = torchio.Subject(volume=image, density=image, mask=None, reorient=torch.eye(4))
    module = drr.DRR(
        subject, sdd, height, pitch, width=width, reverse_x_axis=True, renderer="trilinear"
    )
    # its rows run along -y and, mirrored as by default, its columns along -x of its camera frame
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    ct_from_theirs = inverse(pose) @ half_turn
    theirs = module(pose_module.RigidTransform(ct_from_theirs.float()), n_points=900)[:, 0]
    ours = DiffDRRProjector(example_volume).image(pose, camera)
    assert (ours - theirs).norm() < 0.003 * theirs.norm()


def test_central_differences(gaussians, centred_affine, looking_at, odd_camera) -> None:
    shape = (60, 64, 56)
    affine = centred_affine(shape, (2.4, 2.2, 2.6), (0.1, 0.3, -0.2), flips=(-1, 1, 1))
    volume = gaussians.on_grid(shape, affine)
    poses = torch.stack([looking_at((0, 0, 0), 420, r) for r in ((0.1, 0.2, -0.3), (0.1, 1.4, 0))])
    centre = (5.0, -8.0, 3.0)
    image, jacobian = DiffDRRProjector(volume, centre).image_and_jacobian(poses, odd_camera)
    ours, our_jacobian = JosephProjector(volume, centre).image_and_jacobian(poses, odd_camera)
    assert (image - ours).norm() < 0.01 * ours.norm()
    difference = (jacobian - our_jacobian).norm(dim=(2, 3)) / our_jacobian.norm(dim=(2, 3))
    assert difference.max() < 0.03


def test_chunks_and_batches(gaussians, centred_affine, looking_at, odd_camera) -> None:
    shape = (30, 32, 28)
    volume = gaussians.on_grid(shape, centred_affine(shape, (4.8, 4.4, 5.2)), torch.float32)
    poses = torch.stack([looking_at((0, 0, 0), 420, r) for r in ((0.1, 0.2, -0.3), (0.1, 1.4, 0))])
    for renderer in ("trilinear", "siddon"):
        whole, parts = (
            DiffDRRProjector(volume, renderer=renderer, samples_per_call=n)  # type: ignore[arg-type]
            for n in (1 << 62, 10_000)
        )
        image = whole.image(poses, odd_camera)
        pieces = torch.cat([parts.image(pose, odd_camera) for pose in poses])
        assert (image - pieces).abs().max() < 1e-5 * image.max()


def test_reverse_mode(gaussians, centred_affine, looking_at, odd_camera) -> None:
    """Autograd through DiffDRR gives the pose what its central differences give."""
    from xray_registration.geometry import left_increment

    shape = (30, 32, 28)
    volume = gaussians.on_grid(shape, centred_affine(shape, (4.8, 4.4, 5.2)))
    pose = looking_at((0, 0, 0), 420, (0.1, 0.2, -0.3))
    projector = DiffDRRProjector(volume, samples=120, step_mm=1e-4, step_rad=1e-6)
    _, jacobian = projector.image_and_jacobian(pose[None], odd_camera)
    xi = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    centre = torch.from_numpy(projector.isocentre_lps_mm)
    image = projector.image(left_increment(pose, xi, centre), odd_camera)
    weight = torch.rand_like(image)
    (image * weight).sum().backward()
    assert xi.grad is not None
    expected = torch.einsum("bhw,bqhw->bq", weight, jacobian)
    # the sampled depths move with the pose in the differences and not in the reverse mode
    assert (xi.grad - expected).norm() < 0.05 * expected.norm()


def test_bad_arguments(centred_affine) -> None:
    volume = AttenuationVolume(torch.rand(5, 5, 5), centred_affine((5, 5, 5), (1, 1, 1)))
    with pytest.raises(InputError, match="renderer"):
        DiffDRRProjector(volume, renderer="joseph")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="samples"):
        DiffDRRProjector(volume, samples=1)
    with pytest.raises(InputError, match="step_mm"):
        DiffDRRProjector(volume, step_mm=0.0)
    with pytest.raises(InputError, match="samples_per_call"):
        DiffDRRProjector(volume, samples_per_call=0)
