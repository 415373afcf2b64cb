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


def huber_cost(residual: Tensor, weight: Tensor, scale: Tensor, k: float) -> Tensor:
    """Cost (B,) float64, ``sum w rho(r)``. k = 0: plain squares."""
    if k <= 0:
        return 0.5 * (weight * residual**2).sum(1).double()
    size = residual.abs()
    inner = torch.minimum(size, _limit(scale, k, residual))
    return (weight * inner * (size - 0.5 * inner)).sum(1).double()


def huber_weight(residual: Tensor, weight: Tensor, scale: Tensor, k: float) -> Tensor:
    """Weights (B, M) of iteratively reweighted least squares. k = 0: those given."""
    if k <= 0:
        return weight
    limit = _limit(scale, k, residual)
    return weight * (limit / torch.maximum(residual.abs(), limit))


def _limit(scale: Tensor, k: float, like: Tensor) -> Tensor:
    return (k * scale).to(like.dtype)[:, None]
