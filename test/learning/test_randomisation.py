"""Domain randomisation: seeded, every step does something, every image by itself."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.learning.randomisation import RandomisationConfig, randomised

STEPS = [f.name for f in fields(RandomisationConfig) if not f.name.startswith("largest")]
NOTHING = replace(RandomisationConfig(), **dict.fromkeys(STEPS, 0.0))


def _lines(count: int = 4, size: int = 64) -> Tensor:
    v, u = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    waves = [2 + u + torch.sin((3 + n) * v * u) + 0.5 * torch.cos(9 * v) for n in range(count)]
    return torch.stack(waves).clamp_min(0)


def test_the_seed_fixes_the_batch_and_nothing_else_matters() -> None:
    config = RandomisationConfig()
    torch.manual_seed(1)
    first = randomised(_lines(), config, (5, 0, 7), 0.4)
    torch.manual_seed(2)
    again = randomised(_lines(), config, (5, 0, 7), 0.4)
    other = randomised(_lines(), config, (5, 0, 8), 0.4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert first[0].isfinite().all()
    assert first[1].dtype == torch.bool
    assert (first[1].float().mean((1, 2)) > 0.05).all()


def test_without_any_step_only_the_scale_changes() -> None:
    lines = _lines()
    image, usable = randomised(lines, NOTHING, (0,), 0.4)
    assert usable.all()
    low, high = lines.amin((1, 2), keepdim=True), lines.amax((1, 2), keepdim=True)
    torch.testing.assert_close(image, (lines - low) / (high - low))


@pytest.mark.parametrize("step", STEPS)
def test_every_step_changes_something_and_stays_finite(step: str) -> None:
    also = {"unmasked": {"collimation": 1.0}, "clipped": {"window": 1.0}}.get(step, {})
    without = randomised(_lines(), replace(NOTHING, **also), (3,), 0.4)
    image, usable = randomised(_lines(), replace(NOTHING, **{step: 1.0}, **also), (3,), 0.4)
    assert image.isfinite().all()
    changed = ~torch.isclose(image, without[0], atol=1e-4) | (usable != without[1])
    assert (changed.float().mean((1, 2)) > 0).sum() >= 2


def test_images_of_a_batch_are_drawn_apart() -> None:
    same = _lines(1).expand(6, -1, -1)
    image, _ = randomised(same, RandomisationConfig(), (11,), 0.4)
    pairs = [(a, b) for a in range(6) for b in range(a)]
    assert all(not torch.allclose(image[a], image[b]) for a, b in pairs)


def test_mild_beginnings() -> None:
    mild = RandomisationConfig().milder(0.2)
    assert mild.metal == pytest.approx(0.2 * RandomisationConfig().metal)
    assert mild.largest_noise == RandomisationConfig().largest_noise


def test_bad_values() -> None:
    with pytest.raises(InputError, match=r"metal is 1\.5"):
        RandomisationConfig(metal=1.5)
    with pytest.raises(InputError, match="gamma is nan"):
        RandomisationConfig(gamma=float("nan"))
