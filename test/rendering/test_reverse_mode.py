"""Gradients to the pose and to the volume, and through a similarity's own pose gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, left_increment
from xray_registration.rendering import AttenuationVolume, JosephProjector, joseph_sums
from xray_registration.rendering.pose_gradient import similarity_and_pose_gradient

CENTRE = (3.0, -2.0, 4.0)
CAMERA = Camera(np.array([[30.0, 1.5, 2.2], [0, 25, 2.6], [0, 0, 1]]), 5, 6, 1000.0)
Render = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture
def mu() -> Tensor:
    return torch.rand(4, 5, 3, dtype=torch.float64)


@pytest.fixture
def affine(centred_affine):
    return centred_affine((3, 5, 4), (2.9, 2.5, 3.0), (0.2, -0.3, 0.4), flips=(1, -1, 1))


@pytest.fixture
def pose(looking_at) -> Tensor:
    return looking_at((0, 0, 0), 100.0, (0.3, 0.2, -0.1))


@pytest.fixture
def xi() -> Tensor:
    values = torch.zeros(2, 6, dtype=torch.float64)
    values[1] = torch.tensor([1, 2, 3, 0.05, -1.4, 0.1])  # steps along another axis
    return values


@pytest.fixture
def render(affine, pose) -> Render:
    def build(xi: Tensor, mu: Tensor) -> Tensor:
        projector = JosephProjector(AttenuationVolume(mu, affine), CENTRE, backend="torch")
        moved = left_increment(pose, xi, torch.tensor(CENTRE, dtype=torch.float64))
        return projector.image(moved, CAMERA)

    return build


def test_image_by_pose_and_volume(render, xi, mu) -> None:
    axes_differ = xi.clone()
    assert gradcheck(render, (xi.requires_grad_(), mu.requires_grad_()))
    assert gradcheck(lambda x: render(x, mu.detach()), (xi,))
    assert gradcheck(lambda m: render(axes_differ, m), (mu,))
    assert gradgradcheck(lambda m: render(axes_differ, m) ** 2, (mu,), fast_mode=True)


def test_jacobian_by_volume(affine, pose, xi, mu) -> None:
    moved = left_increment(pose, xi, torch.tensor(CENTRE, dtype=torch.float64))

    def both(mu: Tensor) -> tuple[Tensor, Tensor]:
        projector = JosephProjector(AttenuationVolume(mu, affine), CENTRE)
        return projector.image_and_jacobian(moved, CAMERA)

    assert gradcheck(both, (mu.requires_grad_(),))
    assert gradgradcheck(lambda m: both(m)[1] * both(m)[0][:, None], (mu,), fast_mode=True)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_float32_reverse_mode_is_the_jacobian(backend, affine, pose, mu) -> None:
    """The gradient of the pose matrix, pulled back to an increment, is J^T g."""
    volume = AttenuationVolume(mu.float(), affine)
    projector = JosephProjector(volume, CENTRE, backend=backend)
    xi = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    centre = torch.tensor(CENTRE, dtype=torch.float64)
    weight = torch.rand(1, CAMERA.height, CAMERA.width)
    image = projector.image(left_increment(pose, xi, centre), CAMERA)
    (image * weight).sum().backward()
    _, jacobian = projector.image_and_jacobian(pose[None], CAMERA)
    expected = torch.einsum("bhw,bqhw->bq", weight, jacobian).double()
    assert xi.grad is not None
    assert torch.allclose(xi.grad, expected, rtol=1e-5, atol=1e-7)


def test_pose_leaf_and_plain_rendering(render, affine, pose, mu) -> None:
    """No graph is made where none is asked for."""
    projector = JosephProjector(AttenuationVolume(mu.float(), affine))
    leaf = pose[None].clone().requires_grad_()
    assert projector.image(leaf, CAMERA).requires_grad
    assert not projector.image(pose[None], CAMERA).requires_grad
    with torch.no_grad():
        assert not projector.image(leaf, CAMERA).requires_grad
    assert not projector.image_and_jacobian(leaf, CAMERA)[1].requires_grad


def test_memory_of_the_reverse_mode_does_not_grow_with_the_samples(
    gaussians, centred_affine, looking_at
) -> None:
    """Nothing per sample is saved for the backward pass, only the rays."""
    shape = (48, 48, 48)
    mu = gaussians.on_grid(shape, centred_affine(shape, (2.8, 2.8, 2.8)), torch.float32).mu_per_mm
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    camera = Camera.from_detector(32, 32, 3.0, 900.0)
    volume = AttenuationVolume(mu.requires_grad_(), centred_affine(shape, (2.8, 2.8, 2.8)))
    projector = JosephProjector(volume)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        image, jacobian = projector.image_and_jacobian(looking_at((0, 0, 0), 420.0)[None], camera)
    rays = camera.width * camera.height
    assert sum(saved) < 60 * rays  # one number per sample would be 48 a ray for each quantity
    (image.sum() + jacobian.sum()).backward()
    assert mu.grad is not None
    assert mu.grad.isfinite().all()


def test_volume_gradient_does_not_depend_on_chunks(render, xi, mu, monkeypatch) -> None:
    mu.requires_grad_()
    (whole,) = torch.autograd.grad((render(xi, mu) ** 2).sum(), mu)
    monkeypatch.setattr(joseph_sums, "_CPU", (5, 10))
    (parts,) = torch.autograd.grad((render(xi, mu) ** 2).sum(), mu)
    assert torch.allclose(whole, parts, rtol=1e-12)


class _Encoder(nn.Module):
    """A small network whose similarity is the distance of features, as a learned one is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3)).double()

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        difference = self.layers(moving[:, None]) - self.layers(fixed[:, None])
        return difference.square().flatten(1).sum(1)


@pytest.fixture
def scene(affine, pose, xi, mu) -> tuple[Tensor, Tensor, Tensor]:
    """Image and Jacobian of two poses, and the picture of a third to compare with."""
    projector = JosephProjector(AttenuationVolume(mu, affine), CENTRE)
    centre = torch.tensor(CENTRE, dtype=torch.float64)
    image, jacobian = projector.image_and_jacobian(left_increment(pose, xi, centre), CAMERA)
    target = torch.tensor([0.5, -0.5, 1, 0.02, 0.03, -0.02], dtype=torch.float64)
    return (
        image,
        jacobian,
        projector.image(left_increment(pose, target, centre)[None], CAMERA).expand_as(image),
    )


def test_pose_gradient_of_a_similarity(affine, pose, xi, scene, render, mu) -> None:
    """It is what reverse mode through the whole chain gives."""
    image, jacobian, fixed = scene
    encoder = _Encoder()
    value, gradient = similarity_and_pose_gradient(lambda i: encoder(i, fixed), image, jacobian)
    assert value.shape == (2,)
    for index in range(2):
        by = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        centre = torch.tensor(CENTRE, dtype=torch.float64)
        start = left_increment(pose, xi[index], centre)
        projector = JosephProjector(AttenuationVolume(mu, affine), CENTRE)
        moved = projector.image(left_increment(start, by, centre)[None], CAMERA)
        encoder(moved, fixed[:1]).sum().backward()
        assert by.grad is not None
        assert torch.allclose(by.grad, gradient[index], rtol=1e-9, atol=1e-12)


def test_loss_on_the_pose_gradient_reaches_the_weights(scene) -> None:
    """Double backward through the similarity, against differences of the weights."""
    image, jacobian, fixed = scene
    encoder = _Encoder()
    wanted = torch.randn(2, 6, dtype=torch.float64)
    parameters = dict(encoder.named_parameters())

    def loss(*weights: Tensor) -> Tensor:
        def similarity(i: Tensor) -> Tensor:
            return torch.func.functional_call(
                encoder, dict(zip(parameters, weights, strict=True)), (i, fixed)
            )

        _, gradient = similarity_and_pose_gradient(similarity, image, jacobian)
        return (gradient / gradient.norm(dim=1, keepdim=True) - wanted).square().sum()

    weights = tuple(p.detach().clone().requires_grad_() for p in parameters.values())
    assert gradcheck(loss, weights)
    loss_value = loss(*parameters.values())
    loss_value.backward()
    # the bias of the last layer cancels in the difference of features; all others are reached
    reached = {name for name, p in parameters.items() if p.grad is not None and p.grad.any()}
    assert reached == {"layers.0.weight", "layers.0.bias", "layers.2.weight"}


def test_loss_on_the_pose_gradient_reaches_the_volume(affine, pose, mu) -> None:
    """For a network that corrects the CT: the Jacobian's own derivative is in it."""
    fixed = torch.rand(1, CAMERA.height, CAMERA.width, dtype=torch.float64)
    encoder = _Encoder()

    def loss(mu: Tensor) -> Tensor:
        projector = JosephProjector(AttenuationVolume(mu, affine), CENTRE)
        image, jacobian = projector.image_and_jacobian(pose[None], CAMERA)
        _, gradient = similarity_and_pose_gradient(lambda i: encoder(i, fixed), image, jacobian)
        return gradient.square().sum()

    assert gradcheck(loss, (mu.requires_grad_(),))


def test_bad_similarities_are_refused(scene) -> None:
    image, jacobian, _ = scene
    with pytest.raises(InputError, match=r"\(B, 6, H, W\)"):
        similarity_and_pose_gradient(lambda i: i.sum((1, 2)), image, jacobian[:, :3])
    with pytest.raises(InputError, match="one value for each"):
        similarity_and_pose_gradient(lambda i: i.sum(), image, jacobian)
    with pytest.raises(InputError, match="does not depend"):
        similarity_and_pose_gradient(lambda i: torch.zeros(len(i)), image, jacobian)
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(InputError, match="does not depend"):
        similarity_and_pose_gradient(lambda i: weight * 2, image, jacobian)
