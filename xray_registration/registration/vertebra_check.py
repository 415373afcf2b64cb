"""Is the pose one vertebra off? The neighbouring poses are optimised and compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.registration.config import GateConfig
from xray_registration.registration.descent import Descent
from xray_registration.registration.levenberg_marquardt import Minimum
from xray_registration.registration.prepared_patient import PreparedLevel
from xray_registration.registration.view import View
from xray_registration.registration.wrong_level import LevelShift

_ITERATIONS = 8  # of poses one vertebra off


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What was found.

    Attributes:
        iterations: of all poses.
        better: (1, 4, 4) a pose that is more alike, one vertebra off; None when there is none.
        ambiguity: why the two cannot be told apart; empty when they can.
    """

    iterations: int
    better: Tensor | None = None
    ambiguity: str = ""


class VertebraCheck:
    """Of one patient."""

    def __init__(
        self,
        shifts: Sequence[LevelShift],
        levels: Sequence[PreparedLevel],
        judge: PreparedLevel,
        descent: Descent,
        gate: GateConfig,
    ) -> None:
        """``levels``: the two coarsest of the whole CT, or one; ``judge``: of the second."""
        self._shifts, self._levels = list(shifts), list(levels[:2])
        self._judges = (levels[0], judge)
        self._margins = (gate.clear_level_margin, gate.min_level_margin)
        self._descent = descent

    def around(self, views: list[View], rig_from_ct: NDArray[np.float64]) -> Neighbours:
        """Compare a pose (4, 4) with those one vertebra off."""
        found = torch.from_numpy(rig_from_ct)[None]
        shifts = self._shifts
        poses = torch.cat([found @ torch.from_numpy(shift.ct_from_ct) for shift in shifts])
        iterations, nearest, similarities = 0, 0, torch.zeros(1)
        for prepared, judge, margin in zip(self._levels, self._judges, self._margins, strict=False):
            few = prepared.with_at_most(_ITERATIONS)
            minimum = self._descent.through(few, views, poses)
            iterations += int(minimum.iterations.sum())
            # one that came back is no other level
            away = [n for n in range(len(shifts)) if self._is_away(found, minimum, shifts, n)]
            if not away:
                return Neighbours(iterations)
            shifts, poses = [shifts[n] for n in away], minimum.poses[away]
            similarities = self._descent.similarity(judge, views, torch.cat((found, poses)))
            nearest = int(similarities[1:].argmax())
            if float(similarities[0] - similarities[1 + nearest]) >= margin:
                return Neighbours(iterations)
        here, there = float(similarities[0]), float(similarities[1 + nearest])
        needed = self._margins[1]
        if here - there < -needed:
            return Neighbours(iterations, better=poses[nearest][None])
        return Neighbours(
            iterations,
            ambiguity=(
                f"{shifts[nearest].level} and {shifts[nearest].taken_for} cannot be told apart: "
                f"with the one taken for the other the similarity is {there:.3f} against "
                f"{here:.3f}; a difference of {needed:.2f} is needed"
            ),
        )

    def _is_away(
        self, found: Tensor, minimum: Minimum, shifts: Sequence[LevelShift], n: int
    ) -> bool:
        """Whether pose ``n`` is nearer to the neighbouring vertebra than to this one."""
        centre = torch.from_numpy(self._descent.isocentre_lps_mm)
        between = se3.perturbation_between(found, minimum.poses[n][None], centre)[0, :3]
        along = found[0, :3, :3] @ torch.from_numpy(shifts[n].ct_from_ct[:3, 3])
        return float(between @ along / along.square().sum()) >= 0.5
