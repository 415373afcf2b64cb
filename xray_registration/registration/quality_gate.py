"""Accept a pose, or refuse it and say why. Refusing is the default: all tests must be passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xray_registration.registration.config import GateConfig
from xray_registration.registration.result import Reason
from xray_registration.registration.trust import largest_sigma_mm


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a pose when it is judged."""

    rig_from_ct: NDArray[np.float64]
    covariance: NDArray[np.float64]
    view_similarities: Sequence[float]
    view_overlaps: Sequence[float]
    start_similarity: float
    improved: bool
    correction: NDArray[np.float64]  # (6,) from start to pose, (v mm, w rad)
    rotation_scale_mm: float
    unsettled_mm: float = 0.0  # last step of an optimisation that met its iteration limit
    of_structures: bool = False  # named bones, apart from the rest of the patient


def decide(evidence: Evidence, config: GateConfig) -> tuple[Reason, str]:
    """The decision and a sentence for a person."""
    # numpy's minimum, not Python's: that one passes over a NaN
    similarity = float(np.min(evidence.view_similarities))
    if not (np.isfinite(evidence.rig_from_ct).all() and np.isfinite(similarity)):
        return Reason.NOT_FINITE, "the pose or the similarity is not a finite number"
    overlap = float(np.min(evidence.view_overlaps))
    if not overlap >= config.min_overlap:  # so that NaN does not pass
        return Reason.LOW_OVERLAP, (
            f"CT and picture overlap by {100 * overlap:.0f} %; at least "
            f"{100 * config.min_overlap:.0f} % is needed"
        )
    if not evidence.improved:
        return Reason.NO_IMPROVEMENT, (
            "no pose matches the picture better than the start, "
            f"whose similarity is {evidence.start_similarity:.3f}"
        )
    where, needed = "", config.min_similarity
    if len(evidence.view_similarities) > 1:
        where = f" in view {int(np.argmin(evidence.view_similarities))}"
        needed = config.min_similarity_several_views
        if evidence.of_structures:
            needed = config.min_similarity_of_structures
    if similarity < needed:
        return Reason.LOW_SIMILARITY, f"similarity {similarity:.3f}{where} is below {needed:.3f}"
    sigma = largest_sigma_mm(evidence.covariance, evidence.rotation_scale_mm)
    if not sigma <= config.max_sigma_mm:
        return Reason.UNCERTAIN, (
            f"the picture leaves a standard deviation of {sigma:.2f} mm in one direction; at most "
            f"{config.max_sigma_mm:.2f} mm is allowed"
        )
    if not evidence.unsettled_mm <= config.max_unsettled_mm:
        return Reason.NOT_CONVERGED, (
            f"the last step was still {evidence.unsettled_mm:.2f} mm long when the iterations ran "
            f"out; at most {config.max_unsettled_mm:.2f} mm is allowed"
        )
    units = np.array([1.0] * 3 + [evidence.rotation_scale_mm] * 3)
    correction_mm = float(np.linalg.norm(evidence.correction * units))
    if not correction_mm <= config.max_correction_mm:
        return Reason.FAR_FROM_START, (
            f"the pose is {correction_mm:.0f} mm from its start (1 rad as "
            f"{evidence.rotation_scale_mm:.0f} mm); at most "
            f"{config.max_correction_mm:.0f} mm is allowed"
        )
    return Reason.ACCEPTED, f"similarity {similarity:.3f}, standard deviation {sigma:.2f} mm"
