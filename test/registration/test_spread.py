"""Starts about a start, and which of many poses are worth more."""

from __future__ import annotations

import numpy as np
import torch

from xray_registration.geometry import se3
from xray_registration.registration.config import SpreadConfig
from xray_registration.registration.spread import distinct, spread_starts

CENTRE = torch.tensor([10.0, -20.0, 30.0], dtype=torch.float64)


def poses_at(*x_mm: float) -> torch.Tensor:
    poses = torch.eye(4, dtype=torch.float64).repeat(len(x_mm), 1, 1)
    poses[:, 0, 3] = torch.tensor(x_mm, dtype=torch.float64)
    return poses


def test_candidates_are_shared_among_the_starts_and_spread_as_configured() -> None:
    config = SpreadConfig(candidates=512, translation_mm=12.0, rotation_deg=5.0)
    starts = poses_at(0.0, 100.0)
    given, poses = spread_starts(starts, CENTRE, config)
    assert len(given) == len(poses) == 512
    assert torch.equal(given[:256], starts[:1].expand(256, 4, 4))
    xi = se3.perturbation_between(given, poses, CENTRE).numpy()
    assert np.allclose(xi[:, :3].std(axis=0), 12.0, rtol=0.1)
    assert np.allclose(np.rad2deg(xi[:, 3:].std(axis=0)), 5.0, rtol=0.1)
    again = spread_starts(starts, CENTRE, config)[1]
    assert torch.equal(poses, again)


def test_more_starts_than_candidates_still_give_one_each() -> None:
    given, _ = spread_starts(poses_at(0.0, 1.0, 2.0), CENTRE, SpreadConfig(candidates=2))
    assert len(given) == 3


def test_of_near_ones_only_the_best() -> None:
    poses = poses_at(0.0, 3.0, 50.0, 52.0, 200.0)
    rank = torch.tensor([0.5, 0.6, 0.9, 0.8, 0.1])
    assert distinct(poses, rank, 3, 10.0, CENTRE, 100.0).tolist() == [2, 1, 4]
    assert distinct(poses, rank, 1, 10.0, CENTRE, 100.0).tolist() == [2]
    assert distinct(poses, rank, 9, 0.0, CENTRE, 100.0).tolist() == [2, 3, 1, 0, 4]


def test_a_turn_counts_as_a_length() -> None:
    turned = se3.left_increment(
        poses_at(0.0), torch.tensor([[0, 0, 0, 0, 0, 0.2]], dtype=torch.float64), CENTRE
    )
    both, rank = torch.cat((poses_at(0.0), turned)), torch.tensor([1.0, 0.5])
    assert distinct(both, rank, 2, 15.0, CENTRE, 100.0).tolist() == [0, 1]
    assert distinct(both, rank, 2, 15.0, CENTRE, 50.0).tolist() == [0]
