"""Scatter in the moving picture: what it does to line integrals and to their derivative."""

from __future__ import annotations

import math

import pytest
import torch

from xray_registration.registration.scatter import with_scatter, with_scatter_and_jacobian


def test_even_picture_by_hand() -> None:
    detected = with_scatter(torch.full((1, 4, 5), 2.0, dtype=torch.float64), 0.3)
    # e^-2 (1 + 0.3 * 2)
    assert detected.numpy() == pytest.approx(2.0 - math.log(1.6))


def test_dense_parts_lose_contrast() -> None:
    lines = torch.tensor([[[1.0, 1.1, 5.0, 5.1]]], dtype=torch.float64)
    thin, dense = with_scatter(lines, 0.2)[0, 0].diff()[[0, 2]].tolist()
    assert thin == pytest.approx(0.1, rel=0.2)
    assert dense < 0.03


def test_without_scatter_nothing_changes() -> None:
    lines, changes = torch.rand(2, 3, 4), torch.rand(2, 6, 3, 4)
    assert with_scatter(lines, 0.0) is lines
    same, jacobian = with_scatter_and_jacobian(lines, changes, 0.0)
    assert same is lines
    assert jacobian is changes


def test_derivative_is_that_of_the_picture() -> None:
    generator = torch.Generator().manual_seed(1)
    lines = 3 * torch.rand(2, 5, 6, generator=generator, dtype=torch.float64)
    changes = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    detected, jacobian = with_scatter_and_jacobian(lines, changes, 0.25)
    assert torch.equal(detected, with_scatter(lines, 0.25))
    h = 1e-6
    for q in range(3):
        ahead, behind = (with_scatter(lines + s * h * changes[:, q], 0.25) for s in (1, -1))
        difference = (ahead - behind) / (2 * h)
        assert jacobian[:, q].numpy() == pytest.approx(difference.numpy(), abs=1e-8)
