"""What became of one frame: the one object from which all topics of it are filled."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xray_registration.geometry.camera import Camera
from xray_registration.registration import RegistrationResult
from xray_registration.registration.tracker import TrackedFrame
from xray_registration.ros.diagnostics import IMAGE_STAMP_KEY, State, stamp_text
from xray_registration.ros.frame_processor import Frame, is_finite
from xray_registration.ros.level_guard import GuardVerdict, LevelsSeen, judge
from xray_registration.ros.output_settings import GuardSettings
from xray_registration.ros.start_pose import StartSource

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """A frame with what is known of it before anybody judges.

    Attributes:
        frame: the images.
        parent_frame_id: frame in which poses of it are.
        camera_from_rig: (4, 4) mm of every view; empty when not known.
        cameras: of every view; empty when the images could not be decoded.
        start_source: what it started from.
    """

    frame: Frame
    parent_frame_id: str
    camera_from_rig: tuple[Matrix, ...] = ()
    cameras: tuple[Camera, ...] = ()
    start_source: StartSource | None = None


@dataclass(frozen=True, eq=False)
class FrameReport:
    """A frame that has been dealt with.

    Attributes:
        case: the frame.
        state: what the node reports.
        counter: name of the counter to raise.
        reason: short code.
        message: for people.
        result: the library's result; None when it was not registered.
        levels: what the views show of the anatomy.
        guard: whether the planned level is seen.
        tracked: how the result came about; None when every frame is registered in full.
    """

    case: Case
    state: State
    counter: str
    reason: str
    message: str
    result: RegistrationResult | None = None
    levels: LevelsSeen = field(default_factory=LevelsSeen)
    guard: GuardVerdict = field(default_factory=GuardVerdict)
    tracked: TrackedFrame | None = None

    @property
    def frame(self) -> Frame:
        """The frame."""
        return self.case.frame

    @property
    def parent_frame_id(self) -> str:
        """Frame in which the pose is."""
        return self.case.parent_frame_id

    @property
    def start_source(self) -> StartSource | None:
        """What it started from."""
        return self.case.start_source

    @property
    def rig_from_ct(self) -> Matrix | None:
        """(4, 4) LPS mm of an accepted frame, otherwise None. Always finite."""
        if self.state is not State.REGISTERED or self.result is None:
            return None
        return np.asarray(self.result.rig_from_ct, dtype=np.float64)

    def values(self) -> dict[str, Any]:
        """Key-values of the diagnostics."""
        values: dict[str, Any] = {
            IMAGE_STAMP_KEY: stamp_text(self.frame.stamp_ns),
            "image_frame_id": self.parent_frame_id,
            "accepted": self.rig_from_ct is not None,
            "reason": self.reason,
            "reason_text": self.message,
            "start_source": self.start_source,
            "level_guard": self.guard.state,
        }
        if self.guard.text:
            values["level_guard_text"] = self.guard.text
        if self.levels.in_view:
            values["levels_in_view"] = ", ".join(self.levels.in_view)
        if self.tracked is not None:
            values["tracking"] = self.tracked.mode
            if self.tracked.why:
                values["tracking_text"] = self.tracked.why
            if self.tracked.innovation_mm is not None:
                values["innovation_mm"] = self.tracked.innovation_mm
        if self.result is not None:
            result = self.result
            values.update(
                probability=float(result.probability),
                similarity=float(result.similarity),
                start_similarity=float(result.start_similarity),
                iterations=int(result.iterations),
                termination=result.termination,
                seconds=float(result.seconds),
                device=result.device,
                covariance=_numbers(result.covariance),
                **_standard_deviations(result.covariance),
            )
            if len(result.view_similarities) > 1:
                shown = (f"{similarity:.6g}" for similarity in result.view_similarities)
                values["view_similarities"] = ", ".join(shown)
        return values

    def to_dict(self, ct_axes: str, ct_path: str, ct_sha256: str) -> dict[str, Any]:
        """The frame's record for ~/result: JSON types only, unknown numbers are null."""
        result = None
        if self.result is not None:
            result = self.result.to_dict(ct_axes)
            result["ct"] = {"path": ct_path.rpartition("/")[2], "sha256": ct_sha256}
        record: dict[str, Any] = {
            IMAGE_STAMP_KEY: stamp_text(self.frame.stamp_ns),
            "frame_id": self.parent_frame_id,
            "state": self.state.value,
            "accepted": self.rig_from_ct is not None,
            "reason": self.reason,
            "reason_text": self.message,
            "start_source": None if self.start_source is None else self.start_source.value,
            "tracking": None if self.tracked is None else self.tracked.mode.value,
            "tracking_text": "" if self.tracked is None else self.tracked.why,
            "innovation_mm": None if self.tracked is None else self.tracked.innovation_mm,
            "level_guard": self.guard.state.value,
            "levels_in_view": list(self.levels.in_view),
            "result": result,
        }
        cleaned: dict[str, Any] = _finite_json(record)
        return cleaned


def bad_input(case: Case, text: str) -> FrameReport:
    """An image, camera_info or rig that cannot be used."""
    return FrameReport(case, State.BAD_INPUT, "bad_input", "bad_input", text)


def failed(case: Case, error: Exception) -> FrameReport:
    """A defect while the frame was processed."""
    text = f"internal error: {type(error).__name__}: {error}"
    return FrameReport(case, State.ERROR, "failed", "internal_error", text)


def waiting(case: Case) -> FrameReport:
    """A frame without a start pose."""
    text = "no start pose: publish initialpose or set the parameter start.source"
    return FrameReport(case, State.WAITING_FOR_START_POSE, "without_start", "no_start_pose", text)


def unusable_start(case: Case, text: str) -> FrameReport:
    """A frame that cannot be registered from this start, e.g. the CT is not in the picture."""
    source = "?" if case.start_source is None else case.start_source.value
    message = f"start pose '{source}': {text}"
    return FrameReport(case, State.REJECTED, "rejected", "unusable_start", message)


def registered(
    case: Case,
    result: RegistrationResult,
    levels: LevelsSeen,
    guard: GuardSettings,
    tracked: TrackedFrame | None = None,
) -> FrameReport:
    """A frame that the library has registered, accepted or not."""
    state, reason, message = State.REJECTED, str(result.reason.value), result.reason_text
    if result.accepted and is_finite(result):
        state = State.REGISTERED
    elif result.accepted:
        # The gate should have said so; a NaN must not get out whatever it said.
        reason, message = "not_finite", "pose or covariance is not finite"
    accepted = state is State.REGISTERED
    verdict = judge(guard.planned_levels, guard.min_visible, accepted, reason, levels)
    counter = "accepted" if accepted else "rejected"
    # what a refused pose would show is not what is in view
    shown = levels if accepted else LevelsSeen()
    return FrameReport(case, state, counter, reason, message, result, shown, verdict, tracked)


def _standard_deviations(covariance: Matrix) -> dict[str, float]:
    """One number each for translation (mm) and rotation (deg), about the isocentre."""
    variances = np.diagonal(np.asarray(covariance, dtype=np.float64))
    if not np.isfinite(variances).all() or (variances < 0).any():
        return {}
    return {
        "translation_std_mm": math.sqrt(float(variances[:3].sum())),
        "rotation_std_deg": math.degrees(math.sqrt(float(variances[3:].sum()))),
    }


def _numbers(matrix: Matrix) -> str | None:
    """Row by row; None when they are not all finite."""
    values = np.asarray(matrix, dtype=np.float64).ravel()
    return " ".join(f"{v:.4g}" for v in values) if np.isfinite(values).all() else None


def _finite_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
