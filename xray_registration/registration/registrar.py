"""Images + CT + a start -> a pose with its proof: the door to the library."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration.config import RegistrationConfig
from xray_registration.registration.descent import Descent
from xray_registration.registration.foreign_objects import (
    CLOSE,
    ROUGH,
    Caution,
    without_foreign_objects,
)
from xray_registration.registration.input_checks import (
    checked_device,
    checked_starts,
    is_in_view,
)
from xray_registration.registration.judgement import SAME_SIMILARITY, Judge, judging_level
from xray_registration.registration.learned_mask import LearnedMask, loaded_mask
from xray_registration.registration.levenberg_marquardt import Minimum
from xray_registration.registration.objective import Objective
from xray_registration.registration.prepared_patient import PreparedLevel, prepared_patient
from xray_registration.registration.result import Reason, RegistrationResult
from xray_registration.registration.rig_refinement import (
    RefinedRig,
    refined_rig,
    views_of,
    with_rig,
)
from xray_registration.registration.screening import screened
from xray_registration.registration.spread import distinct
from xray_registration.registration.vertebra_check import VertebraCheck
from xray_registration.registration.view import View
from xray_registration.registration.wrong_level import level_shifts

_log = logging.getLogger(__name__)

_MOST_LEVELS_OFF = 3  # so often a pose may give way to one a vertebra off
# Before these of the structures' levels metal is looked for: the better the pose, the more is sure.
_MASKED_ANEW = {0: ROUGH, 2: CLOSE}
_STAYS_SO = (Reason.UNCERTAIN, Reason.LOW_SIMILARITY)  # bones that are alike, from any start
_CONTENDERS = 3  # distinct optima of the coarsest level that are looked at more closely


@dataclass(frozen=True, eq=False)
class _Coarse:
    """Outcome of the levels of the whole CT, for one start that was the best of all.

    Attributes:
        poses, given: (1, 4, 4), the pose and the caller's start that it came from.
        minimum: of the last level.
        iterations: of all starts.
        is_given_up: before the last level.
    """

    poses: Tensor
    given: Tensor
    minimum: Minimum | None
    iterations: int
    is_given_up: bool = False


class Registrar:
    """Registers pictures to one CT. Build it once; it keeps the volumes of all resolutions."""

    def __init__(
        self,
        ct: CTVolume,
        config: RegistrationConfig | None = None,
        label_map: LabelMap | None = None,
        device: str | torch.device = "cpu",
        isocentre_lps_mm: ArrayLike | None = None,
    ) -> None:
        """Prepare the volumes.

        Args:
            ct: the patient.
            config: what to do; the default registers any anatomy from starts within about 30 mm.
            label_map: of the CT; needed for the configuration's ``structures``.
            device: "cpu" or "cuda[:n]".
            isocentre_lps_mm: centre (3,) of increments and covariance; when None the centre of the
                bounding box of the structures, or else of all bone.

        Raises:
            InputError: no such device; nothing in the CT attenuates; structures without a label
                map, or that are not in it.
        """
        self.ct = ct
        self.config = config or RegistrationConfig()
        self.label_map = label_map
        self.device = checked_device(device)
        patient = prepared_patient(ct, self.config, label_map, self.device, isocentre_lps_mm)
        self.isocentre_lps_mm = patient.isocentre_lps_mm
        self._corners_lps_mm = patient.corners_lps_mm
        self._levels, self._of_structures = patient.levels, patient.of_structures
        self._learned = patient.learned
        self._mask: LearnedMask | None = None
        if self.config.structures and self.config.mask_network:
            self._mask = loaded_mask(self.config.mask_network, self.isocentre_lps_mm, self.device)
        self._gone_through = self._levels  # those that a registration goes through
        self.descent = Descent(self.config.optimiser, self.config.beam, self.isocentre_lps_mm)
        self._vertebra_check: VertebraCheck | None = None
        if label_map is not None and self.config.gate.min_level_margin > 0:
            shifts = level_shifts(label_map, self.isocentre_lps_mm)
            if shifts:
                judge = judging_level(self._levels)
                self._vertebra_check = VertebraCheck(
                    shifts, self._levels, judge, self.descent, self.config.gate
                )

    @property
    def coarsest(self) -> PreparedLevel:
        """The first gradient level, for who looks for starts."""
        return self._levels[0]

    @property
    def learned(self) -> Sequence[PreparedLevel]:
        """The levels whose similarity is a network, in order."""
        return tuple(self._learned)

    def register(self, views: Sequence[View], rig_from_ct_start: ArrayLike) -> RegistrationResult:
        """Find the pose of the CT in the rig that explains all views together.

        Args:
            views: one or more; with several, their ``camera_from_rig`` are taken as known, unless
                the configuration says how uncertain they are.
            rig_from_ct_start: (4, 4), or (S, 4, 4) starts of which the best after the first level
                is refined; CT in LPS mm.

        Raises:
            InputError: no views; a start that is not rigid; a start with which the CT lies behind
                the source or projects wholly outside a picture.
        """
        began = time.perf_counter()
        starts = checked_starts(views, rig_from_ct_start, self._corners_lps_mm)
        with torch.no_grad():
            coarse = self._coarse(list(views), starts, starts, may_give_up=True)
            first = None if coarse.is_given_up else self._fine(list(views), coarse)
            if first is not None and (self._is_beyond_doubt(first) or not self.config.spread.count):
                result = first
            else:
                result = self._second_attempt(list(views), starts, coarse, first)
            for _ in range(_MOST_LEVELS_OFF if self._vertebra_check else 0):
                checked = self._at_the_right_level(list(views), starts, result)
                stays = np.array_equal(checked.rig_from_ct, result.rig_from_ct)
                result = checked
                if stays:
                    break
        result = replace(result, seconds=time.perf_counter() - began)
        _log.debug("registration: %s, %s", result.reason.value, result.reason_text)
        return result

    def _is_beyond_doubt(self, result: RegistrationResult) -> bool:
        """Whether no other start could do better."""
        alike = result.similarity >= self.config.spread.unless_similarity
        if not self._of_structures:
            return result.accepted and alike
        # Bones alone are judged by a threshold of their own, which wrong poses are far below; and
        # what the picture leaves uncertain, or not alike enough for one view to be accepted, it
        # leaves so from anywhere.
        return result.accepted or (alike and result.reason in _STAYS_SO)

    def _second_attempt(
        self, views: list[View], starts: Tensor, found: _Coarse, first: RegistrationResult | None
    ) -> RegistrationResult:
        """Once more from poses about the given starts and from what was found already; the better
        of the two results.
        """
        clear = views
        if self._of_structures:  # where metal is expected; it shows from a wrong pose as well
            clear = self._without_foreign_objects(views, found.poses, ROUGH)
        given, poses = self._screened(clear, starts)
        given, poses = torch.cat((found.given, given)), torch.cat((found.poses, poses))
        coarse = self._coarse(clear, poses, given)
        before = found.iterations if first is None else first.iterations
        to_be_beaten = first if self._of_structures else None
        if to_be_beaten is not None and not self._is_more_alike(clear, coarse.poses, to_be_beaten):
            return replace(to_be_beaten, iterations=before + coarse.iterations)
        second = self._fine(views, coarse)
        better = first is None or second.similarity > first.similarity
        best = second if better else first
        assert best is not None
        return replace(best, iterations=before + second.iterations)

    def _screened(self, views: list[View], starts: Tensor) -> tuple[Tensor, Tensor]:
        """See `screened`; only poses that show the CT in every view."""

        def shows(pose: Tensor) -> bool:
            return is_in_view(views, pose.numpy(), self._corners_lps_mm)

        return screened(views, self.coarsest, starts, self.descent, self.config.spread, shows)

    def _at_the_right_level(
        self, views: list[View], starts: Tensor, result: RegistrationResult
    ) -> RegistrationResult:
        """An accepted result, or that of a pose one vertebra off if it is more alike; ambiguous
        when they cannot be told apart.
        """
        if not result.accepted:
            return result
        assert self._vertebra_check is not None
        as_found = views_of(result, views)
        found = self._vertebra_check.around(as_found, result.rig_from_ct)
        iterations = result.iterations + found.iterations
        if found.better is not None:
            last = self._last_whole(as_found, found.better)
            return self._fine(views, _Coarse(last.poses, starts[:1], last, iterations))
        result = replace(result, iterations=iterations)
        if not found.ambiguity:
            return result
        return replace(
            result,
            accepted=False,
            reason=Reason.AMBIGUOUS,
            reason_text=found.ambiguity,
            probability=0.5 * result.probability,  # one of two
        )

    def _last_whole(self, views: list[View], poses: Tensor) -> Minimum:
        return self.descent.through(self._levels[-1], views, poses)

    def _is_more_alike(self, views: list[View], poses: Tensor, other: RegistrationResult) -> bool:
        """Whether the whole CT at ``poses`` (1, 4, 4) is more like the pictures than at another."""
        both = torch.cat((poses, torch.from_numpy(other.rig_from_ct)[None]))
        similarity = self.descent.similarity(self._levels[-1], views, both)
        return bool(similarity[0] > similarity[1] + SAME_SIMILARITY)

    def _coarse(
        self, views: list[View], starts: Tensor, given: Tensor, may_give_up: bool = False
    ) -> _Coarse:
        """The levels of the whole CT.

        Of several starts a few go on from the first level, since the coarsest pictures may take a
        wrong pose for the best, and one from the second.

        Args:
            views: of one patient.
            starts: (S, 4, 4).
            given: (S, 4, 4), the caller's start that each start belongs to; the result is never
                worse than that one, and its correction is measured from it.
            may_give_up: end after the second level when the pose is plainly wrong by then, for a
                second attempt.
        """
        spread = self.config.spread
        # what the whole CT looks like says little of bones that are wanted apart from it
        may_give_up = may_give_up and spread.count > 0 and not self._of_structures
        # and a right pose does not look right in a rig that is not
        may_give_up = may_give_up and not self.config.refines_rig(len(views))
        poses, iterations, minimum = starts, 0, None
        for prepared in self._learned:
            learned = self.descent.through(prepared, views, poses)
            poses, iterations = learned.poses, iterations + int(learned.iterations.sum())
        for n, prepared in enumerate(self._gone_through):
            objective = self.descent.objective(prepared, views, poses)
            minimum = self.descent.minimum(objective, poses, prepared.level)
            iterations += int(minimum.iterations.sum())
            poses = minimum.poses
            if len(poses) > 1:
                go_on = _CONTENDERS if n == 0 and len(self._gone_through) > 1 else 1
                best = self._best_of(objective, poses, given, go_on)
                given, poses = given[best], poses[best]
                if go_on == 1:
                    minimum = minimum.only(int(best))
            if may_give_up and n == 1 and len(self._gone_through) > 2:
                alike = self.descent.similarity(prepared, views, poses) >= spread.unless_similarity
                if not alike:
                    return _Coarse(poses, given, None, iterations, is_given_up=True)
        return _Coarse(poses, given, minimum, iterations)

    def _best_of(self, objective: Objective, poses: Tensor, given: Tensor, count: int) -> Tensor:
        """Which of the poses (S, 4, 4) of ``objective`` are most like the pictures; at most
        ``count``, and those that are too far from their start to be accepted last.
        """
        similarity = objective.correlations(poses, torch.arange(len(poses))).mean(1).cpu()
        centre = torch.from_numpy(self.isocentre_lps_mm)
        scale_mm = self.config.optimiser.rotation_scale_mm
        correction = se3.distance_mm(given, poses, centre, scale_mm)
        too_far = correction > self.config.gate.max_correction_mm
        rank = torch.nan_to_num(similarity, nan=-2.0).to(torch.float64) - 4.0 * too_far
        return distinct(poses, rank, count, self.config.spread.apart_mm, centre, scale_mm)

    def _fine(self, views: list[View], coarse: _Coarse) -> RegistrationResult:
        """The levels of the structures, if any, and the judgement."""
        poses, minimum, iterations = coarse.poses, coarse.minimum, coarse.iterations
        given, pictures = coarse.given, views
        rig: RefinedRig | None = None
        if self.config.refines_rig(len(views)):
            rig = self._rig(self._levels, views, pictures, poses)
            pictures, minimum, poses = rig.views, rig.minimum, rig.minimum.poses
            iterations += rig.iterations
        placed = pictures
        for n, prepared in enumerate(self._of_structures):
            # a network sees no more from a better pose
            if n in _MASKED_ANEW and (n == 0 or self._mask is None):
                pictures = self._without_foreign_objects(placed, poses, _MASKED_ANEW[n])
            objective = self.descent.objective(prepared, pictures, poses)
            minimum = self.descent.minimum(objective, poses, prepared.level)
            iterations += int(minimum.iterations.sum())
            poses = minimum.poses
        if rig is not None and self._of_structures:
            rig = self._rig(self._of_structures[-1:], views, pictures, poses)
            pictures, minimum, iterations = rig.views, rig.minimum, iterations + rig.iterations
        assert minimum is not None  # there is always a level
        judge = Judge(self.config, self.descent, self._levels, self._of_structures, self.device)
        result = judge.result(pictures, given[:1], minimum, iterations)
        return result if rig is None else with_rig(result, rig)

    def _without_foreign_objects(
        self, views: Sequence[View], poses: Tensor, caution: Caution
    ) -> list[View]:
        if self._mask is not None:  # here too, not before: coarse pictures need what it hides
            return [self._mask.applied(view, poses) for view in views]
        whole = self._levels[-1].projector
        return [without_foreign_objects(view, whole, poses, caution) for view in views]

    def _rig(
        self,
        levels: Sequence[PreparedLevel],
        given: list[View],
        views: list[View],
        poses: Tensor,
    ) -> RefinedRig:
        """Pose and relative geometry together, from ``poses`` (1, 4, 4) and that of ``views``."""
        assert self.config.rig_uncertainty is not None
        return refined_rig(
            self.descent.objective,
            levels,
            given,
            views,
            poses,
            self.isocentre_lps_mm,
            self.config.rig_uncertainty,
            self.config.optimiser,
        )
