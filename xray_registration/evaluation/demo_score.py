"""What the demo measures: from what a client heard to errors per frame and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xray_registration.evaluation.metrics import PoseErrors, mtre_mm, pose_errors
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import make_radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import View
from xray_registration.registration.regressor_start import RegressorStart

Matrix = npt.NDArray[np.float64]

LARGEST_BROADCAST_ERROR_MM = 2.0
"""A pose on /tf that is further off fails the demo: beyond it a pedicle screw is misplaced."""
SMALLEST_BROADCAST_SHARE = 0.9
_SURFACE_POINTS_PER_VERTEBRA = 300


@dataclass(eq=False)
class HeardFrame:
    """What was heard of one image, by its stamp. Poses are camera_from_ct (4, 4), LPS mm."""

    stamp: str
    truth: Matrix | None = None
    broadcast: Matrix | None = None
    record: dict[str, Any] | None = None
    camera: Camera | None = None
    image_file: str | None = None
    heard_s: dict[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """What the registration node said."""
        return self.record is not None and bool(self.record["accepted"])

    @property
    def is_complete(self) -> bool:
        """Everything that is to come has come."""
        told = self.record is not None and self.truth is not None and self.image_file is not None
        return (
            told and self.camera is not None and (self.broadcast is not None or not self.accepted)
        )

    @property
    def found(self) -> Matrix | None:
        """The pose on /tf; of a rejected image the pose where the solver ended, if it says one."""
        if self.broadcast is not None:
            return self.broadcast
        result = None if self.record is None else self.record.get("result")
        return None if result is None else np.asarray(result["rig_from_ct"], dtype=np.float64)


class HeardFrames:
    """Sorts a client's events (see ros/demo_client.py) by image."""

    def __init__(self) -> None:
        self.by_stamp: dict[str, HeardFrame] = {}

    def add(self, event: dict[str, Any]) -> HeardFrame | None:
        """Take an event; the frame that it has completed, else None."""
        kind, stamp = event["event"], event.get("stamp")
        if stamp is None:
            return None
        frame = self.by_stamp.setdefault(stamp, HeardFrame(stamp))
        was_complete = frame.is_complete
        if "heard_s" in event:
            frame.heard_s.setdefault(kind, float(event["heard_s"]))
        if kind == "truth":
            frame.truth = np.asarray(event["parent_from_child"], dtype=np.float64)
        elif kind == "tf":
            frame.broadcast = np.asarray(event["parent_from_child"], dtype=np.float64)
        elif kind == "result":
            frame.record = event["record"]
        elif kind == "camera":
            frame.camera = Camera(event["K"], event["width"], event["height"])
        elif kind == "image":
            frame.image_file = event["file"]
        return frame if frame.is_complete and not was_complete else None

    def number_of(self, frame: HeardFrame) -> int:
        """Which image it is, from 0, in the order of their stamps."""
        return sorted(self.by_stamp).index(frame.stamp)


@dataclass(frozen=True, eq=False)
class FrameScore:
    """One image.

    Attributes:
        number: from 0.
        angles_deg: primary and secondary angle of the C-arm.
        heard: what was heard of it.
        start: (4, 4) the pose that the registration started from; of several the likeliest.
        start_mtre_mm: its true error.
        errors: of the pose on /tf, or where a rejected registration ended; None without a pose.
        seconds: the registration, as the node measured it; NaN when it says none.
        latency_s: from hearing the image to hearing the node's answer, as the client measured it.
    """

    number: int
    angles_deg: tuple[float, float]
    heard: HeardFrame
    start: Matrix
    start_mtre_mm: float
    errors: PoseErrors | None
    seconds: float
    latency_s: float

    @property
    def accepted(self) -> bool:
        """What the node said."""
        return self.heard.accepted

    @property
    def is_broadcast(self) -> bool:
        """Heard on /tf."""
        return self.heard.broadcast is not None

    def to_dict(self) -> dict[str, Any]:
        """For summary.json; unknown numbers are null."""
        record = self.heard.record or {}
        result = record.get("result") or {}
        return {
            "frame": self.number,
            "stamp": self.heard.stamp,
            "primary_deg": self.angles_deg[0],
            "secondary_deg": self.angles_deg[1],
            "accepted": self.accepted,
            "broadcast": self.is_broadcast,
            "reason": record.get("reason"),
            "start_source": record.get("start_source"),
            "start_mtre_mm": self.start_mtre_mm,
            "similarity": result.get("similarity"),
            "iterations": result.get("iterations"),
            "seconds": _known(self.seconds),
            "latency_s": _known(self.latency_s),
            "errors": None if self.errors is None else self.errors.to_dict(),
        }


class FirstProposal:
    """What the network of the package holds for the likeliest pose in the first picture."""

    def __init__(self, ct: CTVolume, camera: Camera, images: Path) -> None:
        """``images``: where the client keeps the pictures."""
        self._proposer = RegressorStart.for_ct(ct)
        self._camera = camera
        self._images = images

    def __call__(self, frame: HeardFrame) -> Matrix:
        """(4, 4) camera_from_ct, LPS mm."""
        assert frame.image_file is not None
        raw = np.load(self._images / frame.image_file, allow_pickle=False)
        radiograph = make_radiograph(raw, "intensity", source=frame.image_file)
        proposed, _ = self._proposer.propose([View(radiograph, frame.camera or self._camera)])
        return np.asarray(proposed[0])


class Scorer:
    """Scores frames in their order, against targets on the vertebrae."""

    def __init__(
        self,
        targets_lps_mm: Matrix,
        isocentre_lps_mm: Matrix,
        first_start: Callable[[HeardFrame], Matrix],
        angles_deg: Sequence[tuple[float, float]],
    ) -> None:
        """Prepare.

        Args:
            targets_lps_mm: (N, 3) see ``vertebra_targets``.
            isocentre_lps_mm: (3,).
            first_start: gives (4, 4) the start pose of the first frame, when that is known.
            angles_deg: of every frame.
        """
        self._targets = targets_lps_mm
        self._isocentre = isocentre_lps_mm
        self._first_start = first_start
        self._start: Matrix | None = None
        self._angles = angles_deg
        self.scores: list[FrameScore] = []

    def add(self, number: int, frame: HeardFrame) -> FrameScore:
        """Score frame ``number``, which must be complete, after those before it."""
        assert frame.truth is not None
        assert frame.record is not None
        if self._start is None:
            self._start = self._first_start(frame)
        errors = None
        if frame.found is not None:
            errors = pose_errors(frame.found, frame.truth, self._targets, self._isocentre)
        result = frame.record.get("result") or {}
        heard = frame.heard_s
        answered = heard.get("tf", heard.get("result", np.nan))
        score = FrameScore(
            number=number,
            angles_deg=self._angles[number],
            heard=frame,
            start=self._start,
            start_mtre_mm=mtre_mm(self._start, frame.truth, self._targets),
            errors=errors,
            seconds=float(result.get("seconds", np.nan)),
            latency_s=float(answered - heard.get("image", np.nan)),
        )
        if frame.accepted and frame.broadcast is not None:
            self._start = frame.broadcast
        self.scores.append(score)
        return score


def vertebra_targets(
    labels: LabelMap, names: Sequence[str], poses: Sequence[Matrix], camera: Camera
) -> tuple[list[str], Matrix]:
    """Where errors are measured: on those of ``names`` whose centroid every pose shows.

    Returns:
        names: of the vertebrae.
        points_lps_mm: (N, 3) their centroids and points spread over their surfaces.
    """
    centroids = labels.centroids_lps_mm()
    shown = []
    for name in names:
        points = np.stack([pose[:3, :3] @ centroids[name] + pose[:3, 3] for pose in poses])
        pixels = camera.project(points)
        size = np.array([camera.width, camera.height])
        if ((pixels >= 0) & (pixels < size)).all():
            shown.append(name)
    surface = [labels.surface_points_lps_mm(n, _SURFACE_POINTS_PER_VERTEBRA) for n in shown]
    return shown, np.concatenate([np.array([centroids[n] for n in shown]), *surface])


def summary(scores: Sequence[FrameScore], wanted: int) -> dict[str, Any]:
    """The figures of summary.json; mTRE over the poses on /tf. Unknown numbers are null."""
    on_tf = [s.errors for s in scores if s.is_broadcast and s.errors is not None]
    seconds = [s.seconds for s in scores if np.isfinite(s.seconds)]
    latencies = [s.latency_s for s in scores if np.isfinite(s.latency_s)]

    def over(values: list[float], how: Any) -> float | None:
        return float(how(values)) if values else None

    return {
        "frames": len(scores),
        "frames_sent": wanted,
        "accepted": sum(s.accepted for s in scores),
        "broadcast": sum(s.is_broadcast for s in scores),
        "mtre_median_mm": over([e.mtre_mm for e in on_tf], np.median),
        "mtre_max_mm": over([e.mtre_mm for e in on_tf], np.max),
        "rotation_median_deg": over([e.rotation_deg for e in on_tf], np.median),
        "in_plane_median_mm": over([e.in_plane_mm for e in on_tf], np.median),
        "depth_median_mm": over([e.depth_mm for e in on_tf], np.median),
        "seconds_median": over(seconds, np.median),
        "seconds_max": over(seconds, np.max),
        "latency_median_s": over(latencies, np.median),
        "first_start_mtre_mm": scores[0].start_mtre_mm if scores else None,
        "problems": problems(scores, wanted),
    }


def problems(scores: Sequence[FrameScore], wanted: int) -> list[str]:
    """Why the demo has failed; empty when it has not."""
    found = []
    if len(scores) < wanted:
        found.append(f"only {len(scores)} of {wanted} frames were processed")
    broadcast = [score for score in scores if score.is_broadcast]
    if len(broadcast) < SMALLEST_BROADCAST_SHARE * wanted:
        found.append(
            f"only {len(broadcast)} of {wanted} poses were broadcast; at least "
            f"{100 * SMALLEST_BROADCAST_SHARE:.0f} % are expected"
        )
    found += [
        f"frame {score.number}: the pose on /tf is {score.errors.mtre_mm:.2f} mm off, more than "
        f"{LARGEST_BROADCAST_ERROR_MM:g} mm"
        for score in broadcast
        if score.errors is not None and not score.errors.mtre_mm <= LARGEST_BROADCAST_ERROR_MM
    ]
    found += [
        f"frame {score.number}: rejected, but a pose was heard on /tf"
        for score in broadcast
        if not score.accepted
    ]
    return found


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
