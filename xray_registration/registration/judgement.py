"""From where an optimisation ended to a result: similarity, covariance, the gate's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.registration.config import RegistrationConfig
from xray_registration.registration.covariance import block_covariance, pose_covariance
from xray_registration.registration.descent import Descent
from xray_registration.registration.levenberg_marquardt import Minimum, Termination
from xray_registration.registration.objective import Objective
from xray_registration.registration.prepared_patient import PreparedLevel
from xray_registration.registration.quality_gate import Evidence, decide
from xray_registration.registration.result import Reason, RegistrationResult
from xray_registration.registration.trust import probability_right
from xray_registration.registration.view import View

SAME_SIMILARITY = 1e-3
"""Two poses whose similarities differ by less are equally good."""
_JUDGED_PIXEL_MM = 1.25
# of covariances, so that NEES is about 6: docs/design/covariance.md
_INFLATION, _INFLATION_OF_SEVERAL_VIEWS = 2.3, 3.7
_INFLATION_OF_STRUCTURES, _INFLATION_OF_STRUCTURES_IN_SEVERAL_VIEWS = 4.0, 3.0


@dataclass(frozen=True, eq=False)
class Judge:
    """Attributes: the configuration; what all levels have in common; the levels of the whole CT;
    those of the named bones, which may be none; where the volumes are.
    """

    config: RegistrationConfig
    descent: Descent
    levels: list[PreparedLevel]
    of_structures: list[PreparedLevel]
    device: torch.device

    def result(
        self, views: Sequence[View], start: Tensor, minimum: Minimum, iterations: int
    ) -> RegistrationResult:
        """The result of one pose (a batch of one) that was found from ``start`` (1, 4, 4); without
        its time.
        """
        judged_at = judging_level(self.of_structures or self.levels)
        poses = minimum.poses
        # Judged on the pixels that the final pose shows, not on those of the last level's start.
        objective = self.descent.objective(judged_at, views, torch.cat((poses, start)))
        similarities = objective.correlations(torch.cat((poses, start)), torch.arange(2))
        final, at_start = similarities[0], similarities[1]
        covariance = self._covariance(objective, minimum, len(views))
        finite = bool(torch.isfinite(poses).all() and torch.isfinite(final).all())
        # Nothing found that is better: the start is returned. The gate hears of it unless the two
        # are equal but for rounding and noise: a start may well be the optimum (C-arm at rest).
        gain = float(final.mean()) - float(at_start.mean())
        better = finite and gain >= 0
        improved = finite and gain >= -SAME_SIMILARITY
        if not better:
            poses, final = start, at_start
        isocentre = self.descent.isocentre_lps_mm
        correction = se3.perturbation_between(start, poses, torch.from_numpy(isocentre))
        evidence = Evidence(
            rig_from_ct=poses[0].numpy(),
            covariance=covariance,
            view_similarities=final.tolist(),
            view_overlaps=objective.overlaps[0 if better else 1].tolist(),
            start_similarity=float(at_start.mean()),
            improved=improved,
            correction=correction[0].numpy(),
            rotation_scale_mm=self.config.optimiser.rotation_scale_mm,
            unsettled_mm=(
                float(minimum.last_step_mm[0])
                if minimum.termination[0] is Termination.ITERATIONS
                else 0.0
            ),
            of_structures=bool(self.of_structures),
        )
        reason, text = decide(evidence, self.config.gate)
        if not finite:
            reason, text = Reason.NOT_FINITE, "the optimisation left the finite numbers"
        return RegistrationResult(
            rig_from_ct=poses[0].numpy().copy(),
            accepted=reason is Reason.ACCEPTED,
            reason=reason,
            reason_text=text,
            similarity=float(final.mean()),
            start_similarity=float(at_start.mean()),
            view_similarities=tuple(final.tolist()),
            covariance=covariance,
            isocentre_lps_mm=isocentre.copy(),
            iterations=iterations,
            termination=minimum.termination[0] if finite else Termination.NOT_FINITE,
            seconds=0.0,  # the caller knows
            device=str(self.device),
            probability=probability_right(
                final.tolist(),
                covariance,
                evidence.rotation_scale_mm,
                self.config.trust,
                evidence.of_structures,
            ),
        )

    def _covariance(
        self, objective: Objective, minimum: Minimum, views: int
    ) -> NDArray[np.float64]:
        """(6, 6) of the pose of ``minimum``; ``objective`` was made at it."""
        with_rig = self.config.refines_rig(views)
        if self.of_structures or with_rig:
            last = (self.levels + self.of_structures)[-1]
            inflation = _INFLATION_OF_STRUCTURES
            if views > 1 and not with_rig:
                inflation = _INFLATION_OF_STRUCTURES_IN_SEVERAL_VIEWS
            return pose_covariance(minimum, last.level.residual.smoothing_px, inflation)
        linear = objective(minimum.poses, torch.zeros(1, dtype=torch.long))
        inflation = _INFLATION if views == 1 else _INFLATION_OF_SEVERAL_VIEWS
        return block_covariance(linear, objective.shapes, self.config.optimiser.huber, inflation)


def judging_level(levels: Sequence[PreparedLevel]) -> PreparedLevel:
    """The finest that is coarse enough for a similarity that does not depend on the dose."""
    coarse = [prepared for prepared in levels if prepared.level.pixel_mm >= _JUDGED_PIXEL_MM]
    return coarse[-1] if coarse else levels[0]
