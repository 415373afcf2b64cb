"""Noise read from a picture: its size, where it is, and what is no noise."""

from __future__ import annotations

import pytest
import torch

from xray_registration.similarity.filters import blurred
from xray_registration.similarity.noise import noise_variance

SIZE = 96
EVERYWHERE = torch.ones(SIZE, SIZE, dtype=torch.bool)


def _white(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SIZE, SIZE, dtype=torch.float64, generator=generator)


def test_variance_is_found_where_it_is() -> None:
    sigma = torch.full((SIZE, SIZE), 0.1, dtype=torch.float64)
    sigma[SIZE // 2 :] = 0.4
    smooth = 5 * blurred(_white(0)[None], 4.0)[0]
    variance = noise_variance(smooth + sigma * _white(1), EVERYWHERE, 8.0)
    assert variance.shape == (SIZE, SIZE)
    assert float(variance[4:28].mean()) == pytest.approx(0.01, rel=0.2)
    assert float(variance[-28:-4].mean()) == pytest.approx(0.16, rel=0.2)


def test_ramps_and_straight_edges_are_no_noise() -> None:
    ramp = torch.arange(SIZE, dtype=torch.float64).expand(SIZE, SIZE)
    step = (ramp > SIZE // 2).double()
    inside = (slice(2, -2), slice(2, -2))
    assert float(noise_variance(3 * ramp + ramp.T, EVERYWHERE, 4.0)[inside].max()) < 1e-3
    assert float(noise_variance(step, EVERYWHERE, 4.0)[inside].max()) < 1e-3


def test_masked_pixels_do_not_count() -> None:
    mask = EVERYWHERE.clone()
    mask[:, :30] = False
    picture = 0.1 * _white(2)
    spoiled = torch.where(mask, picture, 50 * picture)
    expected = noise_variance(picture, mask, 6.0)
    torch.testing.assert_close(noise_variance(spoiled, mask, 6.0), expected)
    assert bool(torch.isfinite(noise_variance(spoiled, ~EVERYWHERE, 6.0)).all())
