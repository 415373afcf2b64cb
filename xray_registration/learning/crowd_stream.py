"""Training pictures of a made-up crowd; see `stream` for what a batch depends on."""

from __future__ import annotations

import numpy as np
import torch

from xray_registration.learning.canonical import CanonicalCamera, network_input
from xray_registration.learning.crowd import Crowd
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.randomisation import RandomisationConfig, randomised
from xray_registration.learning.stream import HELD_OUT, TRAINING, Batch


class CrowdStream:
    """Every picture is of a patient drawn by itself."""

    def __init__(
        self,
        crowd: Crowd,
        space: PoseSpace,
        canonical: CanonicalCamera,
        randomisation: RandomisationConfig,
        batch_size: int,
        seed: int,
    ) -> None:
        """Prepare; ``space`` is about the point (0, 0, 0), the crowd's isocentre."""
        self._crowd = crowd
        self._space = space
        self._canonical = canonical
        self._randomisation = randomisation
        self._batch_size = batch_size
        self._seed = seed
        self._px_per_mm = canonical.camera.fx / space.source_isocentre_mm

    def batch(self, number: int) -> Batch:
        """Training batch ``number``."""
        return self._made(TRAINING, number)

    def held_out(self, number: int) -> Batch:
        """Batch ``number`` of another stream: the same patients, other poses."""
        return self._made(HELD_OUT, number)

    @torch.no_grad()
    def _made(self, stream: int, number: int) -> Batch:
        random = np.random.default_rng([self._seed, stream, number])
        count = self._batch_size
        patients = random.integers(self._crowd.count, size=count)
        variants = random.integers(self._crowd.variants, size=count)
        poses = self._space.sample(random, count)
        lines = self._crowd.line_integrals(patients, variants, poses, self._canonical.camera)
        seed = (self._seed, stream, number)
        images, usable = randomised(lines, self._randomisation, seed, self._px_per_mm)
        numbers = self._space.encode(poses).to(lines)
        return Batch(
            network_input(images, usable), numbers, torch.from_numpy(patients).to(lines.device)
        )
