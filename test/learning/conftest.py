"""A small patient and a small network: trainings of a second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.canonical import CanonicalCamera
from xray_registration.learning.config import OptimiserConfig, PoseRangeConfig, TrainingConfig
from xray_registration.learning.network import NetworkConfig
from xray_registration.learning.patients import VariantConfig
from xray_registration.learning.stream import Subject


def _phantom() -> CTVolume:
    """200 mm of body with bones that have no symmetry, 5 mm voxels, centre (10, -20, 30) LPS."""
    size, spacing = 40, 5.0
    axis = (np.arange(size) - (size - 1) / 2) * spacing
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    hu = np.full((size,) * 3, -1000, dtype=np.int16)
    hu[(x / 85) ** 2 + (y / 65) ** 2 + (z / 95) ** 2 < 1] = 30
    hu[(np.abs(x) < 12) & (np.abs(y - 25) < 12) & (np.abs(z) < 70)] = 600
    hu[(np.abs(x - 40) < 15) & (np.abs(y) < 12) & (np.abs(z - 30) < 10)] = 900
    hu[(np.abs(x + 45) < 8) & (np.abs(y + 10) < 20) & (np.abs(z + 35) < 12)] = 250
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = np.array([10.0, -20.0, 30.0]) + axis[0]
    return CTVolume(hu, affine, path="phantom.nii", sha256="ab" * 32)


@pytest.fixture(scope="session")
def phantom() -> CTVolume:
    """See `_phantom`."""
    return _phantom()


@pytest.fixture(scope="session")
def isocentre() -> np.ndarray:
    """The middle of the phantom's body."""
    return np.array([10.0, -20.0, 30.0])


@pytest.fixture(scope="session")
def tiny() -> TrainingConfig:
    """Ten steps of eight pictures of 32 x 32."""
    return replace(
        TrainingConfig(),
        steps=10,
        batch_size=8,
        spacing_mm=5.0,
        validate_every=5,
        held_out_batches=1,
        save_every_s=0.0,
        mild_batches=4,
        canonical=CanonicalCamera(size=32),
        network=NetworkConfig(width=8, blocks=(1, 1, 1, 1), hypotheses=3, hidden=16),
        variants=VariantConfig(count=2),
        optimiser=OptimiserConfig(bf16=False, warmup_steps=2),
    )


@pytest.fixture(scope="session")
def subject(phantom: CTVolume, isocentre: np.ndarray, tiny: TrainingConfig) -> Subject:
    """The phantom's variants, coarse."""
    return Subject.of(phantom, isocentre, tiny.variants, 10.0, 0, PoseRangeConfig())
