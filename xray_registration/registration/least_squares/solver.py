"""The step that damped normal equations ask for; float64, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor


def damped_step(
    hessian: Tensor, gradient: Tensor, damping: Tensor, max_step: float
) -> tuple[Tensor, Tensor]:
    """Solve ``(H + lambda diag(H)) x = -g`` (Marquardt's scaling), no longer than a bound.

    Args:
        hessian: (b, P, P) float64, in units in which the parameters compare.
        gradient: (b, P).
        damping: (b,) lambda.
        max_step: longest step, in those units.

    Returns:
        The step (b, P), and the decrease of the cost (b,) that the quadratic model predicts for it.
    """
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    # a direction that the picture does not see still gets damped
    floor = 1e-6 * diagonal.amax(-1, keepdim=True).clamp_min(1e-30)
    damped = hessian + torch.diag_embed(damping[:, None] * diagonal + floor)
    step = -torch.linalg.solve(damped, gradient[..., None])[..., 0]
    length = step.norm(dim=-1, keepdim=True)
    # the divisor is clamped, not the quotient: a step of no length has a gradient, too
    step = step * (max_step / length.clamp_min(max_step))
    curvature = (step[:, None] @ hessian @ step[..., None])[:, 0, 0]
    return step, -(gradient * step).sum(-1) - 0.5 * curvature
