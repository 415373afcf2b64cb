"""Robust scale and Huber's kernel by hand, by autograd and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from xray_registration.registration.robust import huber_cost, huber_weight, robust_scale

K = 1.5


def _ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.float64)


def test_scale_is_the_standard_deviation_of_normal_residuals() -> None:
    residual = torch.randn(2, 200_000) * torch.tensor([[0.2], [3.0]])
    scale = robust_scale(residual, torch.ones_like(residual))
    assert scale.dtype == torch.float64
    assert scale.tolist() == pytest.approx([0.2, 3.0], rel=0.03)


def test_scale_hardly_feels_outliers() -> None:
    residual = torch.randn(1, 20_000)
    residual[:, :2000] = 100.0
    assert float(robust_scale(residual, torch.ones_like(residual))) == pytest.approx(1.0, rel=0.2)


def test_scale_is_blind_to_what_has_no_weight() -> None:
    residual = torch.randn(1, 4000)
    weight = torch.ones_like(residual)
    weight[:, ::2] = 0
    spoiled = torch.where(weight > 0, residual, torch.full_like(residual, 1e6))
    assert torch.equal(robust_scale(residual, weight), robust_scale(spoiled, weight))


def test_scale_has_a_floor_also_when_nothing_is_used() -> None:
    assert robust_scale(torch.zeros(1, 50), torch.ones(1, 50)).tolist() == pytest.approx([1e-3])
    assert robust_scale(torch.ones(1, 50), torch.zeros(1, 50)).tolist() == pytest.approx([1e-3])


def test_cost_by_hand() -> None:
    residual = torch.tensor([[0.5, -3.0, 6.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 1.0, 0.5]], dtype=torch.float64)
    scale = _ones(1) * 2  # the kernel turns linear at 3
    cost = huber_cost(residual, weight, scale, K)
    robust = huber_weight(residual, weight, scale, K)
    assert float(cost) == pytest.approx(0.5 * 0.25 + 0.5 * 9 + 0.5 * 3 * (6 - 1.5))
    assert robust[0].tolist() == pytest.approx([1.0, 1.0, 0.5 * 3 / 6])


def test_weight_times_residual_is_the_derivative_of_the_cost() -> None:
    """What makes iteratively reweighted least squares descend on the cost that is reported."""
    residual = torch.linspace(-8, 8, 101, dtype=torch.float64)[None].requires_grad_()
    weight = torch.rand(1, 101, dtype=torch.float64)
    cost = huber_cost(residual, weight, _ones(1), K)
    robust = huber_weight(residual, weight, _ones(1), K)
    (derivative,) = torch.autograd.grad(cost.sum(), residual)
    torch.testing.assert_close(derivative, (robust * residual).detach())


def test_no_kernel_is_plain_squares() -> None:
    residual, weight = torch.randn(2, 30), torch.rand(2, 30)
    cost = huber_cost(residual, weight, _ones(2), 0.0)
    robust = huber_weight(residual, weight, _ones(2), 0.0)
    torch.testing.assert_close(cost, (0.5 * weight * residual**2).sum(1).double())
    assert torch.equal(robust, weight)


def test_each_of_a_batch_has_its_own_scale() -> None:
    residual = torch.full((2, 1), 5.0, dtype=torch.float64)
    cost = huber_cost(residual, _ones(2, 1), torch.tensor([1.0, 10.0]), K)
    robust = huber_weight(residual, _ones(2, 1), torch.tensor([1.0, 10.0]), K)
    assert cost.tolist() == pytest.approx([1.5 * (5 - 0.75), 12.5])
    assert robust[:, 0].tolist() == pytest.approx([0.3, 1.0])


def test_cost_is_that_of_scipy() -> None:
    values = np.linspace(-4, 4, 33)
    scipy_cost = least_squares(
        lambda x: values + 0 * x[0], [0.0], loss="huber", f_scale=K, max_nfev=1
    ).cost
    cost = huber_cost(torch.from_numpy(values)[None], _ones(1, 33), _ones(1), K)
    assert float(cost) == pytest.approx(float(scipy_cost))
