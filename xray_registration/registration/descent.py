"""Down a level: what the objectives and minima of all levels of a registration have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.registration.config import Level, LevenbergMarquardtConfig
from xray_registration.registration.detected import IDEAL_BEAM, BeamConfig
from xray_registration.registration.levenberg_marquardt import Minimum, minimise
from xray_registration.registration.objective import Objective
from xray_registration.registration.prepared_patient import PreparedLevel
from xray_registration.registration.view import View


@dataclass(frozen=True, eq=False)
class Descent:
    """Attributes: the optimiser; the beam; isocentre_lps_mm (3,), the centre of increments."""

    optimiser: LevenbergMarquardtConfig
    beam: BeamConfig
    isocentre_lps_mm: NDArray[np.float64]

    def objective(self, at: PreparedLevel, views: Sequence[View], starts: Tensor) -> Objective:
        """Of the views at a level, for starts (S, 4, 4)."""
        return Objective(
            views,
            at.projector,
            at.cut,
            at.corners_lps_mm,
            at.residual,
            at.pixel_mm,
            starts,
            # a level must be able to move the CT by several of its own pixels
            margin_mm=4 * at.pixel_mm,
            background=at.background,
            shadow=at.shadow,
            # networks are trained on pictures without it
            beam=IDEAL_BEAM if at.level.is_learned else self.beam,
        )

    def minimum(self, objective: Objective, poses: Tensor, level: Level) -> Minimum:
        """From each of the poses (S, 4, 4) that the objective was made for."""
        centre = torch.from_numpy(self.isocentre_lps_mm)

        def retract(moved: Tensor, xi: Tensor) -> Tensor:
            return se3.left_increment(moved, xi, centre)

        optimiser = self.optimiser
        if level.min_decrease is not None:
            optimiser = replace(optimiser, min_decrease=level.min_decrease)
        return minimise(objective, retract, poses, level.max_iterations, optimiser)

    def through(self, at: PreparedLevel, views: Sequence[View], starts: Tensor) -> Minimum:
        """From each of the starts (S, 4, 4) to its minimum at one level."""
        return self.minimum(self.objective(at, views, starts), starts, at.level)

    def similarity(self, at: PreparedLevel, views: Sequence[View], poses: Tensor) -> Tensor:
        """Of each of some poses (S, 4, 4), on the pixels that it shows: (S,), -2 where unknown."""
        objective = self.objective(at, views, poses)
        similarity = objective.correlations(poses, torch.arange(len(poses))).mean(1)
        return torch.nan_to_num(similarity, nan=-2.0)
