"""Pictures of where the C-arm's joints are: the newest joint state wins, nothing queues up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.carm_kinematics import CArmKinematics
from xray_registration.ros.shots import Render, Shot, views_of
from xray_registration.ros.worker import NewestItemWorker

Matrix = npt.NDArray[np.float64]

# m and rad: what encoders and their rounding do to an arm that stands still.
_STILL = 1e-6


class JointShots:
    """One picture at a time, rendered in a thread, of the newest joint state when it is begun."""

    def __init__(
        self,
        arm: CArmKinematics,
        root_from_ct: Matrix,
        views: Sequence[Matrix],
        camera: Camera,
        render: Render,
        seed: int,
        continuous: bool,
    ) -> None:
        """Start the thread.

        Args:
            arm: the kinematics.
            root_from_ct: (4, 4) mm, where the patient lies.
            views: camera_from_rig (4, 4) mm of each view; the rig is the arm's optical frame.
            camera: of all views.
            render: called in the thread.
            seed: of the first picture's noise.
            continuous: shoot also while no joint moves.
        """
        self._arm = arm
        self._root_from_ct = root_from_ct
        self._views = views
        self._camera = camera
        self._render = render
        self._seed = seed
        self._continuous = continuous
        self._positions: dict[str, float] = {}
        self._stamp_ns: int | None = None
        self._shot_at: dict[str, float] | None = None
        self._heard = self._rendered = 0
        self._ready: Shot | None = None
        self.problem = ""
        """Why there was no picture at the last position; empty when there was one."""
        self._error: Exception | None = None
        self._worker: NewestItemWorker[tuple[tuple[Matrix, ...], int | None]] = NewestItemWorker(
            self._shoot, self._fail, name="exposure"
        )

    @property
    def positions(self) -> Mapping[str, float]:
        """Of the joints heard of so far; the others count as at 0."""
        return self._positions

    def move(self, positions: Mapping[str, float], stamp_ns: int) -> bool:
        """The arm's joints are there now; joints of others are ignored.

        Returns:
            False: none of the joints is this arm's.

        Raises:
            InputError: a position that this arm cannot have; the arm stays where it was.
        """
        own = {j.name: float(positions[j.name]) for j in self._arm.joints if j.name in positions}
        self._arm.check(own)
        if own:
            self._positions.update(own)
            self._stamp_ns = stamp_ns
            self._heard += 1
        return bool(own)

    @property
    def waiting_for(self) -> str:
        """A first joint state, or a movement."""
        if self._worker.busy or self._ready is not None:
            return ""
        if self._stamp_ns is None:
            return "waiting_for_joint_states"
        return "" if self._continuous or self._has_moved() else "waiting_for_movement"

    @property
    def is_done(self) -> bool:
        """Never: the arm may move again."""
        return False

    @property
    def counts(self) -> dict[str, int]:
        """Joint states heard and shots rendered."""
        return {"joint_states": self._heard, "frames_rendered": self._rendered}

    def begin(self) -> bool:
        """Shoot where the joints are now, unless the shot before is still being rendered."""
        if self._worker.busy or self._ready is not None or self._stamp_ns is None:
            return False
        self._shot_at = dict(self._positions)
        camera_from_ct = self._arm.camera_from_root(self._positions) @ self._root_from_ct
        self._worker.submit((views_of(camera_from_ct, self._views), self._stamp_ns))
        return True

    def take(self) -> Shot | None:
        """The shot, once it is rendered; an arm that stands where none can be taken has none."""
        error, self._error = self._error, None
        if isinstance(error, InputError):
            self.problem = str(error)
        elif error is not None:
            raise error
        shot, self._ready = self._ready, None
        if shot is not None:
            self.problem = ""
        return shot

    def stop(self, timeout_s: float) -> bool:
        """Shoot no more."""
        return self._worker.stop(timeout_s)

    def _has_moved(self) -> bool:
        if self._shot_at is None:
            return True
        names = self._positions.keys() | self._shot_at.keys()
        return any(
            abs(self._positions.get(n, 0.0) - self._shot_at.get(n, 0.0)) > _STILL for n in names
        )

    def _shoot(self, item: tuple[tuple[Matrix, ...], int | None]) -> None:
        poses, stamp_ns = item
        images = []
        for pose in poses:
            images.append(self._render(pose, self._camera, self._seed))
            self._seed += 1
        self._rendered += 1
        self._ready = Shot(poses, tuple(images), stamp_ns)

    def _fail(self, item: object, error: Exception) -> None:
        self._error = error
