"""Losses: what they are at the truth, and that their gradients reach the networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, se3
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.losses import (
    gradient_matching_loss,
    image_term,
    lm_step_loss,
    pose_distance,
    regressor_loss,
)
from xray_registration.learning.network import Mixture
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.volume_residual import VolumeResidual
from xray_registration.registration import LevenbergMarquardtConfig
from xray_registration.registration.least_squares.residual import Linearisation
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.similarity.encoder import EncoderConfig
from xray_registration.similarity.spherical import SphericalResidual

CAMERA = Camera.from_detector(32, 32, 298 / 32, 1020.0)
SPACE = PoseSpace((10.0, -20.0, 30.0))
SMALL = EncoderConfig(channels=3, width=8, layers=1, heads=2)


@pytest.fixture(scope="module")
def projector(phantom: CTVolume) -> JosephProjector:
    return JosephProjector(
        AttenuationVolume.from_ct(phantom, spacing_mm=10.0), SPACE.isocentre_lps_mm, "torch"
    )


@pytest.fixture(scope="module")
def truth() -> Tensor:
    return SPACE.sample(np.random.default_rng(5), 2)


def _beside(truth: Tensor, mm: float, deg: float) -> Tensor:
    xi = torch.randn(len(truth), 6, dtype=torch.float64)
    xi = xi * torch.tensor([mm] * 3 + [np.radians(deg)] * 3, dtype=torch.float64)
    return se3.left_increment(truth, xi, SPACE.centre)


def test_regressor_loss_prefers_the_truth_and_trains_depth(truth: Tensor) -> None:
    numbers = SPACE.encode(truth).float()
    logits = torch.zeros(2, 2)
    scales = torch.zeros(2, 2, 6)
    off = torch.zeros(2, 2, 6)
    off[..., 2] = 1.0
    means = (numbers[:, None] + off).requires_grad_()
    wrong = Mixture(logits, means, scales)
    right = Mixture(logits, numbers[:, None].expand(-1, 2, -1), scales)
    assert regressor_loss(right, numbers, SPACE, 4.0) < regressor_loss(wrong, numbers, SPACE, 4.0)
    plain, weighted = (
        torch.autograd.grad(regressor_loss(wrong, numbers, SPACE, w), means)[0] for w in (0.0, 4.0)
    )
    assert weighted[..., 2].abs().min() > 3 * plain[..., 2].abs().min()


def test_image_term(projector: JosephProjector, truth: Tensor) -> None:
    with torch.no_grad():
        fixed = projector.image(truth, CAMERA)
    assert image_term(projector, truth, CAMERA, 3 * fixed + 1).abs().max() < 1e-5
    xi = torch.tensor([[8.0, 0, 0, 0, 0, 0]] * 2, dtype=torch.float64, requires_grad=True)
    value = image_term(projector, se3.left_increment(truth, xi, SPACE.centre), CAMERA, fixed)
    (gradient,) = torch.autograd.grad(value.sum(), xi)
    assert (value > 0).all()
    assert (gradient[:, 0] > 0).all()  # further away is worse


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("metric", ["se3", "so4"])
def test_gradient_matching_reaches_both_encoders(
    projector: JosephProjector, truth: Tensor, unit: bool, metric: str
) -> None:
    network = SphericalResidual(SMALL)
    with torch.no_grad():
        fixed = projector.image(truth, CAMERA)
    target = network.targets(fixed, torch.ones_like(fixed, dtype=torch.bool))
    loss = gradient_matching_loss(
        lambda moving: network.epsilon(moving, target),
        projector, CAMERA, _beside(truth, 10.0, 5.0), truth, metric, unit,
    )  # fmt: skip
    assert loss.shape == (2,)
    assert (loss >= 0).all()
    if unit:
        assert (loss <= 4).all()
    loss.sum().backward()
    _has_gradient(network)


@pytest.mark.parametrize("steps", [1, 2])
def test_lm_step_loss_reaches_both_encoders(
    projector: JosephProjector, truth: Tensor, steps: int
) -> None:
    network = SphericalResidual(SMALL)
    with torch.no_grad():
        fixed = projector.image(truth, CAMERA)
    target = network.targets(fixed, torch.ones_like(fixed, dtype=torch.bool))

    def residual(image: Tensor, jacobian: Tensor) -> Linearisation:
        r, change = network.with_jacobian(image, jacobian, target)
        return r.flatten(1), change.flatten(2), torch.ones_like(r).flatten(1)

    loss = lm_step_loss(residual, projector, CAMERA, _beside(truth, 5.0, 3.0), truth, steps)
    loss.sum().backward()
    _has_gradient(network)
    with pytest.raises(InputError, match="steps"):
        lm_step_loss(residual, projector, CAMERA, truth, truth, 0)


def test_lm_steps_on_the_plain_difference_approach_the_truth(
    projector: JosephProjector, truth: Tensor
) -> None:
    """With a residual that needs no learning the loss falls from step to step."""
    with torch.no_grad():
        fixed = projector.image(truth, CAMERA)
    start = _beside(truth, 3.0, 1.5)
    distances = [pose_distance(start, truth, SPACE.centre).mean()]
    for steps in (1, 3):
        reached = lm_step_loss(
            lambda image, jacobian: _plain(image - fixed, jacobian),
            projector, CAMERA, start, truth, steps,
        )  # fmt: skip
        distances.append(reached.mean())
    assert distances[0] > distances[1] > distances[2]


def test_lm_step_loss_has_the_right_gradient_in_the_encoders_weights(
    projector: JosephProjector, truth: Tensor
) -> None:
    """Float64 from the pictures on, against finite differences; the kernel, whose scale counts as a
    constant, is off.
    """
    network = SphericalResidual(SMALL).double()
    with torch.no_grad():
        fixed = projector.image(truth, CAMERA).double()
    start = _beside(truth, 5.0, 3.0)

    def loss() -> Tensor:
        target = network.targets(fixed, torch.ones_like(fixed, dtype=torch.bool))

        def residual(image: Tensor, jacobian: Tensor) -> Linearisation:
            r, change = network.with_jacobian(image.double(), jacobian.double(), target)
            return r.flatten(1), change.flatten(2), torch.ones_like(r).flatten(1)

        config = LevenbergMarquardtConfig(initial_damping=1.0, huber=0.0, max_step_mm=1e6)
        return lm_step_loss(residual, projector, CAMERA, start, truth, 1, "se3", config).sum()

    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    direction = [torch.randn_like(p) for p in parameters]
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True)
                   if g is not None)  # fmt: skip
    ends, eps = [], 1e-7
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(parameters, direction, strict=True):
                p += sign * eps * d
            ends.append(float(loss()))
    assert (ends[0] - ends[1]) / (2 * eps) == pytest.approx(expected, rel=1e-4)


def test_a_second_step_undoes_what_the_first_did_wrong(
    projector: JosephProjector, truth: Tensor
) -> None:
    """Its residual depends on the pose that the first step reached: an offset of the first step's
    end hardly changes the second's.
    """
    with torch.no_grad():
        fixed = projector.image(truth, CAMERA)
    config = LevenbergMarquardtConfig(huber=0.0, initial_damping=1e-4)
    start = _beside(truth, 3.0, 1.5)
    calls: list[Tensor] = []

    def residual(image: Tensor, jacobian: Tensor) -> Linearisation:
        r, change, weight = _plain(image - fixed, jacobian)
        if not calls:
            calls.append(torch.zeros(len(r), 1, requires_grad=True))
            r = r + calls[0] * change[:, 0]  # as if the picture were shifted along x
        return r, change, weight

    first = lm_step_loss(residual, projector, CAMERA, start, truth, 1, config=config)
    (alone,) = torch.autograd.grad(first.sum(), calls.pop())
    both = lm_step_loss(residual, projector, CAMERA, start, truth, 2, config=config)
    (through,) = torch.autograd.grad(both.sum(), calls.pop())
    assert float(alone.abs().max()) > 0.05
    assert float(through.abs().max()) < 0.1 * float(alone.abs().max())


def _plain(difference: Tensor, jacobian: Tensor) -> Linearisation:
    r = difference.flatten(1)
    return r, jacobian.flatten(2), torch.ones_like(r)


def test_the_volumes_residual_starts_at_nothing_and_learns_through_the_projector(
    phantom: CTVolume, truth: Tensor
) -> None:
    volume = AttenuationVolume.from_ct(phantom, spacing_mm=10.0)
    psi = VolumeResidual(4)
    changed = psi.applied(volume)
    torch.testing.assert_close(changed.mu_per_mm, volume.mu_per_mm)
    image = JosephProjector(changed, SPACE.isocentre_lps_mm).image(truth, CAMERA)
    image.square().mean().backward()
    assert psi.last.weight.grad is not None
    assert psi.last.weight.grad.abs().max() > 0
    air = replace(volume, mu_per_mm=torch.zeros_like(volume.mu_per_mm))
    nn.init.normal_(psi.last.weight)
    assert psi.applied(air).mu_per_mm.abs().max() == 0
    assert (psi.applied(volume).mu_per_mm >= 0).all()


def _has_gradient(network: nn.Module) -> None:
    for encoder in ("moving_encoder", "fixed_encoder"):
        gradients = [p.grad for p in getattr(network, encoder).parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in gradients)
        assert sum(float(g.abs().sum()) for g in gradients) > 0
