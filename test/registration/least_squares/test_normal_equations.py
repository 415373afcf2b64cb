"""Normal matrix, gradient and cost against autograd; the rows of a prior beside the pictures'."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.least_squares.normal_equations import (
    cost_at_scale,
    normal_equations,
)
from xray_registration.registration.least_squares.residual import Linearisation, Prior, pose_units

UNITS = torch.tensor([1.0, 0.01, 2.0], dtype=torch.float64)


def _linear(batch: int = 2, rows: int = 500) -> Linearisation:
    return (
        torch.randn(batch, rows, dtype=torch.float64),
        torch.randn(batch, 3, rows, dtype=torch.float64),
        torch.rand(batch, rows, dtype=torch.float64),
    )


def _moved(linear: Linearisation, xi: Tensor) -> Linearisation:
    residual, jacobian, weight = linear
    return residual + ((UNITS * xi)[:, None] @ jacobian)[:, 0], jacobian, weight


def test_units_of_poses() -> None:
    config = LevenbergMarquardtConfig(rotation_scale_mm=50.0)
    assert pose_units(config, 2).tolist() == [1, 1, 1, 0.02, 0.02, 0.02] * 2


@pytest.mark.parametrize("huber", [0.0, 1.5])
def test_gradient_is_that_of_the_cost(huber: float) -> None:
    linear = _linear()
    normal = normal_equations(linear, UNITS, huber, None, None)
    xi = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    cost = cost_at_scale(_moved(linear, xi), normal.scale, huber, None, None)
    torch.testing.assert_close(cost.detach(), normal.cost)
    (expected,) = torch.autograd.grad(cost.sum(), xi)
    torch.testing.assert_close(normal.gradient, expected)


def test_plain_hessian_is_that_of_the_cost() -> None:
    linear = _linear(1)
    normal = normal_equations(linear, UNITS, 0.0, None, None)
    expected = torch.autograd.functional.hessian(
        lambda xi: cost_at_scale(_moved(linear, xi[None]), normal.scale, 0.0, None, None).sum(),
        torch.zeros(3, dtype=torch.float64),
    )
    torch.testing.assert_close(normal.hessian[0], expected)


def test_prior_rows_weigh_as_the_posterior_says() -> None:
    """Divided by variance and dependence: the pictures' information plus the prior's."""
    linear, dependent = _linear(2), 12.0
    change = torch.randn(2, 3, 3, dtype=torch.float64)
    deviation = 40.0 * torch.randn(2, 3, dtype=torch.float64)  # no kernel bends these
    prior = Prior(lambda _: (deviation, change), dependent)
    plain = normal_equations(linear, UNITS, 1.5, None, None)
    both = normal_equations(linear, UNITS, 1.5, prior, (deviation, change))
    assert torch.equal(plain.scale, both.scale)
    per = dependent * plain.scale**2
    scaled = change * UNITS[:, None]
    torch.testing.assert_close(
        (both.hessian - plain.hessian) / per[:, None, None], scaled @ scaled.mT
    )
    torch.testing.assert_close(
        (both.gradient - plain.gradient) / per[:, None], (scaled @ deviation[..., None])[..., 0]
    )
    torch.testing.assert_close((both.cost - plain.cost) / per, 0.5 * deviation.square().sum(-1))
    torch.testing.assert_close(
        cost_at_scale(linear, both.scale, 1.5, prior, (deviation, change)), both.cost
    )


def test_what_is_not_finite_is_known() -> None:
    residual, jacobian, weight = _linear(3)
    residual[0, 0], jacobian[1, 0, 0] = float("nan"), float("inf")
    normal = normal_equations((residual, jacobian, weight), UNITS, 1.5, None, None)
    assert normal.finite.tolist() == [False, False, True]


def test_gradients_reach_everything_but_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "xray_registration.registration.least_squares.normal_equations.robust_scale",
        lambda residual, _: residual.new_ones(len(residual)),
    )
    inputs = tuple(part[:, ..., :6].clone().requires_grad_() for part in _linear())

    def outputs(*linear: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normal = normal_equations((linear[0], linear[1], linear[2]), UNITS, 0.7, None, None)
        return normal.cost, normal.hessian, normal.gradient

    assert torch.autograd.gradcheck(outputs, inputs)
