"""Two images -> residual and weights."""

from xray_registration.similarity.gradient import GradientResidual, GradientTarget
from xray_registration.similarity.weighted_gradient import WeightedGradientResidual, WeightedTarget

__all__ = ["GradientResidual", "GradientTarget", "WeightedGradientResidual", "WeightedTarget"]
