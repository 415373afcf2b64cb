"""Levenberg-Marquardt on states such as poses, batched over starts, each with its own damping and
acceptance.

Minimises ``sum_i w_i rho(r_i(state))`` with Huber's rho. A step solves, in float64 and scaled
units, ``(J' W J + lambda diag(J' W J)) xi = -J' W r`` (Marquardt's scaling) and is taken if the
true cost falls; the damping follows the gain ratio. The best state is the last accepted one: the
cost never rises. The parts are in `least_squares`; `least_squares.unrolled` is the same to
differentiate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.least_squares.damping import GainRatioDamping
from xray_registration.registration.least_squares.normal_equations import (
    cost_at_scale,
    normal_equations,
)
from xray_registration.registration.least_squares.residual import (
    Linearisation,
    Linearise,
    Prior,
    Retract,
    pose_units,
)
from xray_registration.registration.least_squares.solver import damped_step
from xray_registration.registration.least_squares.stopping import Stopping, Termination

__all__ = ["Linearisation", "Linearise", "Minimum", "Retract", "Termination", "minimise"]


@dataclass(frozen=True)
class Minimum:
    """Outcome for B starts.

    Attributes:
        poses: (B, 4, 4) float64, the best that was seen; of other states (B, ...).
        cost: (B,) at ``poses``; each element with the robust scale of its own residual.
        hessian: (B, P, P) J'WJ at ``poses``, per mm and rad (the units of the increments).
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


@torch.no_grad()
def minimise(
    linearise: Linearise,
    retract: Retract,
    start: Tensor,
    max_iterations: int,
    config: LevenbergMarquardtConfig,
    units: Tensor | None = None,
    prior: Prior | None = None,
) -> Minimum:
    """Run from every start (B, 4, 4) until each has ended on its own; nothing is differentiated.

    The small matrices live on the CPU in float64; residuals and Jacobians where ``linearise`` makes
    them.

    Args:
        linearise: residual and Jacobian.
        retract: moves states by increments of P parameters.
        start: states (B, ...).
        max_iterations: steps, rejected ones included.
        config: tolerances; lengths are in scaled units.
        units: (P,) what one scaled unit of each parameter is; None: `pose_units` of one pose.
        prior: further rows, about which the pictures say nothing.
    """
    units = pose_units(config) if units is None else units
    # a copy: accepted states are written into it
    states = start.to("cpu", torch.float64).clone()
    everyone = torch.arange(len(states))
    rows = None if prior is None else prior.rows(states)
    normal = normal_equations(linearise(states, everyone), units, config.huber, prior, rows)
    damping = GainRatioDamping(len(states), config.initial_damping)
    stopping = Stopping(normal.finite, max_iterations, config)
    last_step_mm = torch.zeros(len(states), dtype=torch.float64)

    while len(active := stopping.going_on()):
        lambdas = damping.value[active]
        step, predicted = damped_step(
            normal.hessian[active], normal.gradient[active], lambdas, config.max_step_mm
        )
        length = step.norm(dim=-1)
        last_step_mm[active] = length
        trial = retract(states[active], step * units)
        linear = linearise(trial, active)
        rows = None if prior is None else prior.rows(trial)
        # compared with the scale of the accepted state: the same function on both sides
        cost = cost_at_scale(linear, normal.scale[active], config.huber, prior, rows)
        candidate = normal_equations(linear, units, config.huber, prior, rows)
        cost_before = normal.cost[active]
        decrease = cost_before - cost
        taken = candidate.finite & torch.isfinite(cost) & (decrease > 0)
        relative = decrease / cost_before.clamp_min(1e-300)
        stopping.after_step(active, length, lambdas, taken, relative)
        damping.update(active, taken, decrease / predicted.clamp_min(1e-300))
        states[active[taken]] = trial[taken]
        normal.adopt(candidate, active, taken)
        stopping.stalled(active[damping.exhausted(active)])

    per_unit = 1 / units
    return Minimum(
        poses=states,
        cost=normal.cost,
        hessian=normal.hessian * per_unit[:, None] * per_unit,
        variance=normal.scale**2,
        iterations=stopping.iterations,
        termination=stopping.reasons,
        last_step_mm=last_step_mm,
    )
