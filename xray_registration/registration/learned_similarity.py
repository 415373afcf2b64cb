"""The network of a level whose similarity is learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from xray_registration.imaging.volume import CTVolume

if TYPE_CHECKING:
    from xray_registration.learning.similarity_task import LearnedSimilarity


def loaded_similarity(
    checkpoint: Path, ct: CTVolume, device: torch.device | str
) -> LearnedSimilarity:
    """From NAME.json of training/train_similarity.py; its weights do not ask for gradients.

    Raises:
        InputError: damaged weights, those of another CT, or no similarity at all.
    """
    # here, not above: the other levels need no network
    from xray_registration.learning.checkpoint import load_checkpoint
    from xray_registration.learning.similarity_task import KIND, similarity_from

    loaded = load_checkpoint(checkpoint, KIND)
    loaded.check_ct(ct)
    return similarity_from(loaded).to(device).requires_grad_(False)
