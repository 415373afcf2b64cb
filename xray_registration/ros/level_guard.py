"""Is the level that is to be operated on in the picture, and is it surely that level?

A registration can be right to a tenth of a millimetre and one vertebra off: neighbours look alike.
So the planned levels must be seen, and a pose that the library calls ambiguous is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from xray_registration.geometry.camera import Camera
from xray_registration.imaging.labels import LabelMap
from xray_registration.ros.frame_processor import Shot

Matrix = npt.NDArray[np.float64]

#: value of the library's reason when several poses, a level apart, explain the picture
AMBIGUOUS = "ambiguous"
_POINTS = 2000


@dataclass(frozen=True)
class LevelsSeen:
    """With the pose that was found.

    ``in_view``: structures whose centroid is seen in every view. ``planned``: share of the surface
    of every planned level that is seen, in the view that shows the least of it.
    """

    in_view: tuple[str, ...] = ()
    planned: dict[str, float] = field(default_factory=dict)


class GuardState(str, Enum):
    """The ``level_guard`` value on /diagnostics."""

    OFF = "off"
    OK = "ok"
    UNKNOWN = "unknown"
    NOT_IN_VIEW = "not_in_view"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True)
class GuardVerdict:
    """What the guard says of an image."""

    state: GuardState = GuardState.OFF
    text: str = ""

    @property
    def is_error(self) -> bool:
        """Somebody must look before going on."""
        return self.state in (GuardState.NOT_IN_VIEW, GuardState.AMBIGUOUS)


class LevelFinder:
    """Where the structures of one patient's label map are; slow to make, quick to ask."""

    def __init__(self, labels: LabelMap | None, patterns: tuple[str, ...]) -> None:
        """Take all structures; those that match one of ``patterns`` (``*``, ``?``) are listed."""
        self._labels = labels
        self._points_lps_mm: dict[str, Matrix] = {}
        centroids = {} if labels is None else labels.centroids_lps_mm()
        self._listed = {
            name: point
            for name, point in centroids.items()
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        }

    def seen(
        self, planned: tuple[str, ...], shots: Sequence[Shot], camera_from_ct: Sequence[Matrix]
    ) -> LevelsSeen:
        """What the views show. ``camera_from_ct``: (4, 4) LPS mm of every shot.

        Masked pixels (collimated, metal) show nothing.
        """
        if not all(np.isfinite(pose).all() for pose in camera_from_ct):
            return LevelsSeen()
        views = list(zip(shots, camera_from_ct, strict=True))
        in_view = tuple(
            name
            for name, point in self._listed.items()
            if all(seen(point[None], shot, pose)[0] for shot, pose in views)
        )
        shares = {
            name: min(float(seen(self._surface(name), *view).mean()) for view in views)
            for name in planned
            if self._labels is not None
        }
        return LevelsSeen(in_view, shares)

    def _surface(self, name: str) -> Matrix:
        if name not in self._points_lps_mm:
            assert self._labels is not None
            points = self._labels.surface_points_lps_mm(name, _POINTS)
            self._points_lps_mm[name] = points
        return self._points_lps_mm[name]


def seen(points_lps_mm: Matrix, shot: Shot, camera_from_ct: Matrix) -> npt.NDArray[np.bool_]:
    """(n,) whether points (n, 3) fall on pixels of the picture that are not masked."""
    camera: Camera = shot.camera
    points = points_lps_mm @ camera_from_ct[:3, :3].T + camera_from_ct[:3, 3]
    in_front = points[:, 2] > 1.0
    pixels = np.full((len(points), 2), -1.0)
    if in_front.any():
        pixels[in_front] = camera.project(points[in_front])
    pixels = np.clip(np.rint(pixels), -1, max(camera.width, camera.height))
    u, v = pixels.astype(int).T
    inside = (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    inside[inside] = shot.radiograph.mask[v[inside], u[inside]]
    return inside


def judge(
    planned: tuple[str, ...], min_visible: float, accepted: bool, reason: str, levels: LevelsSeen
) -> GuardVerdict:
    """The verdict on an image of which the library said ``accepted`` and ``reason``."""
    if reason == AMBIGUOUS:
        return GuardVerdict(GuardState.AMBIGUOUS, "the level is ambiguous")
    if not planned:
        return GuardVerdict()
    if not accepted:
        return GuardVerdict(GuardState.UNKNOWN, "no accepted pose")
    missing = [
        f"{name} ({100 * levels.planned.get(name, 0.0):.0f} % of it)"
        for name in planned
        if levels.planned.get(name, 0.0) < min_visible
    ]
    if missing:
        others = ", ".join(levels.in_view) or "none"
        return GuardVerdict(
            GuardState.NOT_IN_VIEW,
            f"planned level not in view: {', '.join(missing)}; in view: {others}",
        )
    return GuardVerdict(GuardState.OK, f"in view: {', '.join(planned)}")
