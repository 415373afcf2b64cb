"""What a trainer needs to train the learned similarity, and its checkpoint."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.learning import losses
from xray_registration.learning.canonical import CanonicalCamera
from xray_registration.learning.checkpoint import Checkpoint, described
from xray_registration.learning.randomisation import RandomisationConfig
from xray_registration.learning.stream import RegressorStream, Subject
from xray_registration.learning.volume_residual import VolumeResidual
from xray_registration.registration.least_squares.residual import Linearisation
from xray_registration.rendering import JosephProjector
from xray_registration.similarity.encoder import EncoderConfig
from xray_registration.similarity.manifold import Geometry, check_geometry
from xray_registration.similarity.spherical import SphericalResidual, SphericalTarget

KIND = "similarity"
Loss = Literal["gradient", "plain_gradient", "lm_step"]
LOSSES: tuple[Loss, ...] = ("gradient", "plain_gradient", "lm_step")


@dataclass(frozen=True)
class SimilarityConfig:
    """A row of the ablation.

    Attributes:
        geometry: where features are compared.
        metric: geodesic whose gradient is matched.
        loss: gradient matching of unit parts or of whole gradients, or the pose after an LM step.
        volume_residual: train Psi as well.
        encoder: sizes.
        size: pixels along each side.
        offset_mm, offset_deg: standard deviation of the start poses, times an even draw of 0 to 1.
    """

    geometry: Geometry = "sphere"
    metric: losses.Metric = "so4"
    loss: Loss = "gradient"
    volume_residual: bool = False
    encoder: EncoderConfig = EncoderConfig()  # noqa: RUF009
    size: int = 64
    offset_mm: float = 25.0
    offset_deg: float = 12.0

    def __post_init__(self) -> None:
        check_geometry(self.geometry)
        if self.loss not in LOSSES:
            raise InputError(f"loss is {self.loss!r}; expected one of {', '.join(LOSSES)}.")
        if isinstance(self.encoder, dict):
            object.__setattr__(self, "encoder", EncoderConfig(**self.encoder))


@dataclass(frozen=True, eq=False)
class SimilarityBatch:
    """Attributes: fixed (B, H, W); usable (B, H, W) bool; truth and start (B, 4, 4) float64."""

    fixed: Tensor
    usable: Tensor
    truth: Tensor
    start: Tensor


class LearnedSimilarity(nn.Module):
    """The encoders, and Psi where it is trained."""

    def __init__(self, config: SimilarityConfig) -> None:
        super().__init__()
        self.residual = SphericalResidual(config.encoder, config.geometry)
        self.psi = VolumeResidual() if config.volume_residual else None


class SimilarityTask:
    """Network, stream, loss and figures; the moving pictures are of the CT as it is."""

    def __init__(
        self,
        subject: Subject,
        config: SimilarityConfig,
        randomisation: RandomisationConfig,
        batch_size: int,
        seed: int,
        held_out_batches: int = 8,
    ) -> None:
        torch.manual_seed(seed)
        self.model: nn.Module = LearnedSimilarity(config)
        self._config, self._seed, self._space = config, seed, subject.space
        canonical = CanonicalCamera(config.size)
        self._camera = canonical.camera
        self._stream = RegressorStream([subject], canonical, randomisation, batch_size, seed)
        self._volume = subject.volumes[0]
        self._projector = JosephProjector(self._volume, subject.space.isocentre_lps_mm)
        self._held_out_batches = held_out_batches

    def batch(self, stream: int, number: int) -> SimilarityBatch:
        """Batch ``number`` of the training (0) or the held-out (1) stream."""
        with torch.no_grad():
            _, fixed, usable, numbers = self._stream.pictures(stream, number)
        truth = self._space.decode(numbers.double())
        random = np.random.default_rng([self._seed, stream, number, 1])
        sigma = [self._config.offset_mm] * 3 + [np.radians(self._config.offset_deg)] * 3
        xi = random.normal(size=(len(truth), 6)) * sigma * random.uniform(0, 1, (len(truth), 1))
        start = se3.left_increment(truth, torch.from_numpy(xi), self._space.centre)
        return SimilarityBatch(fixed, usable, truth, start)

    def batches(self, first: int, step: int) -> Generator[SimilarityBatch, None, None]:
        """See `trainer.Task`."""
        number = first
        while True:
            yield self.batch(0, number)
            number += step

    def loss(self, model: Any, batch: SimilarityBatch) -> Tensor:
        """See `trainer.Task`."""
        config, similarity, projector = self._config, model.residual, self._rendering(model)
        target = similarity.targets(batch.fixed, batch.usable)
        if config.loss == "lm_step":
            return losses.lm_step_loss(
                _stacked(similarity, target), projector, self._camera, batch.start, batch.truth,
                metric=config.metric,
            ).mean()  # fmt: skip
        return losses.gradient_matching_loss(
            lambda moving: similarity.epsilon(moving, target), projector, self._camera,
            batch.start, batch.truth, config.metric, config.loss == "gradient",
        ).mean()  # fmt: skip

    def validate(self, model: Any) -> dict[str, float]:
        """How far the first LM step leads, mm before and after; score: median of their ratio."""
        before, after = [], []
        projector = self._rendering(model)
        for number in range(self._held_out_batches):
            batch = self.batch(1, number)
            target = model.residual.targets(batch.fixed, batch.usable)
            before.append(losses.pose_distance(batch.start, batch.truth, self._space.centre))
            after.append(
                losses.lm_step_loss(
                    _stacked(model.residual, target), projector, self._camera, batch.start,
                    batch.truth,
                )
            )  # fmt: skip
        start, end = torch.cat(before), torch.cat(after)
        return {
            "score": float((end / start.clamp_min(1.0)).median()),
            "median_start_mm": float(start.median()),
            "median_after_one_step_mm": float(end.median()),
            "nearer_percent": 100.0 * float((end < start).double().mean()),
        }

    def _rendering(self, model: Any) -> JosephProjector:
        if model.psi is None:
            return self._projector
        return JosephProjector(model.psi.applied(self._volume), self._space.isocentre_lps_mm)


def _stacked(similarity: SphericalResidual, target: SphericalTarget) -> Any:
    """Residual, Jacobian and weights as `losses.lm_step_loss` takes them."""

    def of(image: Tensor, jacobian: Tensor) -> Linearisation:
        r, change = similarity.with_jacobian(image, jacobian, target)
        weight = target.weight[:, None].expand_as(r)
        return r.flatten(1), change.flatten(2), weight.flatten(1)

    return of


def similarity_facts(config: SimilarityConfig) -> dict[str, Any]:
    """What `similarity_from` needs, as plain values."""
    return {"kind": KIND, "similarity": asdict(config)}


def similarity_from(checkpoint: Checkpoint) -> LearnedSimilarity:
    """Rebuild it; its ``residual`` can be that of a registration level.

    Raises:
        InputError: the description or the tensors do not fit this version.
    """
    with described(checkpoint, "similarity"):
        network = LearnedSimilarity(SimilarityConfig(**checkpoint.facts["similarity"]))
        network.load_state_dict(checkpoint.tensors)
    return network.eval()
