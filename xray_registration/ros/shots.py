"""What the simulated C-arm takes pictures of, and when: along an arc, or where its joints are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xray_registration.geometry.camera import Camera
from xray_registration.ros.rendered_sweep import RenderedSweep

Image = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]
Render = Callable[[Matrix, Camera, int], Image]
"""(camera_from_ct, camera, seed of the noise) to the picture (H, W)."""


@dataclass(frozen=True, eq=False)
class Shot:
    """Pictures taken at one moment.

    Attributes:
        poses: camera_from_ct (4, 4) LPS mm of each view.
        images: (H, W) of each view.
        stamp_ns: when the arm stood so; None = when the pictures are sent.
    """

    poses: tuple[Matrix, ...]
    images: tuple[Image, ...]
    stamp_ns: int | None = None


class Shots(Protocol):
    """Where the pictures come from. Called by the node's executor only."""

    @property
    def waiting_for(self) -> str:
        """Why no shot can be begun (a state of the simulator); empty when one can."""

    @property
    def is_done(self) -> bool:
        """There will be no further shot."""

    @property
    def counts(self) -> dict[str, int]:
        """For the diagnostics."""

    def begin(self) -> bool:
        """Begin the next shot; False while the one before is still being rendered."""

    def take(self) -> Shot | None:
        """The shot that was begun, once it is ready; then it is no longer there.

        Raises:
            Exception: what rendering has raised.
        """

    def stop(self, timeout_s: float) -> bool:
        """Render nothing more; True when nothing is being rendered any more."""


def views_of(camera_from_ct: Matrix, views: Sequence[Matrix]) -> tuple[Matrix, ...]:
    """camera_from_ct of every view; ``views`` are their camera_from_rig, the rig is the first."""
    return tuple(camera_from_rig @ camera_from_ct for camera_from_rig in views)


class SweepShots:
    """One shot after the other of a sweep that a thread renders ahead."""

    def __init__(
        self, sweep: RenderedSweep, poses: Sequence[Matrix], views: int, prerender: bool, loop: bool
    ) -> None:
        """Nothing is begun yet.

        Args:
            sweep: the pictures, those of all views of a shot in a row.
            poses: as the sweep's.
            views: pictures a shot.
            prerender: wait for the whole sweep before the first shot.
            loop: back and forth without end.
        """
        self._sweep = sweep
        self._poses = poses
        self._views = views
        self._prerender = prerender
        self._loop = loop
        self._number = 0
        self._begun: Shot | None = None

    @property
    def waiting_for(self) -> str:
        """``rendering`` until the next shot is rendered."""
        index = self.frame_index(self._number)
        if index is None:
            return ""
        needed = len(self._sweep) if self._prerender else (index + 1) * self._views
        return "rendering" if self._sweep.ready < needed else ""

    @property
    def is_done(self) -> bool:
        """The sweep is over."""
        return self._begun is None and self.frame_index(self._number) is None

    @property
    def counts(self) -> dict[str, int]:
        """Frames rendered and in all."""
        return {
            "frames_rendered": self._sweep.ready // self._views,
            "frames": len(self._sweep) // self._views,
        }

    def frame_index(self, number: int) -> int | None:
        """Frame of the sweep that the shot ``number`` shows; None after the end.

        A loop goes back and forth, so that the C-arm never jumps.
        """
        frames = len(self._sweep) // self._views
        if number < frames:
            return number
        if not self._loop:
            return None
        if frames == 1:
            return 0
        place = number % (2 * (frames - 1))
        return place if place < frames else 2 * (frames - 1) - place

    def begin(self) -> bool:
        """Take the next one; it is rendered."""
        index = self.frame_index(self._number)
        if index is None:
            return False
        pictures = range(index * self._views, (index + 1) * self._views)
        self._begun = Shot(
            tuple(self._poses[i] for i in pictures), tuple(self._sweep.image(i) for i in pictures)
        )
        self._number += 1
        return True

    def take(self) -> Shot | None:
        """The shot that was begun."""
        shot, self._begun = self._begun, None
        return shot

    def stop(self, timeout_s: float) -> bool:
        """Stop rendering ahead."""
        return self._sweep.stop(timeout_s)
