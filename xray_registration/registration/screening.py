"""Poses worth an optimisation, found among many more by what a shift of the picture can tell.

Four of a pose's six numbers, the rotation and the depth, are drawn; the shift across the beam that
makes the rendering most like the picture then comes from one cross-correlation, for all shifts at
once. It is the masked normalised cross-correlation of the locally normalised gradients (Padfield,
IEEE Trans. Image Process. 21 (2012) 2706, for images; here for vectors of mean zero).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from xray_registration.imaging.pyramid import downsample
from xray_registration.registration.config import SpreadConfig
from xray_registration.registration.descent import Descent
from xray_registration.registration.objective import isocentre_depth, level_width
from xray_registration.registration.prepared_patient import PreparedLevel
from xray_registration.registration.spread import distinct, spread_starts
from xray_registration.registration.view import View
from xray_registration.similarity import GradientResidual, GradientTarget

# of the picture's weight, least share that a shifted rendering must meet: the correlation of a
# corner says nothing
_LEAST_SHARE = 0.25
_BORDER_SHARE = 0.25  # of the picture's width, rendered beyond each border so that it can move in
_AT_ONCE = 64  # renderings: bounds the memory
_JUDGED_AT_ONCE = 128  # poses
_REACH_SIGMAS = 3.0  # of the scatter's translation, for shifts across the beam


def screened(
    views: Sequence[View],
    coarsest: PreparedLevel,
    starts: Tensor,
    descent: Descent,
    spread: SpreadConfig,
    shows: Callable[[Tensor], bool],
) -> tuple[Tensor, Tensor]:
    """Of many poses about ``starts`` (S, 4, 4), each shifted to match each picture, those most like
    all of them.

    Args:
        views: the pictures.
        coarsest: the level at which they are compared.
        starts: (S, 4, 4) rig_from_ct.
        descent: of the registration.
        spread: how many, and how far they lie from the starts.
        shows: whether a pose (4, 4) can be seen in every view.

    Returns:
        (N, 4, 4) which start each came from, and (N, 4, 4) the poses; N may be 0.
    """
    centre = torch.from_numpy(descent.isocentre_lps_mm)
    given, poses = spread_starts(starts, centre, spread)
    reach_mm = _REACH_SIGMAS * spread.translation_mm
    poses = torch.cat([shifted_to_match(view, coarsest, poses, reach_mm) for view in views])
    given = given.repeat(len(views), 1, 1)
    seen = [shows(pose) for pose in poses]
    given, poses = given[seen], poses[seen]
    if not len(poses):
        return given, poses
    parts = poses.split(_JUDGED_AT_ONCE)
    similarity = torch.cat([descent.similarity(coarsest, views, part) for part in parts])
    scale_mm = descent.optimiser.rotation_scale_mm
    best = distinct(poses, similarity, spread.count, spread.apart_mm, centre, scale_mm)
    return given[best], poses[best]


def shifted_to_match(view: View, prepared: PreparedLevel, poses: Tensor, reach_mm: float) -> Tensor:
    """Poses (N, 4, 4), each moved across the beam to where it is most like one picture.

    Args:
        view: the picture.
        prepared: the level at which the two are compared.
        poses: (N, 4, 4) rig_from_ct.
        reach_mm: longest shift along each axis, at the isocentre.
    """
    camera_from_rig = torch.from_numpy(np.array(view.camera_from_rig))
    in_camera = camera_from_rig @ poses.to(torch.float64)
    projector, residual = prepared.projector, prepared.level.residual
    depth = isocentre_depth(in_camera, projector.isocentre_lps_mm)
    width = level_width(view.camera, depth, prepared.pixel_mm)
    radiograph, camera = downsample(view.radiograph, view.camera, width)
    border = round(_BORDER_SHARE * camera.width)
    wide = camera.widened(border, border)
    fixed = torch.from_numpy(np.array(radiograph.attenuation))
    mask = torch.from_numpy(np.array(radiograph.mask))
    assert isinstance(residual, GradientResidual)  # of the whole CT, see RegistrationConfig
    target: GradientTarget | None = None
    pixel_mm = depth / camera.fx
    reach = min(border, max(1, round(reach_mm / pixel_mm)))
    shifts = []
    for part in in_camera.split(_AT_ONCE):
        images = projector.image(part, wide, projector.sampling_axes(part))
        if target is None:  # where the renderings are, and as precise
            target = residual.target(fixed.to(images), mask.to(images.device))
        moving = residual.normalised(images)
        covered = (images > 0).to(images)
        scores = _correlations(moving, covered, target.normalised, target.weight, border, reach)
        place = scores.flatten(1).argmax(1)
        rows, columns = place // (2 * reach + 1) - reach, place % (2 * reach + 1) - reach
        shifts.append(torch.stack((columns, rows), 1))
    moved = in_camera.clone()
    moved[:, :2, 3] += torch.cat(shifts).to("cpu", torch.float64) * pixel_mm
    return torch.linalg.inv(camera_from_rig) @ moved


def _correlations(
    moving: Tensor, covered: Tensor, fixed: Tensor, weight: Tensor, border: int, reach: int
) -> Tensor:
    """Correlation (N, 2 reach + 1, 2 reach + 1) for shifts of rows and columns by -reach..reach.

    Args:
        moving: (N, 2, H + 2 border, W + 2 border) gradients of the renderings.
        covered: (N, H + 2 border, W + 2 border) where the CT projects, 0 or 1.
        fixed: (2, H, W) gradients of the picture.
        weight: (H, W) of its pixels.
        border: rendered beyond the picture.
        reach: longest shift, at most ``border``.
    """
    size = covered.shape[-2:]
    # a rendering that moves right by d shows at column x what it had at x - d
    a = torch.fft.rfft2(torch.cat((moving * covered[:, None], covered[:, None]), 1))
    energy = torch.fft.rfft2((moving**2).sum(1) * covered)
    b = torch.fft.rfft2(torch.cat((weight * fixed, (weight * fixed**2).sum(0)[None])), s=size)
    w = torch.fft.rfft2(weight, s=size)

    def at_shifts(spectrum: Tensor) -> Tensor:
        full = torch.fft.irfft2(spectrum, s=size)
        # index k of the correlation: the picture's corner lies on pixel k of the rendering
        part = full[..., border - reach : border + reach + 1, border - reach : border + reach + 1]
        return part.flip((-2, -1))

    both = at_shifts((a[:, :2] * b[:2].conj()).sum(1))
    fixed_energy = at_shifts(a[:, 2] * b[2].conj())
    moving_energy = at_shifts(energy * w.conj())
    share = at_shifts(a[:, 2] * w.conj()) / weight.sum().clamp_min(1)
    score = both / (fixed_energy * moving_energy).clamp_min(1e-12).sqrt()
    return torch.where(share >= _LEAST_SHARE, score, torch.full_like(score, -1.0))
