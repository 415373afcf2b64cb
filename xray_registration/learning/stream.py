"""Training batches, each a function of (seed, number) alone: nothing is stored, nothing drifts.

A run that is resumed at step n therefore sees the very batches that an uninterrupted one sees, and
processes of a distributed run take every n-th one.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.canonical import CanonicalCamera, network_input
from xray_registration.learning.config import PoseRangeConfig
from xray_registration.learning.network import Maps
from xray_registration.learning.patients import Patients, VariantConfig
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.randomisation import RandomisationConfig, randomised
from xray_registration.rendering import AttenuationVolume, JosephProjector

T = TypeVar("T")

TRAINING, HELD_OUT = 0, 1
_GROUP = 8  # images of one patient variant
_APART = 200  # batches that are kept to be learned from again


@dataclass(frozen=True, eq=False)
class Batch:
    """Attributes: inputs (B, 3, H, W), or what the network's frozen parts made of them; numbers
    (B, 6) of `PoseSpace.encode`, float32; of whom (B,), where a network is told.
    """

    inputs: Tensor | Maps
    numbers: Tensor
    patients: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """A patient of the training: its variants, and the poses about its own isocentre."""

    volumes: Sequence[AttenuationVolume]
    space: PoseSpace

    @classmethod
    def of(
        cls,
        ct: CTVolume,
        isocentre_lps_mm: ArrayLike,
        variants: VariantConfig,
        spacing_mm: float,
        seed: int,
        pose: PoseRangeConfig,
        device: torch.device | str = "cpu",
    ) -> Subject:
        """Of one CT, to be rendered on ``device``; see `Patients` for errors."""
        isocentre = np.asarray(isocentre_lps_mm, dtype=np.float64)
        x, y, z = isocentre.tolist()
        patients = Patients(ct, isocentre, variants, spacing_mm, seed)
        volumes = [volume.to(device) for volume in patients.volumes]
        return cls(volumes, PoseSpace((x, y, z), **asdict(pose)))


class RenderedSubjects:
    """The projectors of some patients' variants, one of which is drawn at a time."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self._each = [
            (s.space, [JosephProjector(v, s.space.isocentre_lps_mm) for v in s.volumes])
            for s in subjects
        ]

    def drawn(self, random: np.random.Generator) -> tuple[PoseSpace, JosephProjector]:
        """A patient's poses, and the projector of one of his variants."""
        space, projectors = self._each[int(random.integers(len(self._each)))]
        return space, projectors[int(random.integers(len(projectors)))]


class RegressorStream:
    """Renders and disturbs pictures of one patient's variants, or of several patients'."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        canonical: CanonicalCamera,
        randomisation: RandomisationConfig,
        batch_size: int,
        seed: int,
        mild_batches: int = 0,
    ) -> None:
        """Prepare; the disturbances of the first ``mild_batches`` grow from a fifth to all."""
        self._subjects = RenderedSubjects(subjects)
        self._px_per_mm = canonical.camera.fx / subjects[0].space.source_isocentre_mm
        self._canonical = canonical
        self._randomisation = randomisation
        self.batch_size = batch_size
        self._seed = seed
        self._mild_batches = mild_batches

    def batch(self, number: int) -> Batch:
        """Training batch ``number``."""
        return self._made(TRAINING, number)

    def held_out(self, number: int) -> Batch:
        """Batch ``number`` of another stream, disturbed in the same ways."""
        return self._made(HELD_OUT, number)

    def pictures(self, stream: int, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Line integrals, disturbed pictures, usable pixels (B, H, W), numbers (B, 6)."""
        random = np.random.default_rng([self._seed, stream, number])
        camera = self._canonical.camera
        lines, numbers = [], []
        for first in range(0, self.batch_size, _GROUP):
            space, projector = self._subjects.drawn(random)
            poses = space.sample(random, min(_GROUP, self.batch_size - first))
            lines.append(projector.image(poses, camera))
            numbers.append(space.encode(poses).to(lines[-1]))
        seed = (self._seed, stream, number)
        undisturbed = torch.cat(lines)
        config = self._randomisation
        if stream == TRAINING and number < self._mild_batches:
            config = config.milder(0.2 + 0.8 * number / self._mild_batches)
        images, usable = randomised(undisturbed, config, seed, self._px_per_mm)
        return undisturbed, images, usable, torch.cat(numbers)

    def _made(self, stream: int, number: int) -> Batch:
        with torch.no_grad():
            _, images, usable, numbers = self.pictures(stream, number)
            return Batch(network_input(images, usable), numbers)


class Repeated(Generic[T]):
    """Makes every batch but hands it out several times, between many others.

    The batch of a step is a function of the step alone: one that a resumed run has not kept is made
    again. To be called with steps in their order, by several threads or one.
    """

    def __init__(self, make: Callable[[int], T], times: int, step: int = 1) -> None:
        """``times`` 2 or more; ``step``: of the steps that this process takes."""
        self._make = make
        self._times = times
        self._step = step
        self._kept: dict[int, T] = {}

    def __call__(self, number: int) -> T:
        """The batch to learn from in step ``number``."""
        turn, mine = divmod(number, self._step)
        drawn, repeat = self._drawn(turn)
        batch = self._kept.get(drawn)
        if batch is None:
            batch = self._make(drawn * self._step + mine)
        if repeat < self._times - 1:
            self._kept[drawn] = batch
        else:
            self._kept.pop(drawn, None)
        return batch

    def _drawn(self, turn: int) -> tuple[int, int]:
        """Which batch, and how often it was handed out before; at first all are new."""
        if turn < _APART:
            return turn, 0
        newest, repeat = divmod(turn - _APART, self._times)
        return _APART + newest - repeat * _APART // (self._times - 1), repeat


def made_ahead(
    make: Callable[[int], T], first: int, step: int = 1, depth: int = 3, makers: int = 1
) -> Generator[T, None, None]:
    """Batches first, first + step, ... made by other threads while the caller computes.

    Close the iterator (or drop it) to end the threads. Until then the caller's arithmetic leaves a
    core to each: shared by all, every core waits for the one that is late (two cores: 64 pictures a
    second where 77 are trained on with one each).
    """
    cores = torch.get_num_threads()
    # the initialiser's setting counts for the maker that calls it alone
    with ThreadPoolExecutor(makers, "training pictures", torch.set_num_threads, (1,)) as pool:
        numbers = itertools.count(first, step)
        waiting = deque(pool.submit(make, next(numbers)) for _ in range(depth))
        try:
            torch.set_num_threads(max(1, cores - makers))
            while True:
                item = waiting.popleft().result()
                waiting.append(pool.submit(make, next(numbers)))
                yield item
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(cores)
