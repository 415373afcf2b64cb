"""How likely a pose is right, from registrations whose truth was known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError


@dataclass(frozen=True)
class TrustConfig:
    """A logistic curve in the lesser similarity of the views, and what counts as right.

    Fitted to the evaluation's protocols and reject set; figures: docs/design/gate.md.

    Attributes:
        even_similarity: as many poses with it are right as are wrong, one view.
        even_similarity_several_views: the same of two or more.
        even_similarity_of_structures: the same of two or more in which named bones are sought: the
            hidden rest is explained away, so that wrong poses look better too.
        width: of the curve: at ``even_similarity`` plus so much 73 % are right.
        right_mm: a pose is right when its targets are nearer than that.
    """

    even_similarity: float = 0.845
    even_similarity_several_views: float = 0.5
    even_similarity_of_structures: float = 0.72
    width: float = 0.026
    right_mm: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise InputError(
                    f"{field.name} is {getattr(self, field.name)}; expected a positive number."
                )


def probability_right(
    view_similarities: Sequence[float],
    covariance: NDArray[np.float64],
    rotation_scale_mm: float,
    config: TrustConfig,
    of_structures: bool = False,
) -> float:
    """Probability, 0 to 1, that the targets are within ``right_mm``.

    That it is the right optimum at all, times that the noise leaves it so near. It takes for
    granted that the camera is as it was said to be: a wrong SDD looks right.

    Args:
        view_similarities: gradient correlation of every view.
        covariance: (6, 6) of (v mm, w rad) about the isocentre.
        rotation_scale_mm: distance of the targets at which a rotation counts.
        config: the curve.
        of_structures: the similarities are those of named bones.
    """
    similarity = float(np.min(view_similarities))
    if not (np.isfinite(similarity) and np.isfinite(covariance).all()):
        return 0.0
    even = config.even_similarity
    if len(view_similarities) > 1:
        even = config.even_similarity_several_views
        if of_structures:
            even = config.even_similarity_of_structures
    z = float(np.clip((similarity - even) / config.width, -500.0, 500.0))
    return _near(covariance, rotation_scale_mm, config.right_mm) / (1.0 + math.exp(-z))


def largest_sigma_mm(covariance: NDArray[np.float64], rotation_scale_mm: float) -> float:
    """Standard deviation in the worst direction; 1 rad counts as ``rotation_scale_mm``."""
    if not np.isfinite(covariance).all():
        return float("inf")
    units = np.array([1.0] * 3 + [rotation_scale_mm] * 3)
    largest = float(np.linalg.eigvalsh(covariance * units[:, None] * units)[-1])
    return largest**0.5 if largest >= 0 else float("inf")


def _near(covariance: NDArray[np.float64], rotation_scale_mm: float, right_mm: float) -> float:
    """Share of a normal distribution, in its worst direction, that lies within ``right_mm``."""
    sigma = largest_sigma_mm(covariance, rotation_scale_mm)
    return (
        math.erf(right_mm / (sigma * math.sqrt(2.0))) if 0 < sigma < math.inf else float(not sigma)
    )
