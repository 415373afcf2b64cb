"""A level of the registration whose similarity is a network from a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.canonical import CanonicalCamera
from xray_registration.learning.checkpoint import save_checkpoint
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.similarity_task import (
    LearnedSimilarity,
    SimilarityConfig,
    similarity_facts,
)
from xray_registration.registration import Level, Registrar, RegistrationConfig, View
from xray_registration.registration.config import Similarity, SpreadConfig
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.similarity.encoder import EncoderConfig
from xray_registration.similarity.spherical import SphericalResidual

SMALL = EncoderConfig(channels=3, width=8, layers=1, heads=2)
GRADIENT = Level(pixel_mm=4.0, spacing_mm=5.0, max_iterations=12)


def _checkpoint(folder: Path, sha256: str = "ab" * 32, psi: bool = False) -> str:
    """Random weights; the same in both encoders, so that equal pictures have equal features."""
    config = SimilarityConfig(encoder=SMALL, volume_residual=psi, size=64)
    network = LearnedSimilarity(config)
    network.residual.fixed_encoder.load_state_dict(network.residual.moving_encoder.state_dict())
    path = folder / "similarity.json"
    facts = {**similarity_facts(config), "ct_sha256": sha256, "ct_file": "other.nii"}
    save_checkpoint(path, network.state_dict(), facts)
    return str(path)


def _config(
    checkpoint: str, *levels: Level, similarity: Similarity = "spherical"
) -> RegistrationConfig:
    learned = Level(3.2, 5.0, 6, similarity=similarity, checkpoint=checkpoint)
    return RegistrationConfig(levels=(learned, *levels), spread=SpreadConfig(count=0))


@pytest.fixture(scope="module")
def picture(phantom: CTVolume, isocentre: np.ndarray) -> tuple[View, np.ndarray, PoseSpace]:
    space = PoseSpace(tuple(isocentre))
    truth = space.sample(np.random.default_rng(5), 1)
    camera = CanonicalCamera(64).camera
    projector = JosephProjector(AttenuationVolume.from_ct(phantom), isocentre)
    image = projector.image(truth, camera)[0].numpy()
    mask = np.ones(image.shape, bool)
    return View(Radiograph(image, mask, "attenuation"), camera), truth[0].numpy(), space


def _moved(pose: np.ndarray, mm: float) -> np.ndarray:
    moved = pose.copy()
    moved[:3, 3] += mm * np.array([0.6, -0.8, 0.0])
    return moved


@pytest.mark.parametrize(
    ("similarity", "psi"), [("spherical", False), ("spherical", True), ("stacked", False)]
)
def test_learned_first_and_the_gradient_last(
    phantom: CTVolume, picture: Any, tmp_path: Path, similarity: Similarity, psi: bool
) -> None:
    view, truth, _ = picture
    config = _config(_checkpoint(tmp_path, psi=psi), GRADIENT, similarity=similarity)
    start = _moved(truth, 6.0)
    registrar = Registrar(phantom, config)
    result = registrar.register([view], start)
    usual = Registrar(phantom, replace(config, levels=(GRADIENT,))).register([view], start)
    assert result.iterations > usual.iterations
    # judged by the gradient's correlation, as ever
    assert result.similarity == pytest.approx(usual.similarity, abs=5e-3)
    assert np.abs(result.rig_from_ct - truth)[:2, 3].max() < 0.3


def test_the_network_alone_brings_the_pose_nearer(
    phantom: CTVolume, picture: Any, tmp_path: Path
) -> None:
    """Random features are features, too."""
    view, truth, _ = picture
    last = replace(GRADIENT, max_iterations=1)
    config = _config(_checkpoint(tmp_path), last)
    registrar = Registrar(phantom, config)
    assert isinstance(registrar.learned[0].residual, SphericalResidual)
    assert registrar.learned[0].pixel_mm == 3.2  # not scaled with the patient
    start = _moved(truth, 6.0)
    coarse = registrar.learned[0]
    with torch.no_grad():
        starts = torch.from_numpy(np.stack([start, truth]))
        objective = registrar.descent.objective(coarse, [view], starts)
        likeness = objective.correlations(starts, torch.arange(2))[:, 0]
        minimum = registrar.descent.minimum(objective, starts, coarse.level)
    assert likeness[1] > likeness[0]
    gaps = (minimum.poses[:, :2, 3] - torch.from_numpy(truth)[:2, 3]).norm(dim=1)
    assert gaps[0] < 3.0
    assert gaps[1] < 0.5


def test_another_patients_weights_are_refused(phantom: CTVolume, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trained for the CT with sha256 cdcd.*other\.nii"):
        Registrar(phantom, _config(_checkpoint(tmp_path, "cd" * 32), GRADIENT))
    Registrar(phantom, _config(_checkpoint(tmp_path, "agnostic"), GRADIENT))


def test_a_checkpoint_that_is_not_there(phantom: CTVolume, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        Registrar(phantom, _config(str(tmp_path / "none.json"), GRADIENT))
