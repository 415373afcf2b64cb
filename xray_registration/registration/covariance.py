"""How sure a registration is of its pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xray_registration.registration.levenberg_marquardt import Minimum


def pose_covariance(minimum: Minimum, smoothing_px: float) -> NDArray[np.float64]:
    """(6, 6) of (v mm, w rad), residual variance times the inverse normal matrix; infinite where
    the matrix cannot be inverted.
    """
    hessian = minimum.hessian[0].numpy()
    dependent_px = dependent_residuals(smoothing_px)
    try:
        inverse = np.linalg.inv(hessian)
    except np.linalg.LinAlgError:
        return np.full((6, 6), np.inf)
    covariance = float(minimum.variance[0]) * dependent_px * inverse
    if not np.isfinite(covariance).all() or (np.diag(covariance) <= 0).any():
        return np.full((6, 6), np.inf)
    return np.asarray((covariance + covariance.T) / 2)


def dependent_residuals(smoothing_px: float) -> float:
    """How many residuals say the same, at least 1.

    Smoothing makes neighbouring residuals dependent: only one in about 4 pi sigma^2 pixels is
    new (the area of the autocorrelation of a Gaussian), so the sum over pixels is that much
    too sure of itself.
    """
    return max(1.0, 4 * np.pi * smoothing_px**2)
