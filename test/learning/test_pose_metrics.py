"""Pose distances: identity, symmetry, invariance, exactness, finite gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.learning.losses import pose_distance
from xray_registration.learning.pose_metrics import (
    se3_geodesic,
    so4_chordal,
    so4_from_pose,
    so4_geodesic,
)

CENTRE = torch.tensor([12.0, -30.0, 55.0], dtype=torch.float64)
F_MM = 1020.0
METRICS = ("se3", "so4", "so4_chordal")


def _poses(count: int, spread: float = 1.0) -> Tensor:
    xi = torch.randn(count, 6, dtype=torch.float64) * torch.tensor([40.0] * 3 + [0.4] * 3) * spread
    base = torch.eye(4, dtype=torch.float64)
    base[2, 3] = 700.0
    return se3.left_increment(base.expand(count, 4, 4), xi, CENTRE)


def _rotations4(count: int) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(count, 4, 4, dtype=torch.float64))
    q[..., 0] *= torch.linalg.det(q)[:, None]
    return q


def _place(poses: Tensor) -> Tensor:
    return (poses[:, :3, :3] @ CENTRE[:, None])[..., 0] + poses[:, :3, 3]


@pytest.mark.parametrize("metric", METRICS)
def test_identity_symmetry_and_sign(metric: str) -> None:
    a, b = _poses(20), _poses(20)
    forth = pose_distance(a, b, CENTRE, metric)
    assert (forth > 0).all()
    torch.testing.assert_close(pose_distance(a, a, CENTRE, metric), torch.zeros(20).double())
    # on SO(4) the point of reference follows the second pose: symmetric to the order of e |t|
    tolerance = 1e-9 if metric == "se3" else 0.05
    torch.testing.assert_close(forth, pose_distance(b, a, CENTRE, metric), rtol=tolerance, atol=0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-4, 1.0])
def test_gradient_is_finite_also_where_the_poses_agree(metric: str, spread: float) -> None:
    b = _poses(6)
    xi = (torch.randn(6, 6, dtype=torch.float64) * spread).requires_grad_()
    a = se3.left_increment(b, xi, CENTRE)
    distance = pose_distance(a, b, CENTRE, metric)
    (gradient,) = torch.autograd.grad(distance.sum(), xi, create_graph=True)
    assert gradient.isfinite().all()
    (second,) = torch.autograd.grad(gradient.square().sum(), xi)
    assert second.isfinite().all()
    if spread == 1e-4:
        assert (gradient.norm(dim=1) > 0.1).all()


def test_se3_weighs_a_rotation_by_its_scale_and_ignores_a_common_motion() -> None:
    a = _poses(8)
    xi = torch.zeros(8, 6, dtype=torch.float64)
    xi[:, 4] = 0.1
    b = se3.left_increment(a, xi, CENTRE)
    torch.testing.assert_close(se3_geodesic(a, b, CENTRE, 80.0), torch.full((8,), 8.0).double())
    xi[:, 0] = 6.0
    xi[:, 4] = 0.0
    b = se3.left_increment(a, xi, CENTRE)
    torch.testing.assert_close(se3_geodesic(a, b, CENTRE), torch.full((8,), 6.0).double())
    # the camera's axes turned about the isocentre: left-invariance
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = se3.so3_exp(torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64))
    torch.testing.assert_close(se3_geodesic(turn @ a, turn @ b, CENTRE), se3_geodesic(a, b, CENTRE))


def test_so4_distances_are_bi_invariant() -> None:
    a, b, left, right = (_rotations4(50) for _ in range(4))
    for distance in (so4_geodesic, so4_chordal):
        value = distance(a, b)
        torch.testing.assert_close(distance(b, a), value)
        torch.testing.assert_close(distance(left @ a @ right, left @ b @ right), value)
        torch.testing.assert_close(distance(a, a), torch.zeros(50).double(), atol=1e-7, rtol=0)


def test_so4_geodesic_is_the_norm_of_the_logarithm() -> None:
    a, b = _rotations4(100), _rotations4(100)
    angles = torch.linalg.eigvals(a.mT @ b).angle()
    torch.testing.assert_close(so4_geodesic(a, b), (angles**2).sum(-1).sqrt() / math.sqrt(2))
    skew = torch.randn(100, 4, 4, dtype=torch.float64) * 0.3
    skew = skew - skew.mT
    step = torch.linalg.matrix_exp(skew)
    torch.testing.assert_close(so4_geodesic(a, a @ step), skew.flatten(1).norm(dim=1) / 2**0.5)


def test_the_polar_factor_is_that_of_the_singular_values() -> None:
    poses = _poses(30)
    reference = torch.tensor([0.0, 0.0, 700.0], dtype=torch.float64)
    for e in (0.5 / F_MM, 2.0 / F_MM):
        plain = so4_from_pose(poses, CENTRE, e, reference, exact=False)
        u, _, vt = torch.linalg.svd(plain)
        exact = so4_from_pose(poses, CENTRE, e, reference)
        torch.testing.assert_close(exact, u @ vt, atol=1e-12, rtol=0)
        eye = torch.eye(4, dtype=torch.float64).expand(30, 4, 4)
        torch.testing.assert_close(exact @ exact.mT, eye)
        # M is orthogonal up to e^2 t^2, with e in both of its blocks
        off = (plain.mT @ plain - eye).flatten(1).norm(dim=1)
        t_sq = (_place(poses) - reference).square().sum(1)
        assert (off <= 1.5 * e**2 * t_sq).all()


def test_one_degree_weighs_what_the_scale_says() -> None:
    """E = 1 / (2 f): 35.6 mm; e = 2 / f: 8.9 mm (f = 1020 mm)."""
    base = torch.eye(4, dtype=torch.float64)[None]
    turned, moved = base.clone(), base.clone()
    turned[0, :3, :3] = se3.so3_exp(torch.tensor([0, math.radians(1.0), 0], dtype=torch.float64))
    moved[0, 0, 3] = 0.01
    zero = torch.zeros(3, dtype=torch.float64)
    for e, expected_mm in ((0.5 / F_MM, 35.6), (2.0 / F_MM, 8.9)):
        base4, turned4, moved4 = (so4_from_pose(p, zero, e, zero) for p in (base, turned, moved))
        per_mm = float(so4_geodesic(base4, moved4)) / 0.01
        assert float(so4_geodesic(base4, turned4)) / per_mm == pytest.approx(expected_mm, abs=0.05)


def test_on_poses_so4_is_invariant_to_rotations_exactly_and_to_translations_nearly() -> None:
    a, b = _poses(20, 0.5), _poses(20, 0.5)
    reference = torch.tensor([0.0, 0.0, 700.0], dtype=torch.float64)
    e = 2.0 / F_MM

    def distance(a: Tensor, b: Tensor, reference: Tensor) -> Tensor:
        return so4_geodesic(*(so4_from_pose(p, CENTRE, e, reference) for p in (a, b)))

    plain = distance(a, b, reference)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = se3.so3_exp(torch.tensor([0.5, 0.1, -0.3], dtype=torch.float64))
    turned = distance(turn @ a, turn @ b, turn[:3, :3] @ reference)
    torch.testing.assert_close(turned, plain)
    shift = torch.eye(4, dtype=torch.float64)
    shift[0, 3] = 30.0
    shifted = distance(shift @ a, shift @ b, reference)
    assert (shifted / plain - 1).abs().max() > 1e-6
    torch.testing.assert_close(shifted, plain, rtol=0.1, atol=0)


def test_bad_values() -> None:
    with pytest.raises(InputError, match="scale_per_mm"):
        so4_from_pose(_poses(1), CENTRE, 0.0)
    with pytest.raises(InputError, match="metric"):
        pose_distance(_poses(1), _poses(1), CENTRE, "cosine")  # type: ignore[arg-type]
