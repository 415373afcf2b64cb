"""Which pose the registration of the next image starts from.

In this order, the first that is there:

1. ``initialpose`` - what a person or another node has just said, until an image was accepted that
   started from it;
2. ``previous`` - the pose of the last accepted image (when ``start.use_previous``);
3. ``parameter`` - the start pose of the parameters, or ``network`` - those that the regressor
   proposes from the image itself (when ``start.source`` is not ``none``).

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
    NETWORK = "network"


@dataclass(frozen=True, eq=False)
class StartPose:
    """A chosen start, to be handed back to ``report``.

    ``rig_from_ct`` is in LPS mm; with one view the rig is the camera.
    ``frame_id`` is what an initialpose said of its frame; empty = the image's. ``epoch``: of the
    policy; what comes of a start of before ``reset`` is not remembered.
    """

    rig_from_ct: Matrix
    source: StartSource
    frame_id: str = ""
    epoch: int = 0


class StartPosePolicy:
    """The memory behind the order above. Thread-safe: topics set it, the worker reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._initialpose: StartPose | None = None
        self._previous: StartPose | None = None
        self._rejects = 0
        self._epoch = 0

    def set_initialpose(self, rig_from_ct: Matrix, frame_id: str) -> None:
        """Take a pose from outside; it replaces an older one."""
        with self._lock:
            self._initialpose = StartPose(
                rig_from_ct, StartSource.INITIALPOSE, frame_id, self._epoch
            )
            self._rejects = 0

    def choose(self, parameter: Matrix | None, use_previous: bool) -> StartPose | None:
        """The start for the next image; None when there is none."""
        with self._lock:
            if self._initialpose is not None:
                return self._initialpose
            if use_previous and self._previous is not None:
                return self._previous
            if parameter is None:
                return None
            return StartPose(parameter, StartSource.PARAMETER, epoch=self._epoch)

    def proposed(self) -> StartPose:
        """Stands for the poses that the network proposes, for ``report``."""
        with self._lock:
            return StartPose(np.eye(4), StartSource.NETWORK, epoch=self._epoch)

    def report(self, start: StartPose, accepted: Matrix | None, max_rejects: int) -> bool:
        """Say what became of an image.

        Args:
            start: what ``choose`` gave for it.
            accepted: its accepted rig_from_ct, None when it was rejected.
            max_rejects: rejects in a row after which a start is dropped; 0 = never.

        Returns:
            True when this call dropped ``start``.
        """
        with self._lock:
            if start.epoch != self._epoch:
                return False
            # An initialpose that arrived meanwhile is a different object and stays.
            is_initialpose = self._initialpose is start
            if accepted is not None:
                if is_initialpose:
                    self._initialpose = None
                self._previous = StartPose(accepted, StartSource.PREVIOUS, epoch=self._epoch)
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
            self._epoch += 1
