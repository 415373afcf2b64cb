"""Gradients and a learned similarity in one residual: each where the other says little."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.similarity.gradient import GradientResidual, GradientTarget
from xray_registration.similarity.spherical import SphericalResidual, SphericalTarget


@dataclass(frozen=True, eq=False)
class StackedTarget:
    """Attributes: of either part; weight (H, W) in 0..1, where both may count."""

    gradient: GradientTarget
    learned: SphericalTarget
    weight: Tensor


@dataclass(frozen=True, eq=False)
class StackedResidual:
    """The rows of both, scaled: 0.5 r'r is the weighted sum of both halves.

    Attributes:
        gradient, learned: the parts; both have a length of the order of 1 at a place that does not
            fit.
        share: of the learned part, above 0 and below 1.
    """

    gradient: GradientResidual
    learned: SphericalResidual
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"share is {self.share}; expected above 0 and below 1.")

    @property
    def smoothing_px(self) -> float:
        """Of the part that smooths more."""
        return max(self.gradient.smoothing_px, self.learned.smoothing_px)

    @property
    def window_px(self) -> float:
        """Of the part that sees further."""
        return max(self.gradient.window_px, self.learned.window_px)

    @property
    def reach_px(self) -> int:
        """Of the part that keeps further away from what is masked."""
        return max(self.gradient.reach_px, self.learned.reach_px)

    def target(self, fixed: Tensor, mask: Tensor) -> StackedTarget:
        """Prepare the fixed picture (H, W) with its mask (H, W) bool, True = usable."""
        gradient, learned = self.gradient.target(fixed, mask), self.learned.target(fixed, mask)
        return StackedTarget(gradient, learned, gradient.weight * learned.weight)

    def with_jacobian(
        self, moving: Tensor, jacobian: Tensor, target: StackedTarget
    ) -> tuple[Tensor, Tensor]:
        """Residual (B, 2 + c, H, W) and its derivative (B, Q, 2 + c, H, W)."""
        parts = (
            self.gradient.with_jacobian(moving, jacobian, target.gradient),
            self.learned.with_jacobian(moving, jacobian, target.learned),
        )
        scales = (math.sqrt(1 - self.share), math.sqrt(self.share))
        r = torch.cat([scale * part[0] for scale, part in zip(scales, parts, strict=True)], 1)
        change = torch.cat([scale * part[1] for scale, part in zip(scales, parts, strict=True)], 2)
        return r, change

    def correlation(self, moving: Tensor, target: StackedTarget, weight: Tensor) -> Tensor:
        """Likeness (B,) in -1..1: the weighted mean of the parts'."""
        gradient = self.gradient.correlation(moving, target.gradient, weight)
        learned = self.learned.correlation(moving, target.learned, weight)
        return (1 - self.share) * gradient + self.share * learned
