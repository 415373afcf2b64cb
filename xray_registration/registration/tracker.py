"""Follows a patient through a stream of pictures: predict, refine, notice a loss, find again.

A picture of a stream is registered in a few steps from where the ones before say that the patient
will be. What the gate refuses is never given out as accepted: such a frame goes through the full
registrar, from the prediction, from the last pose and, where there is a proposer, from the picture
itself, in the same call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, se3
from xray_registration.registration.motion import Motion, MotionConfig
from xray_registration.registration.quick_registrar import QuickConfig, QuickRegistrar
from xray_registration.registration.registrar import Registrar
from xray_registration.registration.result import RegistrationResult
from xray_registration.registration.start_pose import StartPose
from xray_registration.registration.view import View

Matrix = NDArray[np.float64]

# A calibrated C-arm's intrinsics differ by so much from shot to shot; more is another geometry.
_SAME_FOCUS = 0.005  # relative, of focal length and source-detector distance
_SAME_CENTRE = 0.01  # of the picture's width


class Mode(str, Enum):
    """How a frame got its pose."""

    REGISTERED = "registered"  # there was nothing to follow
    TRACKED = "tracked"  # from the prediction, in few steps
    RECOVERED = "recovered"  # could not be tracked; the full registration found it
    LOST = "lost"  # refused by both


@dataclass(frozen=True)
class TrackerConfig:
    """The tracker.

    Attributes:
        quick: the few steps from a prediction.
        motion: the prediction.
        max_gap_s: after so long without an accepted picture nothing is predicted any more; the full
            registrar then starts from the last pose.
    """

    quick: QuickConfig = field(default_factory=QuickConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    max_gap_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.max_gap_s > 0:
            raise InputError(f"max_gap_s is {self.max_gap_s}; expected a positive time.")


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """What became of one frame.

    Attributes:
        result: as of a registration; ``seconds`` of all attempts.
        mode: how it came about.
        why: why it was not tracked; empty when it was, or when there was nothing to follow.
        innovation_mm: between prediction and pose (1 rad as the optimiser's ``rotation_scale_mm``);
            None without a prediction.
    """

    result: RegistrationResult
    mode: Mode
    why: str = ""
    innovation_mm: float | None = None


class Tracker:
    """One patient's stream, frame after frame. Not thread-safe."""

    def __init__(
        self,
        registrar: Registrar,
        config: TrackerConfig | None = None,
        proposer: StartPose | None = None,
    ) -> None:
        """Share the registrar's volumes.

        Args:
            registrar: the full one.
            config: the default follows C-arms of any frame rate above one in ``max_gap_s``.
            proposer: finds the patient without a start: at the beginning, and when he is lost.
        """
        self.config = config or TrackerConfig()
        self._registrar = registrar
        self._quick = QuickRegistrar(registrar, self.config.quick)
        self._proposer = proposer
        self._motion: Motion | None = None
        self._cameras: tuple[Camera, ...] = ()

    @property
    def rig_from_ct(self) -> Matrix | None:
        """(4, 4) LPS mm, the last accepted pose; None when nothing is followed."""
        return None if self._motion is None else self._motion.rig_from_ct.copy()

    def reset(self) -> None:
        """Follow nothing: the next frame is the first."""
        self._motion = None

    def track(
        self, views: Sequence[View], stamp_s: float, rig_from_ct_start: ArrayLike | None = None
    ) -> TrackedFrame:
        """Register the next frame.

        Args:
            views: one or more, of one moment.
            stamp_s: when they were taken, on the clock of the frames before.
            rig_from_ct_start: (4, 4) or (S, 4, 4), CT in LPS mm: where a first frame starts, and
                where one that is lost is looked for too; None = from the proposer.

        Raises:
            InputError: no views; nothing to start from; every start shows the CT in no picture.
        """
        began = time.perf_counter()
        if not views:
            raise InputError("no views were given; expected one or more.")
        prediction, frame = None, None
        motion, why = self._motion, ""
        if motion is not None:
            why = self._break(motion, views, stamp_s)
            if not why:
                prediction = motion.predicted(stamp_s, self.config.motion)
                frame, why = self._follow(views, prediction)
        if frame is None:
            result = self._search(views, prediction, rig_from_ct_start)
            frame = self._searched(result, why, prediction)
        if frame.result.accepted:
            self._remember(views, stamp_s, frame)
        result = replace(frame.result, seconds=time.perf_counter() - began)
        return replace(frame, result=result)

    def _break(self, motion: Motion, views: Sequence[View], stamp_s: float) -> str:
        """Why nothing can be predicted for these views; empty when it can."""
        gap_s = stamp_s - motion.stamp_s
        if gap_s < 0:
            return f"the stamp is {-gap_s:.3f} s before the last one"
        if gap_s > self.config.max_gap_s:
            return f"no accepted pose for {gap_s:.1f} s"
        cameras = tuple(view.camera for view in views)
        if len(cameras) != len(self._cameras):
            return f"{len(cameras)} views, and {len(self._cameras)} before"
        if not all(map(_is_same, cameras, self._cameras)):
            return "the C-arm's geometry has changed"
        return ""

    def _follow(self, views: Sequence[View], prediction: Matrix) -> tuple[TrackedFrame | None, str]:
        """The frame from the prediction, or why it is refused."""
        try:
            result = self._quick.register(views, prediction)
        except InputError as error:
            return None, f"the prediction is unusable: {error}"
        if not result.accepted:
            return None, f"{result.reason.value} from the prediction: {result.reason_text}"
        innovation_mm = self._between_mm(prediction, result.rig_from_ct)
        return TrackedFrame(result, Mode.TRACKED, innovation_mm=innovation_mm), ""

    def _searched(
        self, result: RegistrationResult, why: str, prediction: Matrix | None
    ) -> TrackedFrame:
        mode = Mode.REGISTERED
        if self._motion is not None:
            mode = Mode.RECOVERED if result.accepted else Mode.LOST
        innovation_mm = None
        if prediction is not None:
            innovation_mm = self._between_mm(prediction, result.rig_from_ct)
        return TrackedFrame(result, mode, why, innovation_mm)

    def _search(
        self, views: Sequence[View], prediction: Matrix | None, start: ArrayLike | None
    ) -> RegistrationResult:
        """The first accepted result of the full registrar, else the most alike."""
        best: RegistrationResult | None = None
        unusable: InputError | None = None
        for starts in self._attempts(views, prediction, start):
            try:
                result = self._registrar.register(views, starts)
            except InputError as error:
                unusable = error
                continue
            if best is None or result.accepted or result.similarity > best.similarity:
                best = result
            if result.accepted:
                break
        if best is None:
            raise unusable or InputError("no start pose was given, and there is no proposer.")
        return best

    def _attempts(
        self, views: Sequence[View], prediction: Matrix | None, start: ArrayLike | None
    ) -> Iterator[ArrayLike]:
        """What the full registrar tries, in this order."""
        last = self.rig_from_ct
        near_mm = self.config.quick.max_innovation_mm
        if prediction is not None:
            yield prediction
        if last is not None and (
            prediction is None or self._between_mm(prediction, last) > near_mm
        ):
            yield last
        if start is not None and not _equal(start, last):
            yield start
        if self._proposer is not None and (last is not None or start is None):
            yield self._proposer.propose(views)[0]

    def _remember(self, views: Sequence[View], stamp_s: float, frame: TrackedFrame) -> None:
        pose, motion = frame.result.rig_from_ct, self._motion
        # a pose that was found where it was expected goes on with the motion; another begins anew
        expected = (
            frame.innovation_mm is not None
            and frame.innovation_mm <= self.config.quick.max_innovation_mm
        )
        if motion is not None and expected:
            self._motion = motion.followed_by(stamp_s, pose, self.config.motion)
        else:
            self._motion = Motion(stamp_s, pose)
        self._cameras = tuple(view.camera for view in views)

    def _between_mm(self, prediction: Matrix, rig_from_ct: Matrix) -> float:
        """Length of the increment from one to the other about the isocentre."""
        centre = torch.from_numpy(self._registrar.isocentre_lps_mm)
        poses = (torch.from_numpy(prediction), torch.from_numpy(rig_from_ct))
        scale_mm = self._registrar.config.optimiser.rotation_scale_mm
        return float(se3.distance_mm(*poses, centre, scale_mm))


def _equal(pose: ArrayLike, other: Matrix | None) -> bool:
    return other is not None and np.array_equal(np.asarray(pose), other)


def _is_same(camera: Camera, before: Camera) -> bool:
    """Whether two shots were taken with the same geometry, up to calibration."""
    if (camera.width, camera.height) != (before.width, before.height):
        return False
    if (camera.sdd_mm is None) != (before.sdd_mm is None):
        return False
    lengths = [(camera.fx, before.fx), (camera.fy, before.fy)]
    if camera.sdd_mm is not None and before.sdd_mm is not None:
        lengths.append((camera.sdd_mm, before.sdd_mm))
    if any(abs(a - b) > _SAME_FOCUS * b for a, b in lengths):
        return False
    shift = max(abs(camera.cx - before.cx), abs(camera.cy - before.cy))
    return shift <= _SAME_CENTRE * before.width
