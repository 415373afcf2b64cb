"""Domain randomisation: line integrals to pictures as a C-arm might have made them.

In the order of the physics: surroundings, metal, scatter, noise and blur, blades or intensifier,
then what a display does. Every step is drawn for every image by itself; the draws come from one
generator, so a seed fixes the batch. Steps of the appearance follow Chen & Kong
(``docs/learning.md`` names what is added to them).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.learning.occlusion import field_of_view, metal_path_mm
from xray_registration.learning.surroundings import with_surroundings

_LEAK = 0.003  # of the beam through the blades
_DARK = 1e-4  # what a receiver takes for no signal


@dataclass(frozen=True)
class RandomisationConfig:
    """Probabilities of the steps, and the largest sizes where they are not fixed by the source.

    Attributes:
        surroundings: other bones and soft tissue, which a CT of one bone does not show; see
            `surroundings`.
        metal: rods, screws, wires (attenuation per mm drawn between 0.1 and 0.5).
        scatter: of ``largest_scatter`` to primary at most.
        noise: relative standard deviation behind the mean path, at most ``largest_noise``.
        blur: 3x3 or 5x5 mean.
        collimation: blades; ``circle``: a round intensifier instead.
        unmasked: a field edge that the receiver has not found.
        response: another quantity than attenuation is shown: 1 - exp(-a L).
        window, scale, gamma, wave, erase: of the picture in [0, 1].
        clipped: what the window clips is not usable, as a receiver masks saturated pixels.
        invert: the polarity is wrong.
    """

    surroundings: float = 0.0
    metal: float = 0.5
    scatter: float = 0.6
    noise: float = 0.7
    blur: float = 0.4
    collimation: float = 0.6
    circle: float = 0.1
    unmasked: float = 0.35
    response: float = 0.3
    window: float = 0.5
    scale: float = 0.5
    gamma: float = 0.5
    wave: float = 0.3
    erase: float = 0.3
    clipped: float = 0.3
    invert: float = 0.0
    largest_scatter: float = 1.2
    largest_noise: float = 0.06
    largest_erased: float = 0.25

    def milder(self, factor: float) -> RandomisationConfig:
        """All probabilities times ``factor``: what a training begins with."""
        changes = {
            field.name: factor * getattr(self, field.name)
            for field in fields(self)
            if not field.name.startswith("largest")
        }
        return replace(self, **changes)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = 10.0 if field.name.startswith("largest") else 1.0
            if not 0 <= value <= most:
                raise InputError(f"{field.name} is {value}; expected 0 to {most:g}.")


class Draws:
    """Per-image random numbers (B, 1, 1) from one generator."""

    def __init__(
        self, count: int, seed: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> None:
        """``count`` images; the same seed draws other numbers on another kind of device."""
        self.count = count
        self.device = torch.device(device)
        # torch seeds with one integer; a hash of several keeps streams apart
        mixed = 0x9E3779B97F4A7C15
        for number in seed:
            mixed = ((mixed ^ (number + 1)) * 0xBF58476D1CE4E5B9) % 2**64
            mixed ^= mixed >> 31
        self.generator = torch.Generator(self.device).manual_seed(mixed % 2**63)

    def uniform(self, low: float, high: float, *extra: int) -> Tensor:
        """Even draws (B, 1, 1), or (B, *extra)."""
        shape = (self.count, *(extra or (1, 1)))
        return low + (high - low) * self._even(*shape)

    def some(self, probability: float) -> Tensor:
        """(B, 1, 1) bool."""
        return self._even(self.count, 1, 1) < probability

    def normal(self, *shape: int) -> Tensor:
        """Standard normal (B, *shape)."""
        return torch.randn(self.count, *shape, generator=self.generator, device=self.device)

    def smooth(self, size: tuple[int, int], nodes: int) -> Tensor:
        """A smooth random field (B, H, W) of about -1 to 1."""
        coarse = self.uniform(-1.0, 1.0, 1, nodes, nodes)
        return F.interpolate(coarse, size=size, mode="bilinear", align_corners=True)[:, 0]

    def _even(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device)


def randomised(
    line_integrals: Tensor,
    config: RandomisationConfig,
    seed: tuple[int, ...],
    metal_scale_px: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Pictures (B, H, W) in about [0, 1], bone bright, and usable pixels (B, H, W) bool.

    Args:
        line_integrals: (B, H, W) of mu ds; the pictures are made on its device.
        config: what is done.
        seed: of this batch.
        metal_scale_px: pixels per mm at the patient, for the size of metal things and limbs.
    """
    count, height, width = line_integrals.shape
    x = line_integrals
    draws = Draws(count, seed, x.device)
    if config.surroundings:
        beside = with_surroundings(x, draws, metal_scale_px)
        x = torch.where(draws.some(config.surroundings), beside, x)
    if config.metal:
        path = metal_path_mm(draws, (height, width), metal_scale_px)
        x = x + torch.where(draws.some(config.metal), draws.uniform(0.1, 0.5), 0.0) * path
    usable, opened = field_of_view(draws, (height, width), config.collimation, config.circle)
    x = _scattered(x, opened, draws, config)
    x = _noisy(x, draws, config)
    x = _blurred(x, draws, config)
    x = torch.where(
        draws.some(config.response), -torch.expm1(-draws.uniform(0.2, 0.6) * x.clamp_min(0.0)), x
    )
    x = _displayed(x, opened, draws, config)
    usable &= ~(draws.some(config.clipped) & ((x <= 0.0) | (x >= 1.0)))
    # blades that the receiver has not found: their shadow is part of the picture
    missed = draws.some(config.unmasked)
    return x, usable | missed


def _scattered(x: Tensor, opened: Tensor, draws: Draws, config: RandomisationConfig) -> Tensor:
    """-log of the primary, where the blades let it pass, plus a smooth part of it everywhere."""
    primary = torch.exp(-x) * torch.where(opened, 1.0, _LEAK)
    coarse = F.avg_pool2d(primary[:, None], 16)
    coarse = F.avg_pool2d(coarse, 3, 1, 1, count_include_pad=False)
    smooth = F.interpolate(coarse, size=x.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    field = 1.0 + 0.5 * draws.smooth((x.shape[1], x.shape[2]), 3)
    ratio = torch.where(draws.some(config.scatter), draws.uniform(0.05, config.largest_scatter), 0)
    return -torch.log((primary + ratio * field * smooth).clamp_min(_DARK))


def _noisy(x: Tensor, draws: Draws, config: RandomisationConfig) -> Tensor:
    """Quantum noise: its relative size grows as the root of what was absorbed."""
    mean = x.mean((1, 2), keepdim=True)
    size = torch.exp(draws.uniform(-3.5, 0.0)) * config.largest_noise
    size = torch.where(draws.some(config.noise), size, 0.0)
    grown = torch.exp(0.5 * (x - mean).clamp(-6.0, 4.0))
    return x + size * grown * draws.normal(x.shape[1], x.shape[2])


def _blurred(x: Tensor, draws: Draws, config: RandomisationConfig) -> Tensor:
    three = F.avg_pool2d(x[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    five = F.avg_pool2d(three[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    wide = draws.some(0.3)
    # the other way round as well: detectors and displays sharpen
    amount = draws.uniform(-0.7, 1.0)
    amount = torch.where(draws.some(config.blur), amount, 0.0)
    return x + amount * (torch.where(wide, five, three) - x)


def _displayed(x: Tensor, opened: Tensor, draws: Draws, config: RandomisationConfig) -> Tensor:
    """Scaled to [0, 1] in the open field, then window, scale, gamma, wave, erasing, polarity."""
    big = torch.where(opened, x, -torch.inf).amax((1, 2), keepdim=True)
    small = torch.where(opened, x, torch.inf).amin((1, 2), keepdim=True)
    x = (x - small) / (big - small).clamp_min(1e-6)
    low, high = draws.uniform(-0.04, 0.10), draws.uniform(0.8, 1.05)
    x = torch.where(draws.some(config.window), (x - low) / (high - low), x)
    x = torch.where(draws.some(config.scale), draws.uniform(0.9, 1.05) * x, x).clamp(0.0, 1.0)
    x = torch.where(draws.some(config.gamma), x ** draws.uniform(0.6, 1.6), x)
    a, b, c = draws.uniform(0.8, 1.1), draws.uniform(0.8, 1.1), draws.uniform(-0.4, 0.5)
    x = torch.where(draws.some(config.wave), a * torch.sin(b * x + c), x)
    x = _erased(x, draws, config)
    return torch.where(draws.some(config.invert), 1.0 - x, x)


def _erased(x: Tensor, draws: Draws, config: RandomisationConfig) -> Tensor:
    _, height, width = x.shape
    area, aspect = draws.uniform(0.02, config.largest_erased), draws.uniform(0.3, 1.0)
    tall, broad = (area * aspect).sqrt() * height, (area / aspect).sqrt() * width
    v = torch.arange(height, device=x.device)[None, :, None] - draws.uniform(0, height)
    u = torch.arange(width, device=x.device)[None, None, :] - draws.uniform(0, width)
    inside = (v.abs() < tall / 2) & (u.abs() < broad / 2)
    mean = x.mean((1, 2), keepdim=True)
    return torch.where(draws.some(config.erase) & inside, mean, x)
