"""Whether the stated covariance is the one that the errors have, and the stated probability too.

The error of a pose is the increment ``xi = (v mm, w rad)`` about the isocentre with
``estimate = left_increment(truth, xi, isocentre)``; the covariance is stated for the same vector
(``RegistrationResult.covariance``). NEES = xi^T C^-1 xi follows chi-square with 6 degrees of
freedom when C is right: its mean is 6; larger means overconfident (Bar-Shalom, Li & Kirubarajan,
*Estimation with Applications to Tracking and Navigation*, 2001, sec. 5.4).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError

DIMENSIONS = 6
_PROBABILITY_EDGES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class CovarianceCalibration:
    """Of a sample of NEES values.

    Attributes:
        n: cases with a finite covariance.
        mean_nees: 6 when calibrated.
        median_nees: 5.35 when calibrated; one outlier does not move it.
        coverage_95: share of the errors inside the stated 95 % ellipsoid.
    """

    n: int
    mean_nees: float
    median_nees: float
    coverage_95: float

    def to_dict(self) -> dict[str, Any]:
        """Name to value."""
        return asdict(self)


def pose_error_vector(
    rig_from_ct: ArrayLike, truth_rig_from_ct: ArrayLike, isocentre_lps_mm: ArrayLike
) -> NDArray[np.float64]:
    """Xi (6,), mm then rad, with ``estimate = left_increment(truth, xi, isocentre)``."""
    import torch

    from xray_registration.geometry import check_rigid, se3

    estimate = torch.from_numpy(check_rigid(rig_from_ct, "estimated pose").copy())
    truth = torch.from_numpy(check_rigid(truth_rig_from_ct, "true pose").copy())
    centre = torch.as_tensor(np.array(isocentre_lps_mm, dtype=np.float64))
    return np.asarray(se3.perturbation_between(truth, estimate, centre).numpy())


def nees(error: ArrayLike, covariance: ArrayLike) -> float:
    """xi^T C^-1 xi of one error (6,) and its covariance (6, 6); NaN when C is not finite.

    Raises:
        InputError: wrong shapes; C is not symmetric positive definite.
    """
    xi = np.asarray(error, dtype=np.float64)
    c = np.asarray(covariance, dtype=np.float64)
    if xi.shape != (DIMENSIONS,) or c.shape != (DIMENSIONS, DIMENSIONS):
        raise InputError(f"error {xi.shape}, covariance {c.shape}; expected (6,) and (6, 6).")
    if not np.isfinite(c).all():
        return float("nan")
    scale = np.sqrt(np.abs(np.diag(c)))
    if not (scale > 0).all() or not np.allclose(c, c.T, rtol=1e-6, atol=1e-12 * c.max()):
        raise InputError("the covariance is not symmetric with a positive diagonal.")
    # mm and rad differ by orders of magnitude: factor the correlation matrix
    try:
        factor = np.linalg.cholesky(c / scale[:, None] / scale)
    except np.linalg.LinAlgError as error_:
        raise InputError("the covariance is not positive definite.") from error_
    whitened = np.linalg.solve(factor, xi / scale)
    return float(whitened @ whitened)


def covariance_calibration(nees_values: ArrayLike) -> CovarianceCalibration:
    """Mean, median and 95 % coverage of NEES values; NaN ones (no covariance) are left out."""
    from scipy.stats import chi2

    values = np.asarray(nees_values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return CovarianceCalibration(0, float("nan"), float("nan"), float("nan"))
    limit = float(chi2.ppf(0.95, DIMENSIONS))
    return CovarianceCalibration(
        n=int(values.size),
        mean_nees=float(values.mean()),
        median_nees=float(np.median(values)),
        coverage_95=float((values <= limit).mean()),
    )


def reliability(probabilities: ArrayLike, right: ArrayLike) -> dict[str, dict[str, float]]:
    """By class of the stated probability (N,) of being right: how many were (N,) bool.

    Returns:
        "0-0.1" and so on: n cases, the mean ``stated`` probability, the share that was ``right``;
        equal when calibrated. Empty classes are left out.
    """
    stated, true = np.asarray(probabilities, dtype=np.float64), np.asarray(right, dtype=bool)
    classes = np.searchsorted(_PROBABILITY_EDGES[1:-1], stated, side="right")
    rows = {}
    for number in np.unique(classes):
        inside = classes == number
        low, high = _PROBABILITY_EDGES[number : number + 2]
        rows[f"{low:g}-{high:g}"] = {
            "n": int(inside.sum()),
            "stated": float(stated[inside].mean()),
            "right": float(true[inside].mean()),
        }
    return rows
