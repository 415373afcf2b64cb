"""Unrolled steps: the same as `minimise`, and their gradients against finite differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.least_squares import unrolled
from xray_registration.registration.least_squares.damping import GainRatioDamping
from xray_registration.registration.least_squares.residual import Linearisation, Linearise, Prior
from xray_registration.registration.least_squares.unrolled import unrolled_steps
from xray_registration.registration.levenberg_marquardt import minimise

CENTRE = torch.tensor([10.0, -20.0, 150.0], dtype=torch.float64)
CONFIG = LevenbergMarquardtConfig(huber=0.0, min_step_mm=1e-12, min_decrease=1e-15)
ROBUST = replace(CONFIG, huber=1.0)


def retract(poses: Tensor, xi: Tensor) -> Tensor:
    return se3.left_increment(poses, xi, CENTRE)


def _pose() -> Tensor:
    xi = torch.tensor([[4.0, -7.0, 12.0, 0.1, -0.2, 0.05], [-3, 2, 1, -0.1, 0.1, 0.2]]).double()
    return retract(torch.eye(4, dtype=torch.float64).expand(2, 4, 4), xi)


def point_sets(points: Tensor, measured: Tensor, weight: Tensor, factor: float = 1.0) -> Linearise:
    """Points (N, 3) moved by the pose less measured ones; a Jacobian that is wrong by a factor."""

    def linearise(poses: Tensor, _: Tensor) -> Linearisation:
        moved = se3.transform_points(poses, points)
        lever = moved - se3.transform_points(poses, CENTRE[None])
        units = torch.eye(3, dtype=torch.float64)
        shifts = [unit.expand_as(lever) for unit in units]
        turns = [torch.linalg.cross(unit.expand_as(lever), lever) for unit in units]
        jacobian = factor * torch.stack((*shifts, *turns), 1).flatten(2)
        weights = weight[:, None].expand(-1, 3).reshape(1, -1).expand(len(poses), -1)
        return (moved - measured).flatten(1), jacobian, weights

    return linearise


def inputs(count: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    points = CENTRE + 60 * torch.randn(count, 3, dtype=torch.float64)
    noise = 0.5 * torch.randn(count, 3, dtype=torch.float64)
    return points, points + noise, 0.5 + torch.rand(count, dtype=torch.float64)


def _leaves() -> tuple[Tensor, ...]:
    return tuple(part.requires_grad_() for part in inputs())


@pytest.mark.parametrize("config", [CONFIG, replace(ROBUST, max_step_mm=3.0)])
@pytest.mark.parametrize("factor", [1.0, 0.4])
def test_is_what_minimise_does(config: LevenbergMarquardtConfig, factor: float) -> None:
    """Accepted and refused steps alike; nothing of it asks for a graph."""
    linearise = point_sets(*_leaves(), factor)
    for steps in (1, 3, 6):
        expected = minimise(linearise, retract, _pose(), steps, config)
        assert not expected.poses.requires_grad
        reached = unrolled_steps(linearise, retract, _pose(), steps, config)
        assert reached.requires_grad
        torch.testing.assert_close(reached.detach(), expected.poses, rtol=0, atol=1e-9)


@pytest.mark.parametrize("refuse", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_through_residual_jacobian_weights_and_start(steps: int, refuse: bool) -> None:
    """The gain ratios are next to 1 here, where the damping's factor is 1/8 whatever they are."""
    start = _pose()

    def reached(xi: Tensor, *sets: Tensor) -> Tensor:
        begin = retract(start, xi)
        return unrolled_steps(point_sets(*sets), retract, begin, steps, CONFIG, refuse=refuse)

    xi = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(reached, (xi, *_leaves()), eps=1e-5, atol=1e-5)


@pytest.mark.parametrize("max_step_mm", [1e9, 2.0])
def test_gradients_with_the_kernel_and_the_bound(
    monkeypatch: pytest.MonkeyPatch, max_step_mm: float
) -> None:
    monkeypatch.setattr(
        "xray_registration.registration.least_squares.normal_equations.robust_scale",
        lambda residual, _: residual.new_ones(len(residual)),
    )
    config = replace(ROBUST, max_step_mm=max_step_mm)
    assert torch.autograd.gradcheck(
        lambda *sets: unrolled_steps(point_sets(*sets), retract, _pose(), 1, config),
        _leaves(),
        eps=1e-5,
        atol=1e-5,
    )


def test_with_a_prior() -> None:
    """Rows and their derivative may depend on what is learned."""
    start = _pose()[:1]

    def reached(sigma: Tensor, *sets: Tensor) -> Tensor:
        def rows(poses: Tensor) -> tuple[Tensor, Tensor]:
            gone = (poses - start)[:, :3, 3] / sigma
            change = torch.cat((torch.eye(3), torch.zeros(3, 3))).double() / sigma
            return gone, change.expand(len(poses), 6, 3)

        return unrolled_steps(point_sets(*sets), retract, start, 1, CONFIG, prior=Prior(rows, 3.0))

    sets = _leaves()
    sigma = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    # the prior's weight holds the robust scale, which counts as a constant
    free = reached(sigma, *sets)
    (to_sigma,) = torch.autograd.grad(free[0, 0, 3], sigma, retain_graph=True)
    eps = 1e-6
    ends = [reached(sigma.detach() + d, *(s.detach() for s in sets)) for d in (-eps, eps)]
    numeric = (ends[1] - ends[0])[0, 0, 3] / (2 * eps)
    assert float(to_sigma) == pytest.approx(float(numeric), rel=1e-4)


class _Recorded(GainRatioDamping):
    """Keeps its values, and what was taken."""

    values: list[Tensor]
    taken: list[Tensor]

    def __init__(self, batch: int, initial: float) -> None:
        super().__init__(batch, initial)
        type(self).values, type(self).taken = [self.value], []

    def update(self, active: Tensor, taken: Tensor, gain: Tensor) -> None:
        super().update(active, taken, gain)
        self.values.append(self.value)
        self.taken.append(taken)


def test_damping_and_acceptance_count_as_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is that of the same steps with damping and acceptance written down before."""
    monkeypatch.setattr(unrolled, "GainRatioDamping", _Recorded)
    monkeypatch.setattr(
        "xray_registration.registration.least_squares.normal_equations.robust_scale",
        lambda residual, _: residual.new_full((len(residual),), 2.0),
    )
    sets, steps = _leaves(), 4
    reached = unrolled_steps(point_sets(*sets, 0.4), retract, _pose(), steps, ROBUST)
    values, taken = list(_Recorded.values), torch.stack(_Recorded.taken)
    assert bool(taken.any())
    assert not bool(taken.all())
    direction = torch.randn_like(reached)
    gradients = torch.autograd.grad((reached * direction).sum(), sets)

    def replayed(*sets: Tensor) -> Tensor:
        poses = _pose()
        linearise = point_sets(*sets, 0.4)
        for n in range(steps):
            config = replace(ROBUST, initial_damping=1.0)
            monkeypatch.setattr(
                unrolled, "GainRatioDamping", lambda batch, _, n=n: _Held(values[n])
            )
            trial = unrolled_steps(linearise, retract, poses, 1, config, refuse=False)
            poses = torch.where(taken[n][:, None, None], trial, poses)
        return poses

    torch.testing.assert_close(replayed(*sets), reached)
    for which, gradient in enumerate(gradients):
        moved = torch.randn_like(gradient)
        eps = 1e-6
        ends = []
        for sign in (-1, 1):
            changed = [s.detach().clone() for s in sets]
            changed[which] += sign * eps * moved
            ends.append((replayed(*changed) * direction).sum())
        numeric = float(ends[1] - ends[0]) / (2 * eps)
        assert float((gradient * moved).sum()) == pytest.approx(numeric, rel=1e-4, abs=1e-6)


class _Held:
    def __init__(self, value: Tensor) -> None:
        self.value = value


def test_a_refused_step_has_no_gradient_but_one_that_is_taken_all_the_same_has() -> None:
    sets = _leaves()
    backwards = point_sets(*sets, -1.0)
    stays = unrolled_steps(backwards, retract, _pose(), 1, CONFIG)
    assert torch.equal(stays.detach(), _pose())
    leads_away = unrolled_steps(backwards, retract, _pose(), 1, CONFIG, refuse=False)
    assert not torch.equal(leads_away.detach(), _pose())
    for poses, some in ((stays, False), (leads_away, True)):
        gradient = torch.autograd.grad(poses.square().sum(), sets[1])[0]
        assert bool((gradient != 0).any()) is some


def test_one_step_from_the_minimum_differentiates_the_minimum() -> None:
    """What implicit differentiation gives, where the residual at the minimum is small."""
    points, measured, weight = inputs(20)
    measured = (points + 0.01 * torch.randn_like(points)).requires_grad_()
    linearise = point_sets(points, measured, weight)
    start = minimise(linearise, retract, _pose()[:1], 50, CONFIG).poses
    config = replace(CONFIG, initial_damping=1e-7)
    reached = unrolled_steps(linearise, retract, start, 1, config, refuse=False)
    (gradient,) = torch.autograd.grad(reached[0, :3, 3].sum(), measured)
    moved = torch.randn_like(measured)
    ends = [
        minimise(
            point_sets(points, measured.detach() + d * moved, weight), retract, start, 50, CONFIG
        ).poses[0, :3, 3]
        for d in (-1e-4, 1e-4)
    ]
    numeric = float((ends[1] - ends[0]).sum()) / 2e-4
    assert float((gradient * moved).sum()) == pytest.approx(numeric, rel=2e-3)


def test_no_steps_are_refused() -> None:
    with pytest.raises(InputError, match="steps is 0"):
        unrolled_steps(point_sets(*inputs()), retract, _pose(), 0, CONFIG)
