"""What a trainer needs to train the mask network: pictures with known metal and blades, a loss."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from xray_registration.geometry import Camera
from xray_registration.learning.mask_network import (
    BLADES,
    KIND,
    METAL,
    MaskNetwork,
    MaskNetworkConfig,
    mask_input,
)
from xray_registration.learning.occlusion import field_of_view, metal_path_mm
from xray_registration.learning.precision import has_bfloat16
from xray_registration.learning.randomisation import Draws
from xray_registration.learning.stream import RenderedSubjects, Subject, made_ahead
from xray_registration.registration.detected import BeamConfig, detected
from xray_registration.similarity.filters import blurred

_LEAST_METAL_MM = 0.15
_DARK = 1e-4  # what a receiver takes for no signal
_MIXED = 0.5  # share of batches that show two patients, one behind the other
_THICKNESS = (0.7, 1.3)  # of patients, against those of the CTs
_METAL_WEIGHT = 2.0  # of a pixel of metal in the loss: there are few


@dataclass(frozen=True, eq=False)
class MaskBatch:
    """Attributes: inputs (B, 3, H, W); truth (B, 2, H, W) in 0..1: metal, blades; counted
    (B, 2, H, W): pixels that the receiver uses, for metal those in the open field.
    """

    inputs: Tensor
    truth: Tensor
    counted: Tensor


class MaskTask:
    """Network, pictures, loss and figures; see `trainer.Task`."""

    def __init__(
        self,
        subjects: Sequence[Subject],
        config: MaskNetworkConfig,
        seed: int,
        size: int = 256,
        batch_size: int = 8,
        held_out_batches: int = 8,
        bf16: bool = False,
    ) -> None:
        """Prepare; ``bf16`` autocasts the network where the machine has bfloat16 arithmetic."""
        torch.manual_seed(seed)
        network: Any = MaskNetwork(config)
        self.model: nn.Module = network.to(memory_format=torch.channels_last)
        self._autocasts = bf16 and has_bfloat16()
        self._config, self._seed = config, seed
        self._subjects = RenderedSubjects(subjects)
        distance_mm = subjects[0].space.source_isocentre_mm
        self._camera = Camera.from_detector(size, size, config.pixel_mm, distance_mm)
        self._batch_size, self._held_out_batches = batch_size, held_out_batches

    def batch(self, stream: int, number: int) -> MaskBatch:
        """Batch ``number`` of the training (0) or the held-out (1) stream."""
        random = np.random.default_rng([self._seed, stream, number])
        with torch.no_grad():
            lines = self._lines(random)
            if random.random() < _MIXED:  # more kinds of background than there are patients
                share = random.uniform(0.15, 0.6)
                lines = (1 - share) * lines + share * self._lines(random)
            lines = lines * random.uniform(*_THICKNESS)
            seed = (self._seed, stream, number)
            return disturbed_with_truth(lines, seed, 1 / self._config.pixel_mm)

    def _lines(self, random: np.random.Generator) -> Tensor:
        """Line integrals (B, S, S) of one patient."""
        space, projector = self._subjects.drawn(random)
        lines = projector.image(space.sample(random, self._batch_size), self._camera)
        # a network must not learn which end the head is, nor that spines are upright
        return torch.rot90(lines, int(random.integers(4)), (1, 2))

    def batches(self, first: int, step: int) -> Generator[MaskBatch, None, None]:
        """See `trainer.Task`."""
        return made_ahead(lambda number: self.batch(0, number), first, step)

    def loss(self, model: Any, batch: MaskBatch) -> Tensor:
        """Binary cross-entropy of the pixels that count."""
        factor = torch.ones(1, 2, 1, 1)
        factor[:, METAL] = _METAL_WEIGHT
        inputs = batch.inputs.to(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._autocasts):
            logits = model(inputs)
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), batch.truth, reduction="none", pos_weight=factor
        )
        return (loss * batch.counted).sum() / batch.counted.sum().clamp_min(1.0)

    def validate(self, model: Any) -> dict[str, float]:
        """Shares in percent of what is found and of what is taken for it in error."""
        found, there, wrong, free = (torch.zeros(2) for _ in range(4))
        loss = 0.0
        for number in range(self._held_out_batches):
            batch = self.batch(1, number)
            loss += float(self.loss(model, batch)) / self._held_out_batches
            said = (model(batch.inputs) > 0).float() * batch.counted
            found += (said * batch.truth).sum((0, 2, 3))
            there += (batch.counted * batch.truth).sum((0, 2, 3))
            wrong += (said * (1 - batch.truth)).sum((0, 2, 3))
            free += (batch.counted * (1 - batch.truth)).sum((0, 2, 3))
        right, false = 100 * found / there.clamp_min(1), 100 * wrong / free.clamp_min(1)
        return {
            "score": loss,
            "metal_found_percent": float(right[METAL]),
            "metal_false_percent": float(false[METAL]),
            "blades_found_percent": float(right[BLADES]),
            "blades_false_percent": float(false[BLADES]),
        }


def mask_facts(config: MaskNetworkConfig) -> dict[str, Any]:
    """What `mask_network_from` needs, as plain values."""
    return {"kind": KIND, "network": asdict(config)}


def disturbed_with_truth(lines: Tensor, seed: tuple[int, ...], px_per_mm: float) -> MaskBatch:
    """Line integrals (B, H, W) to pictures as a C-arm makes them, and what is in them: a beam of
    many energies, metal, blades, scatter, blur, photons, saturation, a window.
    """
    count, height, width = lines.shape
    size = (height, width)
    draws = Draws(count, seed)
    hardening = draws.uniform(0.0, 1.0)[:, 0, 0].tolist()
    x = torch.cat(
        [detected(one[None], BeamConfig(h, 0.0)) for one, h in zip(lines, hardening, strict=True)]
    )
    metal = torch.zeros_like(x)
    for probability in (0.8, 0.3):
        path = metal_path_mm(draws, size, px_per_mm)
        density = torch.where(draws.some(probability), draws.uniform(0.08, 0.5), 0.0)
        x = x + density * path
        metal = torch.maximum(metal, ((path > _LEAST_METAL_MM) & (density > 0)).to(x))
    usable, opened = field_of_view(draws, size, 0.85, 0.1)
    leak = torch.where(draws.some(0.5), 0.003, 0.0005)
    signal = torch.exp(-x) * torch.where(opened, 1.0, leak)
    signal = _each_blurred(signal + _haze(signal, x, draws), draws, 0.7)
    photons = torch.exp(draws.uniform(math.log(1e4), math.log(3e5)))
    signal = signal + (signal / photons).clamp_min(0.0).sqrt() * draws.normal(height, width)
    shown, clipped = _shown(-torch.log(signal.clamp_min(_DARK)), opened, draws)
    mask = (usable | _missed(draws, size)) & ~(clipped & draws.some(0.8))
    truth = torch.stack((metal, (~opened).to(x)), 1)
    counted = torch.stack((mask & opened, mask), 1).to(x)
    return MaskBatch(mask_input(shown, mask), truth, counted)


def _haze(signal: Tensor, x: Tensor, draws: Draws) -> Tensor:
    """Scattered radiation: exp(-L) L, smoothed."""
    size = (signal.shape[1], signal.shape[2])
    coarse = F.avg_pool2d((signal * x.clamp_min(0.0))[:, None], 4)[:, 0]
    wide = blurred(coarse, float(draws.uniform(3.4, 11.0)[0]))[:, None]
    smooth = F.interpolate(wide, size=size, mode="bilinear", align_corners=False)[:, 0]
    ratio = torch.where(draws.some(0.85), draws.uniform(0.05, 0.9), 0.0)
    return ratio * smooth * (1 + 0.2 * draws.smooth(size, 3))


def _each_blurred(images: Tensor, draws: Draws, largest_px: float) -> Tensor:
    widths = draws.uniform(0.0, largest_px)[:, 0, 0].tolist()
    return torch.cat(
        [blurred(one[None], w if w > 0.25 else 0.0) for one, w in zip(images, widths, strict=True)]
    )


def _shown(x: Tensor, opened: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """As a detector's full well or a display's window leaves it, and what is clipped by them."""
    shares = torch.cat((draws.uniform(0.0, 0.12), 1 - draws.uniform(0.0, 0.08)), 2)[:, 0]
    ends = torch.stack(
        [
            torch.quantile((one[field] if bool(field.any()) else one.flatten())[::7], share)
            for one, field, share in zip(x, opened, shares, strict=True)
        ]
    )
    low, high = ends[:, :1, None], ends[:, 1:, None]
    window = ((x - low) / (high - low).clamp_min(1e-3)).clamp(0.0, 1.0)
    levels = torch.round(255 * window ** torch.exp(draws.uniform(-0.45, 0.45))) / 255
    is_display, is_full = draws.some(0.35), draws.some(0.3)
    clipped = torch.where(is_display, (levels <= 0) | (levels >= 1), is_full & (x < low))
    full = torch.where(is_full, torch.maximum(x, low), x)
    return torch.where(is_display, levels * draws.uniform(0.5, 1.5), full), clipped


def _missed(draws: Draws, size: tuple[int, int]) -> Tensor:
    """(B, H, W) where a receiver has not found the blades: nowhere, on one side, or everywhere."""
    height, width = size
    angle = draws.uniform(0.0, 2 * math.pi)
    v = torch.arange(height)[None, :, None] - height / 2
    u = torch.arange(width)[None, None, :] - width / 2
    side = angle.cos() * u + angle.sin() * v > draws.uniform(-0.25 * width, 0.4 * width)
    return draws.some(0.3) | (draws.some(0.45) & side)
