"""One damped step by hand and by the definition of its parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xray_registration.registration.least_squares.solver import damped_step

FAR = 1e9


def _normal(batch: int, parameters: int) -> tuple[Tensor, Tensor]:
    jacobian = torch.randn(batch, parameters, 40, dtype=torch.float64)
    return jacobian @ jacobian.mT, torch.randn(batch, parameters, dtype=torch.float64)


@pytest.mark.parametrize("parameters", [1, 6, 12])
def test_without_damping_it_is_newtons(parameters: int) -> None:
    hessian, gradient = _normal(3, parameters)
    step, decrease = damped_step(hessian, gradient, torch.zeros(3).double(), FAR)
    expected = -torch.linalg.solve(hessian, gradient[..., None])[..., 0]
    torch.testing.assert_close(step, expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(decrease, -0.5 * (gradient * expected).sum(-1), rtol=1e-6, atol=0)


def test_much_damping_is_a_short_scaled_descent() -> None:
    hessian, gradient = _normal(2, 6)
    step, decrease = damped_step(hessian, gradient, torch.full((2,), 1e8).double(), FAR)
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(step, -gradient / (1e8 * diagonal), rtol=1e-5, atol=0)
    assert bool((decrease > 0).all())


def test_each_element_has_its_own_damping() -> None:
    hessian, gradient = _normal(1, 6)
    lambdas = torch.tensor([0.0, 3.0]).double()
    together, _ = damped_step(hessian.expand(2, 6, 6), gradient.expand(2, 6), lambdas, FAR)
    for n in range(2):
        alone, _ = damped_step(hessian, gradient, lambdas[n : n + 1], FAR)
        torch.testing.assert_close(together[n], alone[0])


def test_a_bound_shortens_but_does_not_turn() -> None:
    hessian, gradient = _normal(1, 6)
    free, _ = damped_step(hessian, gradient, torch.zeros(1).double(), FAR)
    bound = 0.5 * float(free.norm())
    step, decrease = damped_step(hessian, gradient, torch.zeros(1).double(), bound)
    torch.testing.assert_close(step, 0.5 * free)
    predicted = -(gradient * step).sum() - 0.5 * step[0] @ hessian[0] @ step[0]
    assert float(decrease) == pytest.approx(float(predicted))


def test_what_nothing_sees_stays() -> None:
    hessian = torch.diag(torch.tensor([4.0, 0.0])).double()[None]
    step, _ = damped_step(hessian, torch.tensor([[2.0, 0.0]]).double(), torch.ones(1).double(), FAR)
    assert step[0].tolist() == pytest.approx([-0.25, 0.0], rel=1e-5)


def test_gradients() -> None:
    """Also of a step at the bound, and of one of no length."""
    hessian, gradient = _normal(2, 3)
    lambdas = torch.tensor([0.1, 2.0]).double()
    for bound in (FAR, 1e-3):
        assert torch.autograd.gradcheck(
            lambda h, g, bound=bound: damped_step((h + h.mT) / 2, g, lambdas, bound),
            (hessian.requires_grad_(), gradient.requires_grad_()),
        )
    nothing = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    step, _ = damped_step(hessian.detach(), nothing, lambdas, 1.0)
    (change,) = torch.autograd.grad(step.sum(), nothing)
    assert bool(torch.isfinite(change).all())
    assert float(change.abs().max()) > 0
