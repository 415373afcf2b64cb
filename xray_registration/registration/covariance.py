"""How sure a registration is of its pose."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from xray_registration.registration.least_squares.residual import Linearisation
from xray_registration.registration.levenberg_marquardt import Minimum
from xray_registration.registration.robust import huber_weight, robust_scale
from xray_registration.similarity.filters import tile_sums

# Of a level of 1.25 mm: 30 mm, beyond which what is left of a picture hardly depends on itself.
_BLOCK_PX = 24
# with fewer the outer products of six numbers say little of all directions
_LEAST_BLOCKS = 36


def pose_covariance(
    minimum: Minimum, smoothing_px: float, inflation: float = 1.0
) -> NDArray[np.float64]:
    """(6, 6) of (v mm, w rad), residual variance times the inverse normal matrix; infinite where
    the matrix cannot be inverted.
    """
    hessian = minimum.hessian[0].numpy()
    dependent_px = dependent_residuals(smoothing_px)
    return _inflated(float(minimum.variance[0]) * dependent_px * _inverse(hessian), inflation)


def block_covariance(
    linear: Linearisation, shapes: Sequence[tuple[int, int, int]], huber: float, inflation: float
) -> NDArray[np.float64]:
    """(6, 6) of (v mm, w rad) of an estimate whose residuals depend on their neighbours.

    H^-1 (sum of g g' over blocks of the pictures) H^-1, H = J'WJ and g = J'Wr of one block: the
    heteroscedasticity-consistent covariance of White (Econometrica 48 (1980) 817) with clusters,
    for which nothing need be known of how neighbours depend on each other. A picture that the model
    explains badly (another spectrum, metal, scatter) leaves residuals that are alike over
    centimetres; the variance of single pixels does not see them.

    Args:
        linear: at the pose, of one element.
        shapes: (channels, H, W) of each view's part of the residual, in order.
        huber: see `huber_weight`.
        inflation: of the result.
    """
    residual, jacobian, weight = linear
    robust = huber_weight(residual, weight, robust_scale(residual, weight), huber)
    weighted = jacobian[0] * robust
    hessian = (weighted @ jacobian[0].T).to("cpu", torch.float64).numpy()
    pulls = weighted * residual[0]
    meat, first = np.zeros((6, 6)), 0
    pixels = min(height * width for _, height, width in shapes)
    block = max(1, min(_BLOCK_PX, math.isqrt(pixels // _LEAST_BLOCKS)))
    for channels, height, width in shapes:
        count = channels * height * width
        pull = pulls[:, first : first + count].view(6, channels, height, width).sum(1)
        first += count
        flat = tile_sums(pull.double(), block).flatten(1).cpu()
        meat += (flat @ flat.T).numpy()
    inverse = _inverse(hessian)
    if not np.isfinite(inverse).all():
        return inverse
    return _inflated(inverse @ meat @ inverse, inflation)


def dependent_residuals(smoothing_px: float) -> float:
    """How many residuals say the same, at least 1.

    Smoothing makes neighbouring residuals dependent: only one in about 4 pi sigma^2 pixels is
    new (the area of the autocorrelation of a Gaussian), so the sum over pixels is that much
    too sure of itself.
    """
    return max(1.0, 4 * np.pi * smoothing_px**2)


def _inverse(hessian: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        return np.asarray(np.linalg.inv(hessian))
    except np.linalg.LinAlgError:
        return np.full((6, 6), np.inf)


def _inflated(covariance: NDArray[np.float64], inflation: float) -> NDArray[np.float64]:
    if not np.isfinite(covariance).all() or (np.diag(covariance) <= 0).any():
        return np.full((6, 6), np.inf)
    return np.asarray(inflation * (covariance + covariance.T) / 2)
