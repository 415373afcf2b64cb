"""Surroundings: other bones and a limb are added; the bone itself stays where it is."""

from __future__ import annotations

import torch

from xray_registration.learning.randomisation import Draws
from xray_registration.learning.surroundings import _moved, with_surroundings


def _bones(count: int = 6, size: int = 96) -> torch.Tensor:
    lines = torch.zeros(count, size, size)
    for n in range(count):
        lines[n, 20 + n : 70 + n, 40:50] = 1.0 + 0.1 * n
    return lines


def test_only_something_is_added_and_the_seed_fixes_it() -> None:
    bones = _bones()
    result = with_surroundings(bones, Draws(6, (3, 1)), 0.6)
    assert result.shape == bones.shape
    assert result.isfinite().all()
    assert (result >= bones - 1e-6).all()
    assert torch.equal(result, with_surroundings(bones, Draws(6, (3, 1)), 0.6))
    assert not torch.equal(result, with_surroundings(bones, Draws(6, (3, 2)), 0.6))


def test_other_bones_lie_beside_it_and_tissue_is_as_thick_as_a_limb() -> None:
    bones = _bones()
    added = with_surroundings(bones, Draws(6, (8, 1)), 0.6) - bones
    tissue_alone = with_surroundings(torch.zeros_like(bones), Draws(6, (8, 1)), 0.6)
    # the same numbers are drawn whatever the bones are: the difference is the other bones
    others = added - tissue_alone
    assert (others.amax((1, 2)) > 0.4).float().mean() > 0.8
    # at most 110 mm of tissue at 0.024 / mm, a fifth denser in places
    assert 0.1 < float(tissue_alone.amax()) < 110 * 0.024 * 1.2
    assert (tissue_alone.amin((1, 2)) == 0).any()


def test_the_other_bones_are_mirrored() -> None:
    # an L, which no turn makes its mirror image
    lines = torch.zeros(40, 64, 64)
    lines[:, 26:40, 30:33] = 1.0
    lines[:, 37:40, 30:38] = 1.0
    moved = _moved(lines, Draws(40, (2, 5)))
    border = torch.stack((moved[:, 0], moved[:, -1], moved[:, :, 0], moved[:, :, -1])).amax((0, 2))
    whole = moved[(border == 0) & (moved.amax((1, 2)) > 0)]
    assert len(whole) >= 10
    assert all(_handedness(one) * _handedness(lines[0]) < 0 for one in whole)


def _handedness(image: torch.Tensor) -> float:
    """Sign changes with mirroring and with nothing else: the cross product of two directions that
    turn with the picture, its third-moment vector and its long axis pointing along that vector.
    """
    v, u = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64) for n in image.shape), indexing="ij"
    )
    weight = (image > 0.5 * image.max()).to(torch.float64)
    x, y = u - (u * weight).sum() / weight.sum(), v - (v * weight).sum() / weight.sum()
    third = torch.stack(((weight * x * (x**2 + y**2)).sum(), (weight * y * (x**2 + y**2)).sum()))
    moments = [(weight * a * b).sum() for a, b in ((x, x), (x, y), (y, y))]
    matrix = torch.stack((moments[0], moments[1], moments[1], moments[2])).view(2, 2)
    axis = torch.linalg.eigh(matrix).eigenvectors[:, 1]
    axis = axis * torch.sign(axis @ third)
    return float(axis[0] * third[1] - axis[1] * third[0])
