"""Rigid motions in torch: exponential, logarithm, increments about a point.

Every function takes any batch dimensions, float32 or float64, on any device, and has finite values
and finite gradients at the identity, at tiny angles and at a half turn.

6-vectors are ``xi = (v, w)``: translation in mm FIRST, then the rotation vector in rad (the order
of a ROS covariance: x, y, z, rotX, rotY, rotZ). 4x4 matrices are named ``target_from_source``.

Formulas: the closed forms of SO(3)/SE(3) (Rodrigues; e.g. Barfoot, *State Estimation for Robotics*,
ch. 7). The quotients such as sin(t)/t are even functions of the angle, so they are power series in
t^2: near zero the series is used, and no square root of zero ever meets the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry.checks import check_rigid as check_rigid

# The nine elements of `hat` of each unit vector.
_HAT = (
    (0, 0, 0, 0, 0, -1, 0, 1, 0),
    (0, 0, 1, 0, 0, 0, -1, 0, 0),
    (0, -1, 0, 1, 0, 0, 0, 0, 0),
)
# Coefficients of the power series in t^2, enough for float64 where the series is used (t < 1).
# sin(t)/t, (1 - cos t)/t^2, (t - sin t)/t^3
_EXP = tuple(tuple((-1) ** n / factorial(2 * n + first) for first in (1, 2, 3)) for n in range(9))
# (1 - t/2 cot(t/2)) / t^2 = sum |B_2n| t^(2n-2) / (2n)!  with the Bernoulli numbers B_2n; t < 0.5.
_BERNOULLI = (1 / 6, 1 / 30, 1 / 42, 1 / 30, 5 / 66, 691 / 2730, 7 / 6, 3617 / 510)
_HALF_COT = tuple(b / factorial(2 * n) for n, b in enumerate(_BERNOULLI, start=1))
# atan(x) / x in x^2; x < 0.1.
_ATAN = tuple((-1) ** n / (2 * n + 1) for n in range(9))


def hat(w: Tensor) -> Tensor:
    """The matrix (..., 3, 3) of a cross product: ``hat(w) @ p == cross(w, p)``, w (..., 3)."""
    _require_shape(w, (3,), "hat(w)")
    # no matrix product: autocast and TF32 would round it
    return (w[..., None] * w.new_tensor(_HAT)).sum(-2).unflatten(-1, (3, 3))


def so3_exp(w: Tensor) -> Tensor:
    """Rotation matrix (..., 3, 3) of the rotation vector ``w`` (..., 3) in rad."""
    _require_shape(w, (3,), "so3_exp(w)")
    sinc, one_minus_cos, _ = _exp_coefficients(w)
    skew = hat(w)
    return _eye(3, w) + sinc * skew + one_minus_cos * (skew @ skew)


def so3_log(rotation: Tensor) -> Tensor:
    """Rotation vector (..., 3) in rad, of length <= pi, of the matrix ``rotation`` (..., 3, 3).

    At a half turn the axis has two signs; one of them is returned. The gradient is finite there too
    (that of the chosen sign), because the way goes through the unit quaternion.
    """
    _require_shape(rotation, (3, 3), "so3_log(rotation)")
    quaternion = _quaternion_wxyz(rotation)
    cosine, vector = quaternion[..., :1], quaternion[..., 1:]
    sine_sq = (vector * vector).sum(-1, keepdim=True)
    # rotation vector = 2 atan2(|vector|, cosine) / |vector| * vector, series where the sine is
    # small
    small = sine_sq < 0.01 * cosine * cosine
    safe_cosine = torch.where(small, cosine, torch.ones_like(cosine))
    series = _series(_ATAN, torch.where(small, sine_sq, 0.0) / safe_cosine**2) / safe_cosine
    sine = torch.where(small, torch.ones_like(sine_sq), sine_sq).sqrt()
    direct = torch.atan2(sine, cosine) / sine
    return 2.0 * torch.where(small, series, direct) * vector


def se3_exp(xi: Tensor) -> Tensor:
    """Rigid 4x4 matrix (..., 4, 4) of ``xi = (v mm, w rad)`` (..., 6): the exponential of SE(3).

    The translation is ``V(w) v`` with V the left Jacobian of SO(3): the path of constant twist.
    """
    _require_shape(xi, (6,), "se3_exp(xi)")
    v, w = xi[..., :3], xi[..., 3:]
    sinc, one_minus_cos, t_minus_sin = _exp_coefficients(w)
    skew = hat(w)
    skew_sq = skew @ skew
    eye = _eye(3, w)
    rotation = eye + sinc * skew + one_minus_cos * skew_sq
    left_jacobian = eye + one_minus_cos * skew + t_minus_sin * skew_sq
    return _assemble(rotation, (left_jacobian @ v[..., None])[..., 0])


def se3_log(target_from_source: Tensor) -> Tensor:
    """``xi = (v mm, w rad)`` (..., 6) with ``se3_exp(xi) == target_from_source``, ``|w| <= pi``."""
    _require_shape(target_from_source, (4, 4), "se3_log(target_from_source)")
    w = so3_log(target_from_source[..., :3, :3])
    return torch.cat((_translation_log(w, target_from_source[..., :3, 3]), w), -1)


def inverse(target_from_source: Tensor) -> Tensor:
    """``source_from_target`` (..., 4, 4) of a rigid matrix, by transposition."""
    _require_shape(target_from_source, (4, 4), "inverse(target_from_source)")
    rotation = target_from_source[..., :3, :3].transpose(-1, -2)
    translation = -(rotation @ target_from_source[..., :3, 3:])[..., 0]
    return _assemble(rotation, translation)


def transform_points(target_from_source: Tensor, points_source: Tensor) -> Tensor:
    """Points (..., N, 3) of the source frame in the target frame (..., N, 3); batches broadcast."""
    _require_shape(target_from_source, (4, 4), "transform_points(target_from_source)")
    _require_shape(points_source, (3,), "transform_points(points_source)")
    if points_source.ndim < 2:
        raise InputError(
            f"transform_points: points_source has shape {tuple(points_source.shape)}; "
            "expected (..., N, 3), one point is (1, 3)"
        )
    rotation = target_from_source[..., :3, :3]
    return points_source @ rotation.transpose(-1, -2) + target_from_source[..., None, :3, 3]


def left_increment(target_from_source: Tensor, xi: Tensor, centre_source: Tensor) -> Tensor:
    """The pose moved by ``xi`` about a centre: Trans(c) Exp(xi) Trans(-c) T with c = T centre.

    Args:
        target_from_source: T, rigid, (..., 4, 4), mm.
        xi: (v mm, w rad), (..., 6), in the axes of the TARGET frame.
        centre_source: the fixed point of the rotation, (3,) or (..., 3), in the SOURCE frame, mm.

    Returns:
        The new target_from_source (..., 4, 4). ``v`` with ``w = 0`` moves the centre by v; ``w``
        with ``v = 0`` leaves the centre where it is.
    """
    _require_shape(target_from_source, (4, 4), "left_increment(target_from_source)")
    _require_shape(centre_source, (3,), "left_increment(centre_source)")
    increment = se3_exp(xi)
    rotation = target_from_source[..., :3, :3]
    # R c: the lever from T's translation to the centre, so that nothing large is subtracted twice
    lever = rotation @ centre_source[..., None]
    turned = increment[..., :3, :3] @ rotation
    centre_target = lever[..., 0] + target_from_source[..., :3, 3]
    moved = centre_target + increment[..., :3, 3]
    return _assemble(turned, moved - (turned @ centre_source[..., None])[..., 0])


def perturbation_between(
    target_from_source_a: Tensor, target_from_source_b: Tensor, centre_source: Tensor
) -> Tensor:
    """``xi`` (..., 6) with ``left_increment(a, xi, centre_source) == b``."""
    _require_shape(target_from_source_a, (4, 4), "perturbation_between(a)")
    _require_shape(target_from_source_b, (4, 4), "perturbation_between(b)")
    _require_shape(centre_source, (3,), "perturbation_between(centre_source)")
    rotation_a, rotation_b = target_from_source_a[..., :3, :3], target_from_source_b[..., :3, :3]
    w = so3_log(rotation_b @ rotation_a.transpose(-1, -2))
    # Exp(xi)'s own translation is exactly the way the centre has gone.
    shift = target_from_source_b[..., :3, 3] - target_from_source_a[..., :3, 3]
    shift = shift + ((rotation_b - rotation_a) @ centre_source[..., None])[..., 0]
    return torch.cat((_translation_log(w, shift), w), -1)


def distance_mm(
    target_from_source_a: Tensor,
    target_from_source_b: Tensor,
    centre_source: Tensor,
    rotation_scale_mm: float,
) -> Tensor:
    """Length (...) of `perturbation_between` two poses, with 1 rad as ``rotation_scale_mm``."""
    xi = perturbation_between(target_from_source_a, target_from_source_b, centre_source)
    return (xi * xi.new_tensor([1.0] * 3 + [rotation_scale_mm] * 3)).norm(dim=-1)


def adjoint(target_from_source: Tensor) -> Tensor:
    """Ad (..., 6, 6) for (v, w) order: ``T Exp(xi) T^-1 == Exp(adjoint(T) @ xi)``.

    Carries increments and (as ``Ad S Ad^T``) covariances from the source frame to the target frame.
    """
    _require_shape(target_from_source, (4, 4), "adjoint(target_from_source)")
    rotation = target_from_source[..., :3, :3]
    coupling = hat(target_from_source[..., :3, 3]) @ rotation
    top = torch.cat((rotation, coupling), -1)
    bottom = torch.cat((torch.zeros_like(rotation), rotation), -1)
    return torch.cat((top, bottom), -2)


def _exp_coefficients(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(t)/t, (1 - cos t)/t^2, (t - sin t)/t^3 with t = |w|, each (..., 1, 1)."""
    t_sq = (w * w).sum(-1, keepdim=True)
    small = t_sq < 1.0
    # twice "where": the branch not taken must be finite, or its zero gradient becomes 0 * inf
    near = _series(w.new_tensor(_EXP).unbind(0), torch.where(small, t_sq, 0.0))
    t = torch.where(small, 1.0, t_sq).sqrt()
    sine = t.sin()
    # 2 sin^2(t/2) = 1 - cos t, without cancellation
    far = torch.cat((sine / t, 2.0 * ((0.5 * t).sin() / t) ** 2, (t - sine) / t**3), -1)
    sinc, one_minus_cos, t_minus_sin = torch.where(small, near, far)[..., None, None].unbind(-3)
    return sinc, one_minus_cos, t_minus_sin


def _translation_log(w: Tensor, translation: Tensor) -> Tensor:
    """``V(w)^-1 translation`` (..., 3): the v of a twist, for |w| <= pi."""
    t_sq = (w * w).sum(-1)[..., None, None]
    small = t_sq < 0.25
    half = 0.5 * torch.where(small, torch.ones_like(t_sq), t_sq).sqrt()
    direct = (1.0 - half * half.cos() / half.sin()) / (4.0 * half**2)
    near = _series(_HALF_COT, torch.where(small, t_sq, torch.zeros_like(t_sq)))
    skew = hat(w)
    jacobian_inverse = _eye(3, w) - 0.5 * skew + torch.where(small, near, direct) * (skew @ skew)
    return (jacobian_inverse @ translation[..., None])[..., 0]


def _quaternion_wxyz(rotation: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) with w >= 0, (..., 4), of rotation matrices (..., 3, 3).

    4 q q^T is linear in R. Each of its rows is a multiple of q; the row with the largest diagonal
    is at least 1 long, so normalising it is safe everywhere, in value and in gradient.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    outer = torch.stack(
        (
            torch.stack((1 + xx + yy + zz, zy - yz, xz - zx, yx - xy), -1),
            torch.stack((zy - yz, 1 + xx - yy - zz, yx + xy, xz + zx), -1),
            torch.stack((xz - zx, yx + xy, 1 - xx + yy - zz, zy + yz), -1),
            torch.stack((yx - xy, xz + zx, zy + yz, 1 - xx - yy + zz), -1),
        ),
        -2,
    )
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = best[..., None, None].expand(*best.shape, 1, 4)
    row = outer.gather(-2, index)[..., 0, :]
    quaternion = row / row.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0.0, -quaternion, quaternion)


def _series(coefficients: Sequence[float | Tensor], x: Tensor) -> Tensor:
    """The polynomial with these coefficients (lowest first, two or more) at ``x``."""
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in reversed(coefficients[:-2]):
        value = value * x + coefficient
    return value


def _assemble(rotation: Tensor, translation: Tensor) -> Tensor:
    """(..., 3, 3) and (..., 3) -> (..., 4, 4)."""
    batch = torch.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    top = torch.cat(
        (rotation.expand(*batch, 3, 3), translation.expand(*batch, 3)[..., None]), dim=-1
    )
    last = top.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(*batch, 1, 4)
    return torch.cat((top, last), -2)


def _eye(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)


def _require_shape(tensor: Tensor, tail: tuple[int, ...], name: str) -> None:
    if tuple(tensor.shape[-len(tail) :]) != tail or tensor.ndim < len(tail):
        expected = ", ".join(str(size) for size in tail)
        raise InputError(f"{name}: shape {tuple(tensor.shape)}; expected (..., {expected})")
