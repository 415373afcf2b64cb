"""Start poses of a stated distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import check_rigid, se3
from xray_registration.registration.perturbation import perturbed_pose

POSE = se3.se3_exp(torch.tensor([10.0, -20.0, 700.0, 0.3, -1.1, 0.2]).double()).numpy()
CENTRE = np.array([40.0, -70.0, 300.0])


def _distance(pose: np.ndarray) -> tuple[float, float]:
    """How far the isocentre has moved (mm) and the anatomy turned (degrees)."""
    shift = (pose - POSE) @ [*CENTRE, 1.0]
    turn = pose[:3, :3] @ POSE[:3, :3].T
    return float(np.linalg.norm(shift)), math.degrees(math.acos((np.trace(turn) - 1) / 2))


@pytest.mark.parametrize(("mm", "deg"), [(15.0, 8.0), (0.0, 20.0), (3.0, 1.0)])
@pytest.mark.parametrize("seed", range(5))
def test_exactly_so_far(mm: float, deg: float, seed: int) -> None:
    moved = perturbed_pose(POSE, CENTRE, mm, deg, seed)
    check_rigid(moved, "moved", tolerance=1e-9)
    assert _distance(moved) == pytest.approx((mm, deg), abs=1e-6)
    np.testing.assert_array_equal(moved, perturbed_pose(POSE, CENTRE, mm, deg, seed))


def test_directions_differ_from_seed_to_seed_and_favour_none() -> None:
    shifts = np.stack(
        [(perturbed_pose(POSE, CENTRE, 1.0, 0.0, seed) - POSE)[:3, 3] for seed in range(400)]
    )
    np.testing.assert_allclose(np.linalg.norm(shifts, axis=1), 1.0)
    assert np.linalg.norm(shifts.mean(axis=0)) < 0.12
    np.testing.assert_allclose(np.cov(shifts.T), np.eye(3) / 3, atol=0.06)


@pytest.mark.parametrize(("mm", "deg"), [(-1.0, 0.0), (0.0, math.nan), (math.inf, 0.0)])
def test_impossible_amounts(mm: float, deg: float) -> None:
    with pytest.raises(InputError, match="expected 0 or more"):
        perturbed_pose(POSE, CENTRE, mm, deg, 0)
