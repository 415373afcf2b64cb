"""J'WJ, J'Wr and the cost of a linearised residual, with a robust kernel and in scaled units.

Differentiable in residual, Jacobian and weight, the kernel's weights included; the robust scale
counts as a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xray_registration.registration.least_squares.residual import Linearisation, Prior
from xray_registration.registration.robust import huber_cost, huber_weight, robust_scale

_Rows = tuple[Tensor, Tensor]


@dataclass
class NormalEquations:
    """At states of B elements; CPU, float64.

    Attributes:
        scale: (B,) robust standard deviation of the residual that all else was weighted with.
        cost: (B,) ``sum w rho(r)``.
        hessian: (B, P, P) J'WJ, per scaled unit.
        gradient: (B, P) J'Wr, per scaled unit.
    """

    scale: Tensor
    cost: Tensor
    hessian: Tensor
    gradient: Tensor

    @property
    def finite(self) -> Tensor:
        """(B,) bool: whether a step can be solved for."""
        finite = torch.isfinite(self.cost) & torch.isfinite(self.gradient).all(-1)
        return finite & torch.isfinite(self.hessian).flatten(1).all(-1)

    def adopt(self, other: NormalEquations, places: Tensor, taken: Tensor) -> None:
        """In place: those of ``other`` that were ``taken``, at their places in this batch."""
        here, there = places[taken], taken.nonzero()[:, 0]
        for name in ("scale", "cost", "hessian", "gradient"):
            getattr(self, name)[here] = getattr(other, name)[there]


def normal_equations(
    linear: Linearisation, units: Tensor, huber: float, prior: Prior | None, rows: _Rows | None
) -> NormalEquations:
    """Everything with the robust scale of this very residual, so that the next step fits it.

    Args:
        linear: of the pictures.
        units: (P,) what one scaled unit of each parameter is.
        huber: see `huber_cost`.
        prior, rows: the prior and its rows at the same states; None without one.
    """
    residual, jacobian, weight = linear
    scale = robust_scale(residual.detach(), weight.detach())
    cost = huber_cost(residual, weight, scale, huber)
    weighted = jacobian * huber_weight(residual, weight, scale, huber)[:, None]
    hessian = (weighted @ jacobian.transpose(1, 2)).to("cpu", torch.float64)
    gradient = (weighted @ residual[:, :, None])[..., 0].to("cpu", torch.float64)
    scale, cost = scale.cpu(), cost.cpu()
    if prior is not None and rows is not None:
        deviation, change = rows
        factor = prior.dependent * scale**2
        cost = cost + _prior_cost(prior, rows, scale)
        hessian = hessian + factor[:, None, None] * (change @ change.mT)
        gradient = gradient + factor[:, None] * (change @ deviation[..., None])[..., 0]
    return NormalEquations(scale, cost, hessian * units[:, None] * units, gradient * units)


def cost_at_scale(
    linear: Linearisation, scale: Tensor, huber: float, prior: Prior | None, rows: _Rows | None
) -> Tensor:
    """Cost (B,) with a given robust scale (B,): the same function at two states."""
    residual, _, weight = linear
    cost = huber_cost(residual, weight, scale.to(residual.device), huber).cpu()
    if prior is not None and rows is not None:
        cost = cost + _prior_cost(prior, rows, scale)
    return cost


def _prior_cost(prior: Prior, rows: _Rows, scale: Tensor) -> Tensor:
    return 0.5 * prior.dependent * scale**2 * rows[0].square().sum(-1)
