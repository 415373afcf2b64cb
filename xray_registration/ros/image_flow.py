"""What happens to one frame, from its messages to its report: the same for the node and for bags.

Frames come one after the other; the start poses remembered from earlier ones live here. No topics,
no threads, no clock.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.ros import frame_report
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.frame_report import Case, FrameReport
from xray_registration.ros.registration_settings import NetworkStart, RegistrationSettings
from xray_registration.ros.rig import camera_from_rig, parent_frame_id
from xray_registration.ros.solver import Ending, Order, Solver
from xray_registration.ros.start_pose import StartPose, StartPosePolicy, StartSource
from xray_registration.ros.tf_lookup import TransformLookup

Matrix = npt.NDArray[np.float64]
Say = Callable[[str], None]


class ImageFlow:
    """Chooses the start, has the frame solved, and remembers what the next one starts from."""

    def __init__(
        self,
        solver: Solver,
        starts: StartPosePolicy,
        warn: Say,
        complain: Say,
        lookup: TransformLookup | None = None,
    ) -> None:
        """Flow of one patient's images.

        Args:
            solver: of the patient.
            starts: shared with whoever hears initialpose.
            warn, complain: where a warning and an error for people go.
            lookup: /tf, for views without the parameter camera_from_rig.
        """
        self._solver = solver
        self._starts = starts
        self._warn = warn
        self._complain = complain
        self._lookup = lookup

    def process(self, frame: Frame, settings: RegistrationSettings) -> FrameReport:
        """What became of the frame. Bad input gives a report, a defect of the package raises."""
        case = Case(frame, settings.parent_frame_id or frame.image.header.frame_id)
        try:
            parent = parent_frame_id(frame, settings)
            rig = camera_from_rig(frame, settings, parent, self._lookup)
        except InputError as error:
            return frame_report.bad_input(case, str(error))
        start = self._choose_start(settings, parent, rig)
        proposes = start is None and isinstance(settings.start, NetworkStart)
        follows = start is not None and start.source is StartSource.PREVIOUS
        given = None if start is None else start.rig_from_ct
        order = Order(frame, settings, rig, given, proposes, follows)
        if proposes:
            start = self._starts.proposed()
        outcome = self._solver.solve(order)
        case = Case(frame, parent, rig, outcome.cameras, None if start is None else start.source)
        if outcome.ending is Ending.BAD_INPUT:
            return frame_report.bad_input(case, outcome.text)
        if start is None:
            return frame_report.waiting(case)
        if outcome.result is None:
            report = frame_report.unusable_start(case, outcome.text)
        else:
            report = frame_report.registered(
                case, outcome.result, outcome.levels, settings.guard, outcome.tracked
            )
        if self._starts.report(start, report.rig_from_ct, settings.max_rejects):
            self._warn(
                f"{settings.max_rejects} images in a row were rejected from the start pose "
                f"'{start.source.value}': it is dropped"
            )
        return report

    def _choose_start(
        self, settings: RegistrationSettings, parent: str, rig: tuple[Matrix, ...]
    ) -> StartPose | None:
        fallback = settings.parameter_start(self._solver.facts.isocentre_lps_mm, rig[0])
        start = self._starts.choose(fallback, settings.use_previous)
        if start is not None and start.frame_id not in ("", parent):
            self._complain(
                f"topic 'initialpose': frame_id is '{start.frame_id}', but the images are in "
                f"'{parent}'; expected the pose of the patient in the frame of the images. "
                "It is ignored"
            )
            self._starts.drop(start)
            start = self._starts.choose(fallback, settings.use_previous)
        return start
