"""Where the patient will be in the next picture: constant velocity on SE(3), in the stamps' time.

An orbit about any axis, a shift, and every screw are twists that stay the same as time goes by, so
a C-arm that turns evenly is predicted exactly, wherever the patient lies in its arc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.geometry import se3

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class MotionConfig:
    """How a velocity is learnt and used.

    Attributes:
        gain: share of the newest velocity, where the times between poses are equal; the rest is
            that of before. 1 keeps the newest alone, which doubles the noise of the poses.
        most_ahead: the extrapolation goes no further than this many times the time between poses,
            and holds still there: they say nothing of a time far beyond them.
    """

    gain: float = 0.5
    most_ahead: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.gain <= 1:
            raise InputError(f"gain is {self.gain}; expected more than 0 and at most 1.")
        if not self.most_ahead >= 0:
            raise InputError(f"most_ahead is {self.most_ahead}; expected 0 or more.")


_DEFAULT = MotionConfig()


@dataclass(frozen=True, eq=False)
class Motion:
    """The last pose, and how it was moving.

    Attributes:
        stamp_s: of the picture.
        rig_from_ct: (4, 4), CT in LPS mm.
        twist_per_s: (6,) mm/s and rad/s in the rig's axes, about its origin; None = not known.
        span_s: between poses, averaged as the velocities are.
    """

    stamp_s: float
    rig_from_ct: Matrix
    twist_per_s: Matrix | None = None
    span_s: float = 0.0

    def predicted(self, stamp_s: float, config: MotionConfig = _DEFAULT) -> Matrix:
        """(4, 4) at a time; the last pose where no velocity is known, and of times before it."""
        if self.twist_per_s is None:
            return self.rig_from_ct.copy()
        ahead_s = float(np.clip(stamp_s - self.stamp_s, 0.0, config.most_ahead * self.span_s))
        moved = se3.se3_exp(torch.from_numpy(self.twist_per_s * ahead_s)).numpy()
        return np.asarray(moved @ self.rig_from_ct)

    def followed_by(
        self, stamp_s: float, rig_from_ct: Matrix, config: MotionConfig = _DEFAULT
    ) -> Motion:
        """With the next pose. One of the same time or an earlier one tells no velocity."""
        span_s = stamp_s - self.stamp_s
        if span_s <= 0:
            return Motion(stamp_s, rig_from_ct, self.twist_per_s, self.span_s)
        between = torch.from_numpy(rig_from_ct) @ se3.inverse(torch.from_numpy(self.rig_from_ct))
        twist = np.asarray(se3.se3_log(between).numpy() / span_s)
        if self.twist_per_s is None:
            return Motion(stamp_s, rig_from_ct, twist, span_s)
        # the shorter the time, the less of a difference of poses is velocity and not noise
        new, old = config.gain * span_s, (1 - config.gain) * self.span_s
        twist = (new * twist + old * self.twist_per_s) / (new + old)
        return Motion(stamp_s, rig_from_ct, twist, new + old)
