"""One training of the learned similarity, from the task to its checkpoint."""

from __future__ import annotations

from pathlib import Path

from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.checkpoint import save_checkpoint
from xray_registration.learning.config import OptimiserConfig
from xray_registration.learning.reporting import Reporter
from xray_registration.learning.similarity_task import (
    SimilarityConfig,
    SimilarityTask,
    similarity_facts,
)
from xray_registration.learning.trainer import Schedule, Trained, Trainer

CHECKPOINT = "similarity.json"


def train_similarity(
    task: SimilarityTask,
    config: SimilarityConfig,
    ct: CTVolume,
    schedule: Schedule,
    folder: Path,
    seed: int,
    reporter: Reporter | None = None,
) -> Trained:
    """Train, or go on where the folder's state is, and write ``CHECKPOINT`` into the folder.

    Args:
        task: made for ``config``, the CT and the seed.
        config, ct, seed: a state of others is not gone on from.
        schedule: how long.
        folder: it exists.
        reporter: told of every step; None: silence.

    Raises:
        InputError: the folder's state is damaged or of another training; no place to write.
    """
    identity = {"ct": ct.sha256, "seed": seed, **similarity_facts(config)}
    optimiser = OptimiserConfig(learning_rate=1e-3, average=0.99, bf16=False)
    trained = Trainer(task, optimiser, schedule, folder, identity, reporter=reporter).run()
    facts = {
        **similarity_facts(config),
        "ct_sha256": ct.sha256,
        "validation": trained.figures,
        "steps": trained.steps,
        "minutes": trained.seconds / 60,
    }
    save_checkpoint(folder / CHECKPOINT, trained.weights, facts)
    return trained
