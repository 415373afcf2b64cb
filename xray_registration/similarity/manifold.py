"""Where features are compared: the unit sphere, and for ablation flat and hyperbolic space.

Features (..., C, H, W) lie in the tangent space at a base point, one vector per place of the map.
Each geometry gives points, a residual r whose half square sums to its similarity epsilon, and a
likeness of -1 to 1.

Sphere: EXP_N(f) = (f sin|f| / |f|, cos|f|) at the base point N = (0, ..., 0, 1). The similarity is
epsilon = sum 1 - <p, q>, and since |p - q|^2 = 2 (1 - <p, q>), the residual p - q is its exact
least-squares form: Gauss-Newton on it minimises epsilon itself. (1 - cos as a residual would square
it and flatten the optimum.) "sphere_log" is the Riemannian residual Log_p(q), half whose square is
half the squared great-circle distance.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from xray_registration.errors import InputError

Geometry = Literal["sphere", "sphere_log", "euclidean", "hyperbolic"]
GEOMETRIES: tuple[Geometry, ...] = ("sphere", "sphere_log", "euclidean", "hyperbolic")
_CHANNEL = -3
_LARGEST_HYPERBOLIC = 2.0  # cosh grows fast: a longer tangent vector is of no use


def check_geometry(geometry: str) -> None:
    """InputError unless it is one of GEOMETRIES."""
    if geometry not in GEOMETRIES:
        raise InputError(f"geometry is {geometry!r}; expected one of {', '.join(GEOMETRIES)}.")


def exponential(features: Tensor, geometry: Geometry) -> Tensor:
    """Points (..., C + 1, H, W) of tangent vectors (..., C, H, W); flat space: (..., C, H, W).

    The vectors' lengths are bounded smoothly below pi (sphere; beyond it the map folds) or 2.
    """
    if geometry == "euclidean":
        return features
    bound = _LARGEST_HYPERBOLIC if geometry == "hyperbolic" else math.pi
    # 1e-12: no square root of zero meets a gradient
    length = (features.square().sum(_CHANNEL, keepdim=True) + 1e-12).sqrt()
    kept = bound * torch.tanh(length / bound)
    if geometry == "hyperbolic":
        return torch.cat((features * (torch.sinh(kept) / length), torch.cosh(kept)), _CHANNEL)
    return torch.cat((features * (torch.sin(kept) / length), torch.cos(kept)), _CHANNEL)


def residual(moving: Tensor, fixed: Tensor, geometry: Geometry) -> Tensor:
    """R (..., c, H, W) of points; sum r^2 / 2 is `epsilon`."""
    if geometry in ("sphere", "euclidean"):
        return moving - fixed
    if geometry == "sphere_log":
        return -_sphere_log(moving, fixed)
    return _hyperbolic_log(moving, fixed)


def epsilon(moving: Tensor, fixed: Tensor, geometry: Geometry) -> Tensor:
    """The similarity (..., H, W) at every place; lower is better. Sum it, weighted."""
    if geometry == "sphere":
        return 1.0 - (moving * fixed).sum(_CHANNEL)
    return 0.5 * residual(moving, fixed, geometry).square().sum(_CHANNEL)


def likeness(moving: Tensor, fixed: Tensor, geometry: Geometry) -> Tensor:
    """(..., H, W) in -1..1: the cosine on the sphere, exp(-d^2 / 2) elsewhere."""
    if geometry in ("sphere", "sphere_log"):
        return (moving * fixed).sum(_CHANNEL)
    return torch.exp(-epsilon(moving, fixed, geometry))


def _sphere_log(base: Tensor, point: Tensor) -> Tensor:
    """Log_base(point), in ambient coordinates; its length is the great-circle distance.

    d / sin d is smooth at 0 (a series in 1 - cos d); at the antipode it is bounded.
    """
    cosine = (base * point).sum(_CHANNEL, keepdim=True)
    gap = (1.0 - cosine).clamp_min(0.0)
    near = gap < 1e-3
    safe = torch.where(near, torch.zeros_like(cosine), cosine).clamp(-1.0 + 1e-6, 1.0 - 1e-6)
    direct = torch.acos(safe) / (1.0 - safe * safe).sqrt()
    series = 1.0 + gap / 3.0 + 2.0 * gap * gap / 15.0
    return torch.where(near, series, direct) * (point - cosine * base)


def _hyperbolic_log(moving: Tensor, fixed: Tensor) -> Tensor:
    """Log_fixed(moving) on the hyperboloid, carried to the base point: (..., C, H, W).

    In the tangent space at the base point the metric is the usual one, so the residual's length is
    the hyperbolic distance.
    """
    space_m, time_m = moving[..., :-1, :, :], moving[..., -1:, :, :]
    space_f, time_f = fixed[..., :-1, :, :], fixed[..., -1:, :, :]
    cosh = time_m * time_f - (space_m * space_f).sum(_CHANNEL, keepdim=True)
    gap = (cosh - 1.0).clamp_min(0.0)
    near = gap < 1e-3
    safe = torch.where(near, torch.full_like(cosh, 2.0), cosh)
    direct = torch.acosh(safe) / (safe * safe - 1.0).sqrt()
    factor = torch.where(near, 1.0 - gap / 3.0 + 2.0 * gap * gap / 15.0, direct)
    # parallel transport from `fixed` to the base point: v_space - v_time / (1 + f_time) f_space
    tangent_space = factor * (space_m - cosh * space_f)
    tangent_time = factor * (time_m - cosh * time_f)
    return tangent_space - tangent_time / (1.0 + time_f) * space_f
