"""Rigid motions in torch: exponential, logarithm, increments about a point.

Every function takes any batch dimensions, float32 or float64, on any device, and has finite values
and finite gradients at the identity, at tiny angles and at a half turn.

6-vectors are ``xi = (v, w)``: translation in mm FIRST, then the rotation vector in rad (the order of
a ROS covariance: x, y, z, rotX, rotY, rotZ). 4x4 matrices are named ``target_from_source``.

Formulas: the closed forms of SO(3)/SE(3) (Rodrigues; e.g. Barfoot, *State Estimation for Robotics*,
ch. 7). The quotients such as sin(t)/t are even functions of the angle, so they are power series in
t^2: near zero the series is used, and no square root of zero ever meets the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.errors import InputError

# Coefficients of the power series in t^2, enough for float64 where the series is used (t < 1).
_SINC = (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800)
_SINC += (-1 / 1307674368000, 1 / 355687428096000)
_ONE_MINUS_COS = (1 / 2, -1 / 24, 1 / 720, -1 / 40320, 1 / 3628800, -1 / 479001600)
_ONE_MINUS_COS += (1 / 87178291200, -1 / 20922789888000, 1 / 6402373705728000)
_T_MINUS_SIN = (1 / 6, -1 / 120, 1 / 5040, -1 / 362880, 1 / 39916800, -1 / 6227020800)
_T_MINUS_SIN += (1 / 1307674368000, -1 / 355687428096000, 1 / 121645100408832000)
# (1 - t/2 cot(t/2)) / t^2 = sum |B_2n| t^(2n-2) / (2n)!  with the Bernoulli numbers B_2n; t < 0.5.
_HALF_COT = (1 / 12, 1 / 720, 1 / 30240, 1 / 1209600, 1 / 47900160, 691 / 1307674368000)
_HALF_COT += (1 / 74724249600, 3617 / 10670622842880000)
# atan(x) / x in x^2; x < 0.1.
_ATAN = (1.0, -1 / 3, 1 / 5, -1 / 7, 1 / 9, -1 / 11, 1 / 13, -1 / 15, 1 / 17)


def hat(w: Tensor) -> Tensor:
    """The skew matrix of a cross product: ``hat(w) @ p == cross(w, p)``. (..., 3) -> (..., 3, 3)."""
    _require_shape(w, (3,), "hat(w)")
    x, y, z = w.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))


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
    # rotation vector = 2 atan2(|vector|, cosine) / |vector| * vector, series where the sine is small
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
        The new target_from_source (..., 4, 4). ``v`` with ``w = 0`` moves the centre by v; ``w`` with
        ``v = 0`` leaves the centre where it is.
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
    """``xi`` (..., 6) with ``left_increment(a, xi, centre_source) == b`` (the inverse of that one)."""
    _require_shape(target_from_source_a, (4, 4), "perturbation_between(a)")
    _require_shape(target_from_source_b, (4, 4), "perturbation_between(b)")
    _require_shape(centre_source, (3,), "perturbation_between(centre_source)")
    rotation_a, rotation_b = target_from_source_a[..., :3, :3], target_from_source_b[..., :3, :3]
    w = so3_log(rotation_b @ rotation_a.transpose(-1, -2))
    # Exp(xi)'s own translation is exactly the way the centre has gone.
    shift = target_from_source_b[..., :3, 3] - target_from_source_a[..., :3, 3]
    shift = shift + ((rotation_b - rotation_a) @ centre_source[..., None])[..., 0]
    return torch.cat((_translation_log(w, shift), w), -1)


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


def check_rigid(
    matrix: Tensor | NDArray[Any] | Sequence[Sequence[float]], name: str, tolerance: float = 1e-4
) -> NDArray[np.float64]:
    """The 4x4 rigid transform ``matrix`` as a new float64 array, or an InputError that says what is wrong.

    Args:
        matrix: anything numpy can read as 4x4: nested lists, an array, a tensor.
        name: where it comes from (file and key, topic, parameter); starts the message.
        tolerance: largest accepted element of ``|R^T R - I|`` and of the last row's error. A matrix
            written with few digits passes and is replaced by the nearest rotation.

    Raises:
        InputError: not numeric, not 4x4, not finite, last row not 0 0 0 1, mirrored (det < 0),
            scaled or sheared.
    """
    if isinstance(matrix, Tensor):
        matrix = matrix.detach().cpu().numpy()
    try:
        result = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: not a matrix of 4 rows of 4 numbers ({error})") from error
    if result.shape != (4, 4):
        raise InputError(f"{name}: shape {result.shape}; expected a 4x4 matrix, 4 rows of 4 numbers")
    if not np.isfinite(result).all():
        row, column = np.argwhere(~np.isfinite(result))[0]
        raise InputError(
            f"{name}: element [{row}][{column}] is {result[row, column]}; all must be finite"
        )
    if np.abs(result[3] - (0.0, 0.0, 0.0, 1.0)).max() > tolerance:
        hint = ""
        if np.abs(result[:, 3] - (0.0, 0.0, 0.0, 1.0)).max() <= tolerance:
            hint = "; the translation seems to be in the last row: give the transposed matrix"
        raise InputError(f"{name}: last row is {result[3].tolist()}; expected [0, 0, 0, 1]{hint}")
    rotation = result[:3, :3]
    determinant = float(np.linalg.det(rotation))
    gram = rotation.T @ rotation
    deviation = float(np.abs(gram - np.eye(3)).max())
    if determinant < 0.0:
        raise InputError(
            f"{name}: the rotation part is mirrored (determinant {determinant:.4g}, expected +1); "
            "a mirrored radiograph is flip_horizontal, not a rotation"
        )
    if deviation > tolerance:
        scale = float(np.sqrt(np.trace(gram) / 3.0))
        uniform = np.abs(gram - scale**2 * np.eye(3)).max() <= tolerance * max(1.0, scale**2)
        hint = f"; it holds a scale of {scale:.6g}" if uniform else ""
        raise InputError(
            f"{name}: the upper-left 3x3 is not a rotation: largest element of |R^T R - I| is "
            f"{deviation:.3g}, accepted up to {tolerance:g}{hint}"
        )
    if deviation > 1e-12:  # few digits: the nearest rotation (polar decomposition)
        u, _, vt = np.linalg.svd(rotation)
        result[:3, :3] = u @ vt
    result[3] = (0.0, 0.0, 0.0, 1.0)
    return result


def _exp_coefficients(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(t)/t, (1 - cos t)/t^2, (t - sin t)/t^3 with t = |w|, each (..., 1, 1)."""
    t_sq = (w * w).sum(-1)[..., None, None]
    small = t_sq < 1.0
    near = torch.where(small, t_sq, torch.zeros_like(t_sq))
    # twice "where": the branch not taken must be finite, or its zero gradient becomes 0 * inf
    t = torch.where(small, torch.ones_like(t_sq), t_sq).sqrt()
    sine = t.sin()
    sinc = torch.where(small, _series(_SINC, near), sine / t)
    # 2 sin^2(t/2) = 1 - cos t, without cancellation
    one_minus_cos = torch.where(
        small, _series(_ONE_MINUS_COS, near), 2.0 * (0.5 * t).sin() ** 2 / t**2
    )
    t_minus_sin = torch.where(small, _series(_T_MINUS_SIN, near), (t - sine) / t**3)
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

    4 q q^T is linear in R. Each of its rows is a multiple of q; the row with the largest diagonal is
    at least 1 long, so normalising it is safe everywhere, in value and in gradient.
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


def _series(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """The polynomial with these coefficients (lowest first) at ``x``."""
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def _assemble(rotation: Tensor, translation: Tensor) -> Tensor:
    """(..., 3, 3) and (..., 3) -> (..., 4, 4)."""
    batch = torch.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    top = torch.cat(
        (rotation.expand(*batch, 3, 3), translation.expand(*batch, 3)[..., None]), dim=-1
    )
    last = torch.zeros_like(top[..., :1, :])
    last = torch.cat((last[..., :3], torch.ones_like(last[..., 3:])), -1)
    return torch.cat((top, last), -2)


def _eye(size: int, like: Tensor) -> Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)


def _require_shape(tensor: Tensor, tail: tuple[int, ...], name: str) -> None:
    if tuple(tensor.shape[-len(tail) :]) != tail or tensor.ndim < len(tail):
        expected = ", ".join(str(size) for size in tail)
        raise InputError(f"{name}: shape {tuple(tensor.shape)}; expected (..., {expected})")
