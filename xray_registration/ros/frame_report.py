"""What became of one image: the one object from which all topics of it are filled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import RegistrationResult
from xray_registration.ros.diagnostics import IMAGE_STAMP_KEY, State, stamp_text
from xray_registration.ros.frame_processor import Frame, Shot, is_finite
from xray_registration.ros.start_pose import StartSource

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FrameReport:
    """An image that has been dealt with.

    Attributes:
        frame: the image.
        parent_frame_id: frame in which poses of it are.
        state: what the node reports.
        counter: name of the counter to raise.
        reason: short code.
        message: for people.
        shot: the decoded image; None when it could not be.
        result: the library's result; None when it was not registered.
        start_source: what it started from.
    """

    frame: Frame
    parent_frame_id: str
    state: State
    counter: str
    reason: str
    message: str
    shot: Shot | None = None
    result: RegistrationResult | None = None
    start_source: StartSource | None = None

    @property
    def camera_from_ct(self) -> Matrix | None:
        """(4, 4) LPS mm of an accepted image, otherwise None. Always finite."""
        if self.state is not State.REGISTERED or self.result is None:
            return None
        return np.asarray(self.result.rig_from_ct, dtype=np.float64)

    def values(self) -> dict[str, Any]:
        """Key-values of the diagnostics."""
        values: dict[str, Any] = {
            IMAGE_STAMP_KEY: stamp_text(self.frame.stamp_ns),
            "image_frame_id": self.parent_frame_id,
            "accepted": self.camera_from_ct is not None,
            "reason": self.reason,
            "reason_text": self.message,
            "start_source": self.start_source,
        }
        if self.result is not None:
            result = self.result
            values.update(
                similarity=float(result.similarity),
                start_similarity=float(result.start_similarity),
                iterations=int(result.iterations),
                termination=result.termination,
                seconds=float(result.seconds),
                device=result.device,
                **_standard_deviations(result.covariance),
            )
        return values

    def to_dict(self, ct_axes: str, ct: CTVolume) -> dict[str, Any]:
        """The image's record for ~/result: JSON types only, unknown numbers are null."""
        record: dict[str, Any] = {
            IMAGE_STAMP_KEY: stamp_text(self.frame.stamp_ns),
            "frame_id": self.parent_frame_id,
            "state": self.state.value,
            "accepted": self.camera_from_ct is not None,
            "reason": self.reason,
            "reason_text": self.message,
            "start_source": None if self.start_source is None else self.start_source.value,
            "result": None if self.result is None else self.result.to_dict(ct_axes, ct),
        }
        cleaned: dict[str, Any] = _finite_json(record)
        return cleaned


def bad_input(frame: Frame, parent: str, error: Exception) -> FrameReport:
    """An image or camera_info that cannot be used."""
    return FrameReport(frame, parent, State.BAD_INPUT, "bad_input", "bad_input", str(error))


def failed(frame: Frame, parent: str, error: Exception) -> FrameReport:
    """A defect while the image was processed."""
    text = f"internal error: {type(error).__name__}: {error}"
    return FrameReport(frame, parent, State.ERROR, "failed", "internal_error", text)


def waiting(frame: Frame, parent: str) -> FrameReport:
    """An image without a start pose."""
    text = "no start pose: publish initialpose or set the parameter start.source"
    return FrameReport(
        frame, parent, State.WAITING_FOR_START_POSE, "without_start", "no_start_pose", text
    )


def unusable_start(
    frame: Frame, parent: str, shot: Shot, source: StartSource, error: Exception
) -> FrameReport:
    """An image that cannot be registered from this start, e.g. the CT is not in the picture."""
    text = f"start pose '{source.value}': {error}"
    return FrameReport(
        frame, parent, State.REJECTED, "rejected", "unusable_start", text, shot, start_source=source
    )


def registered(
    frame: Frame, parent: str, shot: Shot, source: StartSource, result: RegistrationResult
) -> FrameReport:
    """An image that the library has registered, accepted or not."""
    state, reason, message = State.REJECTED, str(result.reason.value), result.reason_text
    if result.accepted and is_finite(result):
        state = State.REGISTERED
    elif result.accepted:
        # The gate should have said so; a NaN must not get out whatever it said.
        reason, message = "not_finite", "pose or covariance is not finite"
    counter = "accepted" if state is State.REGISTERED else "rejected"
    return FrameReport(
        frame, parent, state, counter, reason, message, shot, result, start_source=source
    )


def _standard_deviations(covariance: Matrix) -> dict[str, float]:
    """One number each for translation (mm) and rotation (deg), about the isocentre."""
    variances = np.diagonal(np.asarray(covariance, dtype=np.float64))
    if not np.isfinite(variances).all() or (variances < 0).any():
        return {}
    return {
        "translation_std_mm": math.sqrt(float(variances[:3].sum())),
        "rotation_std_deg": math.degrees(math.sqrt(float(variances[3:].sum()))),
    }


def _finite_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
