"""From the task to the checkpoint in one call."""

from __future__ import annotations

from pathlib import Path

import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.checkpoint import load_checkpoint
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.similarity_task import (
    KIND,
    SimilarityConfig,
    SimilarityTask,
    similarity_from,
)
from xray_registration.learning.similarity_training import CHECKPOINT, train_similarity
from xray_registration.learning.stream import Subject
from xray_registration.learning.trainer import Schedule
from xray_registration.similarity.encoder import EncoderConfig


def test_the_checkpoint_is_that_of_the_ct_and_another_training_is_refused(
    phantom: CTVolume, subject: Subject, tiny: TrainingConfig, tmp_path: Path
) -> None:
    small = EncoderConfig(channels=3, width=8, layers=1, heads=2)
    config = SimilarityConfig(encoder=small, size=32)
    schedule = Schedule(1.0, 2, 2, 0, 1e9)
    task = SimilarityTask(subject, config, tiny.randomisation, 2, 0, 1)
    trained = train_similarity(task, config, phantom, schedule, tmp_path, seed=0)
    assert trained.steps == 2
    checkpoint = load_checkpoint(tmp_path / CHECKPOINT, KIND)
    checkpoint.check_ct(phantom)
    assert checkpoint.facts["steps"] == 2
    similarity_from(checkpoint)
    with pytest.raises(InputError, match="state"):
        train_similarity(task, config, phantom, schedule, tmp_path, seed=1)
