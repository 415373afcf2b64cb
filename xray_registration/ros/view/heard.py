"""The newest of everything that was heard, shared by the ROS thread and the web server's.

Nothing queues up: a message replaces the one before it, and work on it (JPEG, geometry) is done
only when a browser asks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from sensor_msgs.msg import CameraInfo, Image

from xray_registration.ros.view.marker_scene import MarkerStore
from xray_registration.ros.view.standing import (
    AcceptedPose,
    Limits,
    Result,
    Standing,
    Status,
    finite,
    standing,
)

# A stamp that is further from the clock's time comes from another clock.
_LARGEST_AGE_S = 3600.0


@dataclass(frozen=True, eq=False)
class HeardImage:
    """An image message; ``version`` counts those of its topic."""

    message: Image
    version: int
    heard_s: float


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A consistent state of everything but the pictures' pixels."""

    now_s: float
    standing: Standing
    status: Status | None
    result: Result | None
    pose: PoseWithCovarianceStamped | None
    transform: TransformStamped | None
    transform_heard_s: float
    camera: CameraInfo | None
    images: Mapping[str, HeardImage]
    markers_version: int


class Heard:
    """Thread-safe. All times are monotonic seconds unless said otherwise."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._result: Result | None = None
        self._accepted: AcceptedPose | None = None
        self._pose: PoseWithCovarianceStamped | None = None
        self._transform: TransformStamped | None = None
        self._transform_heard_s = 0.0
        self._camera: CameraInfo | None = None
        self._images: dict[str, HeardImage] = {}
        self._versions: dict[str, int] = {}
        self._publishers = 1
        self.markers = MarkerStore()

    def add_status(
        self, level: int, message: str, values: Mapping[str, str], now_s: float, clock_s: float
    ) -> None:
        """A status on /diagnostics. ``clock_s``: ROS time, which stamps are of."""
        with self._lock:
            before = self._status
            stamp = values.get("image_stamp", "")
            is_new = before is None or before.stamp != stamp
            since = now_s if before is None or is_new else before.image_heard_s
            self._status = Status(level, message, dict(values), now_s, since)
            said_s = finite(values.get("pose_age_s"))
            if said_s is not None and values.get("pose_stamp"):
                self._accept(values["pose_stamp"], now_s - max(0.0, said_s))
            elif is_new and values.get("accepted") == "true":
                silence_s = float("inf") if before is None else now_s - before.heard_s
                self._accept(stamp, self._taken_s(values, silence_s, now_s, clock_s))

    def _taken_s(
        self, values: Mapping[str, str], silence_s: float, now_s: float, clock_s: float
    ) -> float | None:
        """When the image of a new status was taken, of a node that does not say so."""
        if silence_s <= self._limits.silent_after_s:
            # its arrival was witnessed
            return now_s - max(0.0, finite(values.get("latency_s")) or 0.0)
        # what a node may have been repeating for long
        age_s = clock_s - (finite(values.get("image_stamp")) or 0.0)
        return now_s - age_s if 0.0 <= age_s <= _LARGEST_AGE_S else None

    def add_result(self, record: Mapping[str, object], now_s: float) -> None:
        """A record of ~/result, which is never repeated: what it says is of now."""
        with self._lock:
            self._result = Result(record, now_s)
            if self._result.accepted:
                self._accept(self._result.stamp, now_s)

    def _accept(self, stamp: str, taken_s: float | None) -> None:
        known = self._accepted
        if known is not None and known.stamp == stamp and known.taken_s is not None:
            # the same pose is never younger than it was said to be
            taken_s = known.taken_s if taken_s is None else min(taken_s, known.taken_s)
        self._accepted = AcceptedPose(stamp, taken_s)

    def add_pose(self, message: PoseWithCovarianceStamped) -> None:
        """~/pose; latched, so it may be old."""
        with self._lock:
            self._pose = message

    def add_transform(self, transform: TransformStamped, now_s: float) -> None:
        """An edge to the patient on /tf."""
        with self._lock:
            self._transform, self._transform_heard_s = transform, now_s

    def add_camera(self, message: CameraInfo) -> None:
        """camera_info."""
        with self._lock:
            self._camera = message

    def add_image(self, name: str, message: Image, now_s: float) -> None:
        """An image of ``name`` (xray, overlay, drr)."""
        with self._lock:
            version = self._versions.get(name, 0) + 1
            self._versions[name] = version
            self._images[name] = HeardImage(message, version, now_s)

    def forget_pictures(self) -> None:
        """Nobody listens to them any more: what is here grows old unnoticed."""
        with self._lock:
            self._images.clear()
            self._camera = None
        self.markers.clear()

    def set_publishers(self, number: int) -> None:
        """How many nodes publish ~/result."""
        with self._lock:
            self._publishers = number

    @property
    def child_frame(self) -> str:
        """The patient's frame, as the node says; ``patient`` until it has spoken."""
        result = self._result
        return "patient" if result is None else str(result.record.get("child_frame_id", "patient"))

    def image(self, name: str) -> HeardImage | None:
        """The newest image of ``name``."""
        with self._lock:
            return self._images.get(name)

    def snapshot(self, now_s: float) -> Snapshot:
        """Everything as of now."""
        with self._lock:
            shown = standing(
                self._status, self._result, self._accepted, now_s, self._limits, self._publishers
            )
            return Snapshot(
                now_s,
                shown,
                self._status,
                self._result,
                self._pose,
                self._transform,
                self._transform_heard_s,
                self._camera,
                dict(self._images),
                self.markers.version,
            )
