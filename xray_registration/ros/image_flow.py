"""What happens to one image, from its messages to its report: the same for the node and for bags.

Images come one after the other; the start poses remembered from earlier ones live here. No topics,
no threads, no clock.
"""

from __future__ import annotations

from collections.abc import Callable

from xray_registration.errors import InputError
from xray_registration.ros.frame_processor import Frame, FrameProcessor
from xray_registration.ros.frame_report import (
    FrameReport,
    bad_input,
    registered,
    unusable_start,
    waiting,
)
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.start_pose import StartPose, StartPosePolicy

Say = Callable[[str], None]


class ImageFlow:
    """Decodes, chooses the start, registers, and remembers what the next image starts from."""

    def __init__(
        self, processor: FrameProcessor, starts: StartPosePolicy, warn: Say, complain: Say
    ) -> None:
        """Flow of one patient's images.

        Args:
            processor: of the patient.
            starts: shared with whoever hears initialpose.
            warn, complain: where a warning and an error for people go.
        """
        self._processor = processor
        self._starts = starts
        self._warn = warn
        self._complain = complain

    def process(self, frame: Frame, settings: RegistrationSettings) -> FrameReport:
        """What became of the image. Bad input gives a report, a defect of the package raises."""
        parent = settings.parent_frame_id or frame.image.header.frame_id
        try:
            if not parent:
                raise InputError(
                    "topic 'image': header.frame_id is empty; expected the C-arm's optical frame, "
                    "or give one by the parameter 'parent_frame_id'"
                )
            shot = self._processor.shot(frame, settings)
        except InputError as error:
            return bad_input(frame, parent, error)
        start = self._choose_start(settings, parent)
        if start is None:
            return waiting(frame, parent)
        try:
            result = self._processor.register(shot, start.camera_from_ct)
            report = registered(frame, parent, shot, start.source, result)
        except InputError as error:
            report = unusable_start(frame, parent, shot, start.source, error)
        if self._starts.report(start, report.camera_from_ct, settings.max_rejects):
            self._warn(
                f"{settings.max_rejects} images in a row were rejected from the start pose "
                f"'{start.source.value}': it is dropped"
            )
        return report

    def _choose_start(self, settings: RegistrationSettings, parent: str) -> StartPose | None:
        fallback = settings.parameter_start(self._processor.isocentre_lps_mm)
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
