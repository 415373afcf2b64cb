"""The contestants of benchmarks/projector.py in turns, and what they took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.projector_peers import Contestant, contestants
from benchmarks.training_stream import frontal_pose
from xray_registration.geometry import Camera, left_increment
from xray_registration.rendering import AttenuationVolume, JosephProjector

_QUICK_SECONDS = 195.0  # the rest is for starting up
_CALL_SECONDS_AT_MOST = {True: 45.0, False: 90.0}
_OFFSET = torch.tensor([3.0, -2.0, 5.0, 0.1, 0.08, -0.05], dtype=torch.float64)


@dataclass
class Cell:
    """One measurement: who, what, how large; the clock's and the processor's seconds per call."""

    contestant: str
    kind: str
    size: int
    batch: int
    threads: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    voxels: int = 0

    @property
    def median(self) -> float:
        return float(np.median(self.seconds)) if self.seconds else math.nan

    @property
    def cpu_median(self) -> float:
        return float(np.median(self.cpu_seconds)) if self.cpu_seconds else math.nan


class Budget:
    """How long the run may last, and what was left out for it."""

    def __init__(self, quick: bool, started: float) -> None:
        self._end = started + (_QUICK_SECONDS if quick else math.inf)
        self._at_most = _CALL_SECONDS_AT_MOST[quick]
        self.left_out: list[str] = []

    def left(self) -> float:
        return self._end - time.perf_counter()

    def allows(self, seconds: float, reserve: float, what: str) -> bool:
        """Whether a call of about so long may start; if not, it is noted."""
        if seconds <= self._at_most and 1.2 * seconds + reserve < self.left():
            return True
        self.left_out.append(f"{what} (about {seconds:.1f} s a call)")
        return False


def camera_of(size: int) -> Camera:
    """A flat detector of 300 mm, 1020 mm from the source."""
    return Camera.from_detector(size, size, 300.0 / size, 1020.0)


def pose_of(volume: AttenuationVolume, device: str) -> Tensor:
    """Frontal, a little off (1, 4, 4)."""
    centre = torch.from_numpy(volume.centre_lps_mm)
    return left_increment(frontal_pose(volume)[None], _OFFSET, centre).to(device)


def timed(call: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


class Race:
    """Contestants on one volume, measured in turns; remembers what calls have cost."""

    def __init__(self, volume: AttenuationVolume, device: str, quick: bool, budget: Budget) -> None:
        self.device, self.quick, self.budget = device, quick, budget
        self.poses = pose_of(volume, device)
        axis = JosephProjector(volume).sampling_axes(self.poses)[0]
        self.samples = volume.shape_ijk[axis]
        self.voxels = int(np.prod(volume.shape_ijk))
        self.contestants, self.absent = contestants(volume, self.samples)
        # seconds per image of the pixels of 128 x 128, of whom and with how many threads
        self._cost: dict[tuple[str, int], float] = {}

    def run(
        self,
        kind: str,
        size: int,
        batch: int = 1,
        threads: int = 1,
        rounds: int = 5,
        only: Sequence[str] | None = None,
        reserve: float = 0.0,
    ) -> list[Cell]:
        """Medians of everyone (or ``only`` some) for one kind ("image", "jacobian") and size."""
        torch.set_num_threads(threads)
        camera = camera_of(size)
        poses = self.poses.expand(batch, 4, 4)
        cells = [
            (contestant, Cell(contestant.key, kind, size, batch, threads))
            for contestant in self.contestants
            if only is None or contestant.key in only
        ]
        for index in range(rounds):
            for contestant, cell in cells:
                self._take_turn(contestant, cell, poses, camera, (index, rounds), reserve)
        for _, cell in cells:
            cell.voxels = self.voxels
        return [cell for _, cell in cells if cell.seconds]

    def _take_turn(
        self,
        contestant: Contestant,
        cell: Cell,
        poses: Tensor,
        camera: Camera,
        turn: tuple[int, int],
        reserve: float,
    ) -> None:
        index, rounds = turn
        call = contestant.image if cell.kind == "image" else contestant.image_and_jacobian
        ours = contestant.key in ("native", "torch")
        images = cell.batch * (1 if cell.kind == "image" or ours else 13)
        pixels = (cell.size / 128) ** 2
        key = (contestant.key, cell.threads)
        cost = self._cost.get(key, self._cost.get((contestant.key, 1), 0.05 if ours else 1.0))
        expected = cost * images * pixels
        if index and not cell.seconds:
            return  # it was left out in the first round
        slow = (1 if expected > 8 else 2 if self.quick else 3) if expected > 1 else rounds
        if index >= slow:
            return
        what = f"{cell.kind} {cell.size} batch {cell.batch} threads {cell.threads}"
        if not self.budget.allows(expected, reserve, f"{contestant.title}: {what}"):
            return
        if index == 0 and expected < 2:
            timed(lambda: call(poses, camera), self.device)  # layouts, caches, first allocations
        for _ in range(5 if expected < 0.2 else 1):
            used = time.process_time()
            cell.seconds.append(timed(lambda: call(poses, camera), self.device))
            cell.cpu_seconds.append(time.process_time() - used)
        self._cost[key] = cell.median / images / pixels
