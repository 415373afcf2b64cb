"""Robust scale and Huber's kernel for weighted residuals.

Huber, *Robust Statistics* (1981). ``rho(r) = r^2 / 2`` up to ``k s``, then linear; its weight
``rho'(r) / r`` is that of iteratively reweighted least squares.
"""

from __future__ import annotations

import torch
from torch import Tensor

# standard deviation of a normal variable over its median absolute value
_SIGMA_PER_MEDIAN = 1.4826
_SAMPLES = 1 << 14


def robust_scale(residual: Tensor, weight: Tensor) -> Tensor:
    """Standard deviation (B,) float64 of residuals (B, M) from the median, weight > 0 only."""
    scales = []
    # a few thousand samples give the median to 1 %; more would cost as much as a rendering
    stride = max(1, residual.shape[1] // _SAMPLES)
    for r, w in zip(residual[:, ::stride], weight[:, ::stride], strict=True):
        used = r[w > 0]
        scales.append(used.abs().median() if len(used) else r.new_tensor(0.0))
    return torch.stack(scales).double().mul(_SIGMA_PER_MEDIAN).clamp_min(1e-3)


def huber_cost_and_weight(
    residual: Tensor, weight: Tensor, scale: Tensor, k: float
) -> tuple[Tensor, Tensor]:
    """Cost (B,) float64, ``sum w rho(r)``, and IRLS weights (B, M). k = 0: plain squares."""
    if k <= 0:
        return 0.5 * (weight * residual**2).sum(1).double(), weight
    limit = (k * scale).to(residual.dtype)[:, None]
    size = residual.abs()
    inner = size <= limit
    rho = torch.where(inner, 0.5 * residual**2, limit * (size - 0.5 * limit))
    factor = torch.where(inner, torch.ones_like(size), limit / size.clamp_min(1e-12))
    return (weight * rho).sum(1).double(), weight * factor
