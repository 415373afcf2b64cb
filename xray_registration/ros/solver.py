"""What solves an image, and the patient that it knows: the border between node and library.

``LocalSolver`` does the work in the calling thread; `remote_solver.RemoteSolver` has a process of
its own do the same. Orders and answers are plain data that can be sent to another process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.registration import RegistrationResult
from xray_registration.registration.tracker import TrackedFrame
from xray_registration.ros.frame_processor import Frame, FrameProcessor, Shot
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.level_guard import LevelFinder, LevelsSeen
from xray_registration.ros.markers import MarkerOrder, Scene
from xray_registration.ros.pictures import Painter
from xray_registration.ros.registration_settings import RegistrationSettings

Matrix = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PatientFacts:
    """What the node says of the patient; the volumes stay with the solver."""

    ct_path: str
    ct_sha256: str
    shape_ijk: tuple[int, int, int]
    isocentre_lps_mm: Matrix
    structures: tuple[str, ...]

    def check_planned(self, planned: tuple[str, ...]) -> None:
        """InputError when a planned level is no structure of the label map."""
        for name in planned:
            if name not in self.structures:
                raise InputError(
                    f"parameter 'planned_levels': '{name}' is not in the label map; it has "
                    f"{', '.join(sorted(self.structures)) or 'nothing'}"
                )


class Ending(Enum):
    """What became of an order."""

    BAD_INPUT = "bad_input"
    NO_START = "no_start"
    UNUSABLE_START = "unusable_start"
    SOLVED = "solved"


@dataclass(frozen=True, eq=False)
class Order:
    """A frame to register. ``camera_from_rig`` of every view; no start: only decoded, or with
    ``propose`` registered from starts that are proposed from the pictures. ``follows``: the start
    is the pose of the frame that was accepted last.
    """

    frame: Frame
    settings: RegistrationSettings
    camera_from_rig: tuple[Matrix, ...]
    rig_from_ct_start: Matrix | None
    propose: bool = False
    follows: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answer: ``result`` and ``levels`` when solved, otherwise ``text`` says why not.
    ``tracked``: how the result came about, with ``tracking.enabled``.
    """

    ending: Ending
    text: str = ""
    result: RegistrationResult | None = None
    cameras: tuple[Camera, ...] = ()
    levels: LevelsSeen = field(default_factory=LevelsSeen)
    tracked: TrackedFrame | None = None


@dataclass(frozen=True, eq=False)
class PictureOrder:
    """Pictures of the frame that was ordered last.

    ``rig_from_ct``: the pose to draw; None = nothing but the caption. ``trajectories``: to draw.
    """

    settings: RegistrationSettings
    camera_from_rig: tuple[Matrix, ...]
    rig_from_ct: Matrix | None
    accepted: bool
    caption: str
    trajectories: tuple[Trajectory, ...] = ()
    overlay: bool = False
    drr: bool = False


@dataclass(frozen=True, eq=False)
class Pictures:
    """One per view; empty when not ordered or not possible."""

    overlays: tuple[Picture, ...] = ()
    drrs: tuple[Picture, ...] = ()


class Solver(Protocol):
    """Used by one thread at a time; ``close`` by any."""

    @property
    def facts(self) -> PatientFacts:
        """Of the patient that is loaded."""

    def solve(self, order: Order) -> Outcome:
        """Register a frame. Bad input is an outcome; a defect raises."""

    def draw(self, order: PictureOrder) -> Pictures:
        """Draw the frame that was solved last."""

    def markers(self, order: MarkerOrder) -> bytes:
        """A serialised visualization_msgs/MarkerArray."""

    def restart(self) -> None:
        """After an exception of ``solve``: be ready for the next frame."""

    def close(self) -> None:
        """Give everything back; a call in progress may raise."""


class LocalSolver:
    """The library in this process."""

    def __init__(
        self, settings: RegistrationSettings, processor: FrameProcessor | None = None
    ) -> None:
        """Load the patient.

        Raises:
            InputError: a patient that cannot be used; planned levels that it does not have.
        """
        processor = processor or FrameProcessor(settings)
        self._processor = processor
        self._painter = Painter(processor, settings)
        self._levels = LevelFinder(processor.labels, settings.overlay_labels)
        self._scene = Scene(processor, settings.markers)
        self._shots: tuple[Shot, ...] = ()
        self.facts = PatientFacts(
            ct_path=processor.ct.path,
            ct_sha256=processor.ct.sha256,
            shape_ijk=processor.ct.shape_ijk,
            isocentre_lps_mm=processor.isocentre_lps_mm,
            structures=() if processor.labels is None else tuple(processor.labels.names.values()),
        )
        self.facts.check_planned(settings.guard.planned_levels)

    def solve(self, order: Order) -> Outcome:
        """See ``Solver``."""
        settings = order.settings
        self._shots = ()
        try:
            shots = self._processor.shots(order.frame, settings)
        except InputError as error:
            return Outcome(Ending.BAD_INPUT, str(error))
        self._shots, cameras = shots, tuple(shot.camera for shot in shots)
        starts = order.rig_from_ct_start
        if starts is None and not order.propose:
            return Outcome(Ending.NO_START, cameras=cameras)
        tracked = None
        try:
            if settings.tracks:
                stamp_s = order.frame.stamp_ns / 1e9
                tracked = self._processor.track(
                    shots, order.camera_from_rig, starts, stamp_s, order.follows
                )
                result = tracked.result
            else:
                result = self._processor.register(shots, order.camera_from_rig, starts)
        except InputError as error:
            return Outcome(Ending.UNUSABLE_START, str(error), cameras=cameras)
        levels = self._levels.seen(
            settings.guard.planned_levels,
            shots,
            [matrix @ result.rig_from_ct for matrix in order.camera_from_rig],
        )
        return Outcome(Ending.SOLVED, "", result, cameras, levels, tracked)

    def draw(self, order: PictureOrder) -> Pictures:
        """See ``Solver``."""
        shots = self._shots
        poses: list[Matrix | None] = [None] * len(shots)
        if order.rig_from_ct is not None:
            poses = [matrix @ order.rig_from_ct for matrix in order.camera_from_rig]
        overlays: list[Picture] = []
        drrs: list[Picture] = []
        for shot, pose in zip(shots, poses, strict=True):
            if order.overlay:
                overlays.append(
                    self._painter.overlay(
                        shot, pose, order.accepted, order.caption, order.trajectories
                    )
                )
            if order.drr and pose is not None:
                drrs.append(self._painter.drr(shot, pose))
        return Pictures(tuple(overlays), tuple(drrs))

    def markers(self, order: MarkerOrder) -> bytes:
        """See ``Solver``."""
        return self._scene.markers(order)

    def restart(self) -> None:
        """Nothing: an exception leaves nothing behind."""

    def close(self) -> None:
        """Nothing that Python does not collect."""
