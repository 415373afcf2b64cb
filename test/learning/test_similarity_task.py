"""Trainings of two steps of the learned similarity: every loss, every geometry, its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.learning.checkpoint import load_checkpoint, save_checkpoint
from xray_registration.learning.config import OptimiserConfig, TrainingConfig
from xray_registration.learning.similarity_task import (
    KIND,
    SimilarityConfig,
    SimilarityTask,
    similarity_facts,
    similarity_from,
)
from xray_registration.learning.stream import Subject
from xray_registration.learning.trainer import Schedule, Trainer
from xray_registration.similarity.encoder import EncoderConfig

SMALL = EncoderConfig(channels=3, width=8, layers=1, heads=2)


@pytest.mark.parametrize(
    ("geometry", "loss", "psi"),
    [("sphere", "gradient", True), ("sphere_log", "lm_step", False),
     ("hyperbolic", "plain_gradient", False)],
)  # fmt: skip
def test_two_steps_and_the_checkpoint(
    subject: Subject, tiny: TrainingConfig, tmp_path: Path, geometry: str, loss: str, psi: bool
) -> None:
    config = SimilarityConfig(geometry, "so4", loss, psi, SMALL, 32)
    task = SimilarityTask(subject, config, tiny.randomisation, 2, 0, 1)
    schedule = Schedule(1.0, 2, 2, 0, 1e9)
    settings = OptimiserConfig(bf16=False, average=0.0)
    trained = Trainer(task, settings, schedule, tmp_path, similarity_facts(config)).run()
    assert trained.steps == 2
    assert np.isfinite(list(trained.figures.values())).all()
    path = tmp_path / "similarity.json"
    save_checkpoint(path, trained.weights, {**similarity_facts(config), "ct_sha256": "ab" * 32})
    network = similarity_from(load_checkpoint(path, KIND))
    picture = torch.rand(32, 32)
    target = network.residual.target(picture, torch.ones(32, 32, dtype=torch.bool))
    assert network.residual(picture[None], target).shape[0] == 1


def test_bad_values() -> None:
    with pytest.raises(InputError, match="loss"):
        SimilarityConfig(loss="hinge")
