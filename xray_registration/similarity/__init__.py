"""Two images -> residual and weights."""

from xray_registration.similarity.gradient import GradientResidual, GradientTarget

__all__ = ["GradientResidual", "GradientTarget"]
