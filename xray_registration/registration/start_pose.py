"""Where a registration may start: one interface, whatever the start is known from.

Others are in files of their own: `landmark_start` and `regressor_start`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xray_registration.geometry import PositionerPose, camera_from_positioner, check_rigid
from xray_registration.registration.motion import Motion, MotionConfig
from xray_registration.registration.view import View

Matrix = NDArray[np.float64]
# poses (S, 4, 4), rig from CT in LPS mm, the likeliest first, and their weights (S,), of sum 1
Starts = tuple[Matrix, Matrix]


class StartPose(Protocol):
    """Proposes where to start."""

    def propose(self, views: Sequence[View]) -> Starts:
        """For these views.

        Raises:
            InputError: nothing can be proposed for them.
        """


@dataclass(frozen=True, eq=False)
class GivenStart:
    """A pose that somebody knows: ``rig_from_ct`` (4, 4), CT in LPS mm."""

    rig_from_ct: Matrix

    def __post_init__(self) -> None:
        object.__setattr__(self, "rig_from_ct", check_rigid(self.rig_from_ct, "start pose"))

    def propose(self, views: Sequence[View]) -> Starts:
        """See `StartPose`; the views do not matter."""
        return _one(self.rig_from_ct)


@dataclass(frozen=True)
class PositionerStart:
    """The angles of the C-arm that takes the first view, as it or a DICOM header tells them."""

    positioner: PositionerPose

    def rig_from_ct(self, camera_from_rig: Matrix) -> Matrix:
        """(4, 4) LPS mm, with the place of the first view's camera in the rig."""
        return np.asarray(np.linalg.inv(camera_from_rig) @ camera_from_positioner(self.positioner))

    def propose(self, views: Sequence[View]) -> Starts:
        """See `StartPose`."""
        return _one(self.rig_from_ct(views[0].camera_from_rig))


@dataclass(frozen=True, eq=False)
class PredictedStart:
    """Where earlier pictures say that the patient will be at ``stamp_s``."""

    motion: Motion
    stamp_s: float
    config: MotionConfig = field(default_factory=MotionConfig)

    def propose(self, views: Sequence[View]) -> Starts:
        """See `StartPose`; the views do not matter."""
        return _one(self.motion.predicted(self.stamp_s, self.config))


def _one(rig_from_ct: Matrix) -> Starts:
    return rig_from_ct[None], np.ones(1)
