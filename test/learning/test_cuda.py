"""Trainings on a GPU. Skipped without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.crowd import Crowd
from xray_registration.learning.crowd_bodies import CrowdConfig
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.processes import Processes
from xray_registration.learning.randomisation import RandomisationConfig, randomised
from xray_registration.learning.regressor import load_regressor
from xray_registration.learning.training import regressor_task, train_regressor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CROWD = CrowdConfig(count=3, box_mm=(150.0, 120.0, 140.0))


def test_disturbances_are_made_where_the_pictures_are() -> None:
    every = RandomisationConfig(surroundings=0.5).milder(1.0)
    lines = torch.rand(6, 64, 64, device="cuda")
    image, usable = randomised(lines, every, (0, 1, 2), 0.4)
    again, _ = randomised(lines, every, (0, 1, 2), 0.4)
    assert image.is_cuda
    assert usable.is_cuda
    assert image.isfinite().all()
    assert torch.equal(image, again)


def test_pictures_of_a_crowd_are_those_of_the_cpu(phantom: CTVolume, tiny: TrainingConfig) -> None:
    space = PoseSpace((0.0, 0.0, 0.0))
    poses = space.sample(np.random.default_rng(0), 6)
    patients, variants = np.arange(6) % 3, np.arange(6) % 2
    pictures = [
        Crowd([phantom], CROWD, space, 5.0, 0, device)
        .line_integrals(patients, variants, poses, tiny.canonical.camera)
        .cpu()
        for device in ("cpu", "cuda")
    ]
    # the GPU keeps its bodies in half precision
    assert (pictures[0] - pictures[1]).norm() < 2e-3 * pictures[0].norm()


@pytest.mark.parametrize("crowd", [CrowdConfig(), CROWD])
def test_a_training_runs_and_its_weights_load_on_the_cpu(
    tmp_path: Path,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
    crowd: CrowdConfig,
) -> None:
    config = replace(tiny, crowd=crowd, optimiser=replace(tiny.optimiser, bf16=True))
    group = Processes(device=torch.device("cuda"))
    batch = next(regressor_task([phantom], [isocentre], config, group.device).batches(0, 1))
    assert batch.inputs.is_cuda
    path = train_regressor([phantom], [isocentre], config, tmp_path, processes=group)
    _, checkpoint = load_regressor(path)
    assert checkpoint.facts["precision"] == "bfloat16"
    assert not checkpoint.tensors["stem.1.weight"].is_cuda
    assert np.isfinite(checkpoint.facts["validation"]["median_mm"])
