"""What hardening and scatter make of line integrals and of their derivative."""

from __future__ import annotations

import math

import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.registration.detected import (
    IDEAL_BEAM,
    BeamConfig,
    detected,
    detected_with_jacobian,
)


def test_scatter_of_an_even_picture_by_hand() -> None:
    even = torch.full((1, 4, 5), 2.0, dtype=torch.float64)
    # e^-2 (1 + 0.3 * 2)
    assert detected(even, BeamConfig(0.0, 0.3)).numpy() == pytest.approx(2.0 - math.log(1.6))


def test_hardening_by_hand() -> None:
    lines = torch.tensor([[[0.0, 2.0]]], dtype=torch.float64)
    arrives = 0.3 * math.exp(-3.0) + 0.4 * math.exp(-2.0) + 0.3 * math.exp(-1.5)
    found = detected(lines, BeamConfig(0.5, 0.0))
    assert found.numpy() == pytest.approx(torch.tensor([[[0.0, -math.log(arrives)]]]).numpy())


@pytest.mark.parametrize("beam", [BeamConfig(0.6, 0.0), BeamConfig(0.0, 0.2)])
def test_dense_parts_lose_contrast(beam: BeamConfig) -> None:
    lines = torch.tensor([[[1.0, 1.1, 5.0, 5.1]]], dtype=torch.float64)
    thin, dense = detected(lines, beam)[0, 0].diff()[[0, 2]].tolist()
    assert thin == pytest.approx(0.1, rel=0.2)
    assert dense < 0.8 * thin


def test_an_ideal_beam_changes_nothing() -> None:
    lines, changes = torch.rand(2, 3, 4), torch.rand(2, 6, 3, 4)
    assert detected(lines, IDEAL_BEAM) is lines
    same, jacobian = detected_with_jacobian(lines, changes, IDEAL_BEAM)
    assert same is lines
    assert jacobian is changes


def test_derivative_is_that_of_the_picture() -> None:
    generator, beam = torch.Generator().manual_seed(1), BeamConfig(0.7, 0.25)
    lines = 3 * torch.rand(2, 5, 6, generator=generator, dtype=torch.float64)
    changes = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    shown, jacobian = detected_with_jacobian(lines, changes, beam)
    assert shown.numpy() == pytest.approx(detected(lines, beam).numpy(), abs=1e-14)
    h = 1e-6
    for q in range(3):
        ahead, behind = (detected(lines + s * h * changes[:, q], beam) for s in (1, -1))
        difference = (ahead - behind) / (2 * h)
        assert jacobian[:, q].numpy() == pytest.approx(difference.numpy(), abs=1e-8)


@pytest.mark.parametrize("values", [(-0.1, 0.0), (2.0, 0.0), (0.0, -1.0), (0.0, float("nan"))])
def test_no_such_beam(values: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="expected 0 or more"):
        BeamConfig(*values)
