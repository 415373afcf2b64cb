"""Levenberg-Marquardt on SE(3), batched over starts, each with its own damping and acceptance.

Minimises ``sum_i w_i rho(r_i(T))`` with Huber's rho. A step solves, in float64 and scaled units,
``(J' W J + lambda diag(J' W J)) xi = -J' W r`` (Marquardt's scaling) and is taken if the true cost
falls; the damping follows the gain ratio (Nielsen's rule; Madsen, Nielsen, Tingleff, *Methods for
Non-Linear Least Squares Problems*, 2004). The best pose is the last accepted one: the cost never
rises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.robust import huber_cost_and_weight, robust_scale

# residual (b, M), jacobian (b, 6, M), weight (b, M); unusable pixels have weight 0
Linearisation = tuple[Tensor, Tensor, Tensor]
# poses (b, 4, 4) of the batch places (b,) -> the residual and its derivative there
Linearise = Callable[[Tensor, Tensor], Linearisation]
# poses (b, 4, 4), increments (b, 6) -> poses
Retract = Callable[[Tensor, Tensor], Tensor]

_GREATEST_DAMPING = 1e6
_SMALLEST_DAMPING = 1e-7
_SMALL_STEPS_TO_STOP = 3
# with less damping than this, relative to the diagonal, a short step is the model's own
_DAMPING_OF_A_SHORT_STEP = 1.0


class Termination(str, Enum):
    """Why an optimisation ended.

    STEP: the model's own step is short: a minimum. STALLED: only heavy damping made it short, or
    the damping is at its limit, and still the cost does not fall.
    """

    STEP = "step_below_tolerance"
    DECREASE = "decrease_below_tolerance"
    ITERATIONS = "iteration_limit"
    STALLED = "no_descent_direction"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True)
class Minimum:
    """Outcome for B starts.

    Attributes:
        poses: (B, 4, 4) float64, the best that was seen.
        cost: (B,) at ``poses``; each element with the robust scale of its own residual.
        hessian: (B, 6, 6) J'WJ at ``poses``, per mm and rad.
        variance: (B,) robust variance of a residual at ``poses``.
        iterations: (B,) evaluations of residual and Jacobian.
        termination: one per start.
        last_step_mm: (B,) length of the last step tried, with 1 rad as ``rotation_scale_mm``.
    """

    poses: Tensor
    cost: Tensor
    hessian: Tensor
    variance: Tensor
    iterations: Tensor
    termination: tuple[Termination, ...]
    last_step_mm: Tensor

    def only(self, place: int) -> Minimum:
        """That of one start, as a batch of one."""
        one = slice(place, place + 1)
        return Minimum(
            self.poses[one],
            self.cost[one],
            self.hessian[one],
            self.variance[one],
            self.iterations[one],
            self.termination[one],
            self.last_step_mm[one],
        )


@dataclass
class _State:
    """What is known at the accepted poses; CPU, float64, the batch first."""

    poses: Tensor
    scale: Tensor
    cost: Tensor
    hessian: Tensor
    gradient: Tensor


def minimise(
    linearise: Linearise,
    retract: Retract,
    start: Tensor,
    max_iterations: int,
    config: LevenbergMarquardtConfig,
) -> Minimum:
    """Run from every start (B, 4, 4) until each has ended on its own.

    The small matrices live on the CPU in float64; residuals and Jacobians where ``linearise`` makes
    them.
    """
    batch = len(start)
    units = torch.tensor([1.0] * 3 + [1 / config.rotation_scale_mm] * 3, dtype=torch.float64)
    # a copy: accepted poses are written into the state
    poses = start.to("cpu", torch.float64).clone()
    state = _normal_equations(poses, linearise(poses, torch.arange(batch)), units, config)
    damping = torch.full((batch,), config.initial_damping, dtype=torch.float64)
    growth = torch.full((batch,), 2.0, dtype=torch.float64)
    small = torch.zeros(batch, dtype=torch.long)
    iterations = torch.ones(batch, dtype=torch.long)
    last_step_mm = torch.zeros(batch, dtype=torch.float64)
    ended: list[Termination | None] = [
        None if ok else Termination.NOT_FINITE for ok in _is_finite(state).tolist()
    ]

    while True:
        active = torch.tensor([n for n, why in enumerate(ended) if why is None], dtype=torch.long)
        for n in active[iterations[active] > max_iterations].tolist():
            ended[n] = Termination.ITERATIONS
        active = active[iterations[active] <= max_iterations]
        if not len(active):
            break
        step, predicted = _step(state, active, damping, config)
        length = step.norm(dim=-1)
        last_step_mm[active] = length
        poses = retract(state.poses[active], step * units)
        trial = linearise(poses, active)
        iterations[active] += 1
        # compared with the scale of the accepted pose: the same function on both sides
        cost = _cost(trial, state.scale[active], config)
        candidate = _normal_equations(poses, trial, units, config)
        decrease = state.cost[active] - cost
        taken = _is_finite(candidate) & torch.isfinite(cost) & (decrease > 0)
        gain = decrease / predicted.clamp_min(1e-300)

        relative = decrease / state.cost[active].clamp_min(1e-300)
        is_small = taken & (relative < config.min_decrease)
        small[active] = torch.where(is_small, small[active] + 1, torch.zeros_like(small[active]))
        for position, n in enumerate(active.tolist()):
            if length[position] < config.min_step_mm:
                refused = not taken[position] and damping[n] > _DAMPING_OF_A_SHORT_STEP
                ended[n] = Termination.STALLED if refused else Termination.STEP
            elif small[n] >= _SMALL_STEPS_TO_STOP:
                ended[n] = Termination.DECREASE
        _damp(damping, growth, active, taken, gain)
        _accept(state, candidate, active, taken)
        for n in active[damping[active] >= _GREATEST_DAMPING].tolist():
            ended[n] = ended[n] or Termination.STALLED

    scale_out = 1 / units
    return Minimum(
        poses=state.poses,
        cost=state.cost,
        hessian=state.hessian * scale_out[:, None] * scale_out,
        variance=state.scale**2,
        iterations=iterations,
        termination=tuple(why for why in ended if why is not None),
        last_step_mm=last_step_mm,
    )


def _cost(linear: Linearisation, scale: Tensor, config: LevenbergMarquardtConfig) -> Tensor:
    """Cost (B,) with a given robust scale (B,)."""
    residual, _, weight = linear
    cost, _ = huber_cost_and_weight(residual, weight, scale.to(residual.device), config.huber)
    return cost.cpu()


def _normal_equations(
    poses: Tensor, linear: Linearisation, units: Tensor, config: LevenbergMarquardtConfig
) -> _State:
    """Everything with the robust scale of this very residual, so that the next step fits it."""
    residual, jacobian, weight = linear
    scale = robust_scale(residual, weight)
    cost, robust = huber_cost_and_weight(residual, weight, scale, config.huber)
    weighted = jacobian * robust[:, None]
    hessian = (weighted @ jacobian.transpose(1, 2)).to("cpu", torch.float64)
    gradient = (weighted @ residual[:, :, None])[..., 0].to("cpu", torch.float64)
    return _State(
        poses, scale.cpu(), cost.cpu(), hessian * units[:, None] * units, gradient * units
    )


def _is_finite(state: _State) -> Tensor:
    finite = torch.isfinite(state.cost) & torch.isfinite(state.gradient).all(-1)
    return finite & torch.isfinite(state.hessian).flatten(1).all(-1)


def _step(
    state: _State, active: Tensor, damping: Tensor, config: LevenbergMarquardtConfig
) -> tuple[Tensor, Tensor]:
    """Increment (b, 6) in scaled units and the decrease of the cost that the model predicts."""
    hessian, gradient = state.hessian[active], state.gradient[active]
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    # a direction that the picture does not see still gets damped
    floor = 1e-6 * diagonal.amax(-1, keepdim=True).clamp_min(1e-30)
    damped = hessian + torch.diag_embed(damping[active, None] * diagonal + floor)
    step = -torch.linalg.solve(damped, gradient[..., None])[..., 0]
    length = step.norm(dim=-1, keepdim=True)
    step = step * (config.max_step_mm / length).clamp_max(1.0)
    curvature = (step[:, None] @ hessian @ step[..., None])[:, 0, 0]
    return step, -(gradient * step).sum(-1) - 0.5 * curvature


def _damp(damping: Tensor, growth: Tensor, active: Tensor, taken: Tensor, gain: Tensor) -> None:
    """Nielsen's rule, in place: down by the gain ratio when taken, up ever faster when not."""
    good, bad = active[taken], active[~taken]
    factor = (1 - (2 * gain[taken] - 1) ** 3).clamp(1 / 8, 2.0)
    damping[good] = (damping[good] * factor).clamp_min(_SMALLEST_DAMPING)
    growth[good] = 2.0
    damping[bad] = (damping[bad] * growth[bad]).clamp_max(_GREATEST_DAMPING)
    growth[bad] *= 2.0


def _accept(state: _State, candidate: _State, active: Tensor, taken: Tensor) -> None:
    """Move the accepted elements of ``state`` to ``candidate``."""
    moved = active[taken]
    for name in ("poses", "scale", "cost", "hessian", "gradient"):
        getattr(state, name)[moved] = getattr(candidate, name)[taken]
