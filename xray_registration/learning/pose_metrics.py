"""Distances between poses, differentiable, for losses and reports.

All take poses ``camera_from_ct`` (..., 4, 4) in mm, move nothing, and are finite in value and
gradient where the two poses agree.

Two metrics that weigh rotation against translation by one length:

* se(3): the twist between the poses about the isocentre, rotation times ``rotation_scale_mm``.
* SO(4): a pose is laid on a sphere in 4-D of radius 1 / (2 e) (Larochelle, Murray and Angeles,
  J. Mech. Des. 129 (2007) 883). The matrix M = [[R, e t], [-e t^T R, 1]] is a rotation of R^4 up to
  e^2 |t|^2; its polar factor is one exactly. ``t`` is the place of the isocentre relative to a
  reference point, so that e |t| is small. With e = 1 / (2 f) (f: source-detector distance) a
  rotation by 1 degree weighs as much as 35.6 mm at f = 1020 mm, with e = 2 / f as much as 8.9 mm.

On SO(4) the distances are bi-invariant. As distances of poses they are exactly invariant to
rotations of the camera's or the CT's axes about the isocentre, and to translations only to the
order of e |t|: SE(3) has no bi-invariant metric, and the curvature of the sphere is the price.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import se3


def se3_geodesic(
    camera_from_ct_a: Tensor,
    camera_from_ct_b: Tensor,
    isocentre_lps_mm: Tensor,
    rotation_scale_mm: float = 100.0,
) -> Tensor:
    """Length (...) in mm of the twist from a to b about the isocentre (3,): ||(v, s w)||."""
    xi = se3.perturbation_between(camera_from_ct_a, camera_from_ct_b, isocentre_lps_mm)
    return _length(torch.cat((xi[..., :3], rotation_scale_mm * xi[..., 3:]), -1))


def so4_from_pose(
    camera_from_ct: Tensor,
    isocentre_lps_mm: Tensor,
    scale_per_mm: float,
    reference_mm: Tensor | None = None,
    exact: bool = True,
) -> Tensor:
    """The pose as a rotation (..., 4, 4) of 4-D space.

    Args:
        camera_from_ct: (..., 4, 4) mm.
        isocentre_lps_mm: (3,) the point whose place counts as the pose's translation.
        scale_per_mm: e, the curvature; 1 / (2 SDD) or 2 / SDD.
        reference_mm: (3,) in camera axes, taken off the isocentre's place: usually the place of the
            true or the mean isocentre. None: the focal spot, far from which M is far from SO(4).
        exact: project to SO(4) (polar decomposition); False gives M itself.
    """
    if not scale_per_mm > 0:
        raise InputError(f"scale_per_mm is {scale_per_mm}; expected a positive 1 / mm.")
    rotation = camera_from_ct[..., :3, :3]
    place = (rotation @ isocentre_lps_mm[..., None])[..., 0] + camera_from_ct[..., :3, 3]
    if reference_mm is not None:
        place = place - reference_mm
    scaled = scale_per_mm * place[..., None]
    top = torch.cat((rotation, scaled), -1)
    bottom = torch.cat((-scaled.mT @ rotation, torch.ones_like(scaled[..., :1, :])), -1)
    matrix = torch.cat((top, bottom), -2)
    return _polar(scaled[..., 0], rotation) if exact else matrix


def so4_chordal(a: Tensor, b: Tensor) -> Tensor:
    """Frobenius norm (...) of the difference of two rotations (..., 4, 4) of 4-D space."""
    return _length((a - b).flatten(-2))


def so4_geodesic(a: Tensor, b: Tensor) -> Tensor:
    """Length (...) in rad of the shortest way on SO(4): sqrt(alpha^2 + beta^2) of its two angles.

    The relative rotation a^T b is split into a pair of unit quaternions (left and right isoclinic
    turns), whose half angles are (alpha + beta) / 2 and (alpha - beta) / 2. So there is no
    eigenvalue problem whose gradient is singular where the angles agree, as they do at a = b.
    """
    left, right = _isoclinic(a.mT @ b)
    sum_sq, difference_sq = _angle_squared(left), _angle_squared(right)
    return _root(2.0 * (sum_sq + difference_sq))


def _polar(scaled: Tensor, rotation: Tensor) -> Tensor:
    """The nearest rotation to M = [[R, p], [-p^T R, 1]] (p = e t, (..., 3)), in closed form.

    M = N blkdiag(R, 1) with N = [[I, p], [-p^T, 1]]. N is I plus a skew matrix, and N^T N =
    blkdiag(I + p p^T, 1 + |p|^2); so N (N^T N)^(-1/2) needs one square root only, where an SVD
    would have a singular gradient (two of its singular values are always equal).
    """
    length_sq = (scaled * scaled).sum(-1)[..., None, None]
    inverse_root = (1.0 + length_sq).rsqrt()
    outer = scaled[..., :, None] * scaled[..., None, :]
    eye = torch.eye(3, dtype=scaled.dtype, device=scaled.device)
    # (I + p p^T)^(-1/2) = I - p p^T / (r (r + 1)) with r = sqrt(1 + |p|^2)
    root = (1.0 + length_sq).sqrt()
    block = (eye - outer / (root * (root + 1.0))) @ rotation
    column = scaled[..., :, None] * inverse_root
    top = torch.cat((block, column), -1)
    bottom = torch.cat((-(column.mT @ rotation), inverse_root), -1)
    return torch.cat((top, bottom), -2)


def _isoclinic(rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Left and right unit quaternions (..., 4) of a rotation (..., 4, 4): x -> l x r.

    The sixteen numbers l_i r_j are linear in the matrix (Van Elfrinkhof's formula); l and r are its
    largest column and the row that goes with it, up to a common sign.
    """
    a = rotation
    rows = [[a[..., i, j] for j in range(4)] for i in range(4)]
    (aw, ax, ay, az), (bw, bx, by, bz), (cw, cx, cy, cz), (dw, dx, dy, dz) = rows
    outer = torch.stack(
        (
            torch.stack((aw + bx + cy + dz, bw - ax - dy + cz,
                         cw + dx - ay - bz, dw - cx + by - az), -1),
            torch.stack((bw - ax + dy - cz, -aw - bx + cy + dz,
                         dw - cx - by + az, -cw - dx - ay - bz), -1),
            torch.stack((cw - dx - ay + bz, -dw - cx - by - az,
                         -aw + bx - cy + dz, bw + ax - dy - cz), -1),
            torch.stack((dw + cx - by - az, cw - dx + ay - bz,
                         -bw - ax - dy - cz, -aw + bx + cy - dz), -1),
        ),
        -2,
    ) / 4.0  # fmt: skip
    # the row of the largest norm is |l_i| r: safe to normalise everywhere
    norms = (outer * outer).sum(-1)
    best = norms.argmax(-1)[..., None, None].expand(*outer.shape[:-2], 1, 4)
    row = outer.gather(-2, best)[..., 0, :]
    right = row / row.norm(dim=-1, keepdim=True)
    left = (outer @ right[..., None])[..., 0]
    # of the two pairs of signs the one nearer to no turn
    sign = torch.where(left[..., :1] + right[..., :1] < 0, -1.0, 1.0)
    return left * sign, right * sign


def _angle_squared(quaternion: Tensor) -> Tensor:
    """Squared angle (...) between a unit quaternion and 1: smooth at 1."""
    cosine = quaternion[..., 0]
    sine_sq = (quaternion[..., 1:] ** 2).sum(-1)
    small = (sine_sq < 1e-4) & (cosine > 0)
    sine = torch.where(small, torch.ones_like(sine_sq), sine_sq).sqrt()
    direct = torch.atan2(sine, cosine) ** 2
    series = sine_sq * (1.0 + sine_sq / 3.0 + 8.0 * sine_sq**2 / 45.0)  # asin(s)^2
    return torch.where(small, series, direct)


def _length(vector: Tensor) -> Tensor:
    return _root((vector * vector).sum(-1))


def _root(square: Tensor) -> Tensor:
    """Square root with gradient 0 at 0, where the true one has a kink."""
    zero = square <= 0
    return torch.where(zero, 0.0, torch.where(zero, torch.ones_like(square), square).sqrt())
