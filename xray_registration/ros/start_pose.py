"""Which pose the registration of the next image starts from.

In this order, the first that is there:

1. ``initialpose`` - what a person or another node has just said, until an image was accepted that
   started from it;
2. ``previous`` - the pose of the last accepted image (when ``start.use_previous``);
3. ``parameter`` - the start pose of the parameters (when ``start.source`` is not ``none``).

A start of 1 or 2 from which ``max_rejects`` images in a row were rejected is dropped: a C-arm that
was moved far away is not searched for from a stale pose for ever.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


class StartSource(str, Enum):
    """Where a start pose comes from."""

    INITIALPOSE = "initialpose"
    PREVIOUS = "previous"
    PARAMETER = "parameter"


@dataclass(frozen=True, eq=False)
class StartPose:
    """A chosen start: camera_from_ct in LPS mm. Hand it back to ``report``.

    ``frame_id`` is what an initialpose said of its frame; empty = the image's.
    """

    camera_from_ct: Matrix
    source: StartSource
    frame_id: str = ""


class StartPosePolicy:
    """The memory behind the order above. Thread-safe: topics set it, the worker reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._initialpose: StartPose | None = None
        self._previous: StartPose | None = None
        self._rejects = 0

    def set_initialpose(self, camera_from_ct: Matrix, frame_id: str) -> None:
        """Take a pose from outside; it replaces an older one."""
        with self._lock:
            self._initialpose = StartPose(camera_from_ct, StartSource.INITIALPOSE, frame_id)
            self._rejects = 0

    def choose(self, parameter: Matrix | None, use_previous: bool) -> StartPose | None:
        """The start for the next image; None when there is none."""
        with self._lock:
            if self._initialpose is not None:
                return self._initialpose
            if use_previous and self._previous is not None:
                return self._previous
        return None if parameter is None else StartPose(parameter, StartSource.PARAMETER)

    def report(self, start: StartPose, accepted: Matrix | None, max_rejects: int) -> bool:
        """Say what became of an image.

        Args:
            start: what ``choose`` gave for it.
            accepted: its accepted camera_from_ct, None when it was rejected.
            max_rejects: rejects in a row after which a start is dropped; 0 = never.

        Returns:
            True when this call dropped ``start``.
        """
        with self._lock:
            # An initialpose that arrived meanwhile is a different object and stays.
            is_initialpose = self._initialpose is start
            if accepted is not None:
                if is_initialpose:
                    self._initialpose = None
                self._previous = StartPose(accepted, StartSource.PREVIOUS)
                self._rejects = 0
                return False
            if not is_initialpose and self._previous is not start:
                return False
            self._rejects += 1
            if max_rejects == 0 or self._rejects < max_rejects:
                return False
            self._rejects = 0
            if is_initialpose:
                self._initialpose = None
            else:
                self._previous = None
            return True

    def drop(self, start: StartPose) -> None:
        """Forget this start, if it is still the one that is kept."""
        with self._lock:
            if self._initialpose is start:
                self._initialpose = None
            if self._previous is start:
                self._previous = None
            self._rejects = 0

    def reset(self) -> None:
        """Forget everything that was heard and accepted."""
        with self._lock:
            self._initialpose = self._previous = None
            self._rejects = 0
