"""A fixed number of Levenberg-Marquardt steps that can be differentiated: for training.

Made of the parts that `minimise` is made of. Gradients flow from the states reached through the
retraction, the solve, and J'WJ to whatever made residual, Jacobian and weights. What the data
decide counts as a constant: the damping, the acceptance, the robust scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.least_squares.damping import GainRatioDamping
from xray_registration.registration.least_squares.normal_equations import (
    NormalEquations,
    cost_at_scale,
    normal_equations,
)
from xray_registration.registration.least_squares.residual import (
    Linearise,
    Prior,
    Retract,
    pose_units,
)
from xray_registration.registration.least_squares.solver import damped_step


def unrolled_steps(
    linearise: Linearise,
    retract: Retract,
    start: Tensor,
    steps: int,
    config: LevenbergMarquardtConfig,
    units: Tensor | None = None,
    prior: Prior | None = None,
    refuse: bool = True,
) -> Tensor:
    """States (B, ...) float64 on the CPU after ``steps`` steps of every element.

    Args:
        linearise, retract, start, config, units, prior: as `minimise` takes them.
        steps: 1 or more; nothing ends early.
        refuse: stay where the cost would rise, as `minimise` does. A refused step has no gradient:
            a network that is still bad learns only from steps that are taken all the same (False),
            which also spares the evaluation after the last one.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; expected 1 or more.")
    units = pose_units(config) if units is None else units
    places = torch.arange(len(start))
    states = start.to("cpu", torch.float64)
    rows = None if prior is None else prior.rows(states)
    normal = normal_equations(linearise(states, places), units, config.huber, prior, rows)
    damping = GainRatioDamping(len(start), config.initial_damping)
    for number in range(steps):
        step, predicted = damped_step(
            normal.hessian, normal.gradient, damping.value, config.max_step_mm
        )
        trial = retract(states, step * units)
        if number == steps - 1 and not refuse:
            return trial
        linear = linearise(trial, places)
        rows = None if prior is None else prior.rows(trial)
        candidate = normal_equations(linear, units, config.huber, prior, rows)
        with torch.no_grad():
            decrease = normal.cost - cost_at_scale(linear, normal.scale, config.huber, prior, rows)
            better = candidate.finite & (decrease > 0)
            damping.update(places, better, decrease / predicted.clamp_min(1e-300))
        taken = better if refuse else torch.ones_like(better)
        states = _where(taken, trial, states)
        normal = NormalEquations(
            *(
                _where(taken, getattr(candidate, name), getattr(normal, name))
                for name in ("scale", "cost", "hessian", "gradient")
            )
        )
    return states


def _where(taken: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(taken.view(-1, *[1] * (new.ndim - 1)), new, old)
