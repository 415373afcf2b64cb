"""What is minimised, and over what: the interfaces between an optimiser and its problem.

A *state* is whatever the residual depends on, one row of a tensor (B, ...): a pose (4, 4), or
several of them. It has P parameters: an increment (P,) moves it through a `Retract`, and
derivatives are taken with respect to that increment at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xray_registration.registration.config import LevenbergMarquardtConfig

# residual (b, M), jacobian (b, P, M), weight (b, M); unusable pixels have weight 0
Linearisation = tuple[Tensor, Tensor, Tensor]
# states (b, ...) of the batch places (b,) -> the residual and its derivative there
Linearise = Callable[[Tensor, Tensor], Linearisation]
# states (b, ...), increments (b, P) -> states
Retract = Callable[[Tensor, Tensor], Tensor]
# states (b, ...) -> deviations (b, Q) in standard deviations, and their derivative (b, P, Q)
PriorRows = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Prior:
    """What is known of the state beforehand, as further rows of the residual.

    The rows stand beside those of the pictures, but neither the robust kernel nor the scale sees
    them: half their square sum is a negative log likelihood as it is. The pictures' cost is one
    only after division by the variance of a residual and by the number of residuals that say the
    same, so each prior row gets the product of the two as its weight. The variance is that of the
    state where the step starts, which is the scale of the robust kernel as well: while the pictures
    are explained badly, the prior holds; where they agree, they decide.

    Attributes:
        rows: deviations and their derivative, float64.
        dependent: residuals of the pictures that make one independent observation, at least 1.
    """

    rows: PriorRows
    dependent: float


def pose_units(config: LevenbergMarquardtConfig, poses: int = 1) -> Tensor:
    """(6 poses,) of increments (v mm, w rad): what one scaled unit of each parameter is."""
    units = [1.0] * 3 + [1 / config.rotation_scale_mm] * 3
    return torch.tensor(units * poses, dtype=torch.float64)
