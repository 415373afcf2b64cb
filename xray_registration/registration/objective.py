"""The residual of all views at one resolution, as a function of the rig's pose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.geometry import Camera, transform_points
from xray_registration.imaging.pyramid import downsample
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration.detected import (
    IDEAL_BEAM,
    BeamConfig,
    detected,
    detected_with_jacobian,
)
from xray_registration.registration.view import View
from xray_registration.rendering import AttenuationVolume, Projector
from xray_registration.similarity import (
    GradientResidual,
    WeightedGradientResidual,
    WeightedTarget,
)
from xray_registration.similarity.filters import dilated, eroded
from xray_registration.similarity.residual import PictureResidual, PictureTarget

_OVERLAP_PX = 32
_SHADOW_PX = 64
_SMALLEST_WINDOW_PX = 16
_CUT_RADIUS_MM = 7.0


@dataclass(frozen=True, eq=False)
class _LevelView:
    """A view at one resolution."""

    camera: Camera
    camera_from_rig: Tensor  # (4, 4) float64
    rig_to_camera: Tensor  # (6, 6): increments in rig axes to camera axes
    target: PictureTarget
    weight: Tensor  # (S, H, W): what counts, per start
    background: Tensor | None  # (S, H, W): line integrals of what does not move, per start
    behind: Tensor | None  # (S, H, W): what is seen of it alone, if it is to be taken off again
    axes: Sequence[int] | None  # per start, held


class Objective:
    """Residuals of all views at one level, for a batch of starts.

    What depends on the pose in steps is decided at the starts and then held, so that the cost is
    smooth: the stepping axes of the projector, and the pixels that count. These are the usable ones
    on which the CT projects, a margin around them, and not those whose rays pass a face where the
    CT was cut through the body: there the picture shows more patient than the CT holds.
    """

    def __init__(
        self,
        views: Sequence[View],
        projector: Projector,
        cut: Projector | None,
        corners_lps_mm: NDArray[np.float64],
        residual: PictureResidual,
        pixel_mm: float,
        starts: Tensor,
        margin_mm: float,
        background: Projector | None = None,
        shadow: Projector | None = None,
        beam: BeamConfig = IDEAL_BEAM,
    ) -> None:
        """Prepare the pictures at ``pixel_mm`` (at the isocentre) for ``starts`` (S, 4, 4).

        ``corners_lps_mm`` (8, 3): the box of what attenuates; ``margin_mm`` (at the isocentre): how
        far the CT's projection may move before pixels that should count are missing. ``shadow``
        says which pixels that projection covers; None: the projector itself, at more cost.
        ``beam``: see `detected`.
        """
        self._projector = projector
        self._residual = residual
        self._corners_lps_mm = corners_lps_mm
        self._background = background
        self._shadow = shadow or projector
        self._beam = beam
        self._pictures, self._starts = list(views), starts.to(torch.float64)
        self._views = [
            self._prepared(view, cut, pixel_mm, self._starts, margin_mm) for view in views
        ]

    @property
    def overlaps(self) -> Tensor:
        """(S, views) how much of CT and picture see each other at the start, 0 to 1.

        The usable pixels on which the CT projects, as a share of all usable pixels or of the CT's
        whole projection, whichever is larger: a small bone in a wide picture and a picture of part
        of the thorax both have 1.
        """
        return torch.stack([self._overlap(view) for view in self._pictures], 1)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(channels, H, W) of each view's part of the residual, in order."""
        return [(2, view.camera.height, view.camera.width) for view in self._views]

    def __call__(self, poses: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual (b, M), Jacobian (b, 6, M) in rig axes, weight (b, M), all on the device."""
        residuals, jacobians, weights = [], [], []
        for view in self._views:
            image, jacobian = self._projector.image_and_jacobian(
                view.camera_from_rig @ poses, view.camera, self._axes(view, places)
            )
            image, jacobian = self._detected_with_jacobian(view, image, jacobian, places)
            r, change = self._residual.with_jacobian(image, jacobian, _target(view, places))
            to_camera = view.rig_to_camera.to(change)
            residuals.append(r.flatten(1))
            jacobians.append(to_camera.T @ change.flatten(2))
            weights.append(view.weight[places][:, None].expand_as(r).flatten(1))
        return torch.cat(residuals, 1), torch.cat(jacobians, 2), torch.cat(weights, 1)

    def correlations(self, poses: Tensor, places: Tensor) -> Tensor:
        """Gradient correlation (b, views)."""
        values = []
        for view in self._views:
            image = self._projector.image(
                view.camera_from_rig @ poses, view.camera, self._axes(view, places)
            )
            image = _apart(view, detected(_before(view, image, places), self._beam), places)
            weight = view.weight[places]
            values.append(self._residual.correlation(image, _target(view, places), weight))
        return torch.stack(values, 1)

    def _detected_with_jacobian(
        self, view: _LevelView, image: Tensor, jacobian: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        image = _before(view, image, places)
        image, jacobian = detected_with_jacobian(image, jacobian, self._beam)
        return _apart(view, image, places), jacobian

    def _axes(self, view: _LevelView, places: Tensor) -> Sequence[int] | None:
        return None if view.axes is None else [view.axes[n] for n in places.tolist()]

    def _prepared(
        self, view: View, cut: Projector | None, pixel_mm: float, starts: Tensor, margin_mm: float
    ) -> _LevelView:
        camera_from_rig = torch.from_numpy(np.array(view.camera_from_rig))
        poses = camera_from_rig @ starts
        depth = isocentre_depth(poses, self._projector.isocentre_lps_mm)
        width = level_width(view.camera, depth, pixel_mm)
        radiograph, camera = downsample(view.radiograph, view.camera, width)
        margin_px = math.ceil(margin_mm / pixel_mm)
        reach_px = margin_px + math.ceil(3 * self._residual.window_px)
        # a margin there as well: what is dilated below may begin at pixels that do not count
        window = self._window(poses, camera, reach_px, radiograph.mask, margin_px + 1)
        radiograph, camera = radiograph.cropped(*window), camera.cropped(*window)
        axes = self._projector.sampling_axes(poses)
        shadow = _shadow(self._shadow, poses, camera)
        covered = shadow > 0
        fixed = torch.from_numpy(np.array(radiograph.attenuation)).to(shadow)
        mask = torch.from_numpy(np.array(radiograph.mask)).to(shadow.device)
        target: Any = self._residual.target(fixed, mask)
        shown = dilated(covered, margin_px)
        if cut is not None:
            passed = _shadow(cut, poses, camera) > 0
            # beside the CT's shadow the picture shows air, but beyond a cut it shows patient
            beyond = dilated(passed, margin_px + 1) & ~covered
            shown &= ~(dilated(passed, self._residual.reach_px) | beyond)
        weight = shown.to(fixed) * target.weight
        background: Tensor | None = None
        behind: Tensor | None = None
        if self._background is not None:
            image = self._projector.image(poses, camera, axes)
            background = self._background.image(poses, camera)
            if isinstance(self._residual, WeightedGradientResidual):
                behind = detected(background, self._beam)
                bones = detected(image + background, self._beam) - behind
                target = self._residual.held(target, bones, behind)
            else:
                assert isinstance(self._residual, GradientResidual)  # see RegistrationConfig
                weight = weight * self._residual.dominance(image, background, target)
        rotation = camera_from_rig[:3, :3]
        return _LevelView(
            camera=camera,
            camera_from_rig=camera_from_rig,
            rig_to_camera=torch.block_diag(rotation, rotation),
            target=target,
            weight=weight,
            background=background,
            behind=behind,
            axes=axes,
        )

    def _window(
        self,
        poses: Tensor,
        camera: Camera,
        reach_px: int,
        usable: NDArray[np.bool_],
        margin_px: int,
    ) -> tuple[int, int, int, int]:
        """x0, y0, width, height of the part of the picture that the CT can reach, as far as it has
        usable pixels (H, W) and a margin around them.
        """
        corners = torch.from_numpy(self._corners_lps_mm).expand(len(poses), -1, -1)
        pixels = camera.project(transform_points(poses, corners)).reshape(-1, 2)
        low = (pixels.amin(0).floor() - reach_px).tolist()
        high = (pixels.amax(0).ceil() + reach_px + 1).tolist()
        if not np.isfinite([*low, *high]).all():  # a corner behind the source
            return 0, 0, camera.width, camera.height
        x0, x1 = _between(low[0], high[0], np.asarray(usable.any(0)), margin_px)
        y0, y1 = _between(low[1], high[1], np.asarray(usable.any(1)), margin_px)
        if min(x1 - x0, y1 - y0) < _SMALLEST_WINDOW_PX:
            return 0, 0, camera.width, camera.height
        return x0, y0, x1 - x0, y1 - y0

    def _overlap(self, view: View) -> Tensor:
        """See :attr:`overlaps`; counted on a small picture with the field around it."""
        poses = torch.from_numpy(np.array(view.camera_from_rig)) @ self._starts
        width = min(_OVERLAP_PX, view.camera.width)
        small, inner = downsample(view.radiograph, view.camera, width)
        # three times as wide and high, so that what projects beside the picture is counted too
        wide = inner.widened(inner.width, inner.height)
        shadow = self._projector.image(poses, wide, self._projector.sampling_axes(poses)) > 0
        middle = shadow[:, inner.height : 2 * inner.height, inner.width : 2 * inner.width]
        mask = torch.from_numpy(np.array(small.mask)).to(shadow.device)
        both = (middle & mask).sum((1, 2))
        of_picture = both / mask.sum().clamp_min(1)
        of_ct = both / shadow.sum((1, 2)).clamp_min(1)
        return torch.maximum(of_picture, of_ct)


def _between(low: float, high: float, usable: NDArray[np.bool_], margin_px: int) -> tuple[int, int]:
    """The part of low..high with the usable columns or rows (n,) and a margin: first, and one after
    the last.
    """
    places = np.flatnonzero(usable)
    if not len(places):
        return 0, 0
    first = max(0, int(places[0]) - margin_px)
    last = min(len(usable), int(places[-1]) + 1 + margin_px)
    return int(np.clip(low, first, last)), int(np.clip(high, first, last))


def _target(view: _LevelView, places: Tensor) -> Any:
    """The target of the starts ``places``; most kinds are the same for all."""
    return view.target.at(places) if isinstance(view.target, WeightedTarget) else view.target


def _before(view: _LevelView, image: Tensor, places: Tensor) -> Tensor:
    """Images (b, H, W) of the bones with what is behind and before them."""
    return image if view.background is None else image + view.background[places]


def _apart(view: _LevelView, images: Tensor, places: Tensor) -> Tensor:
    """What the bones add to images (b, H, W) of the whole patient, where they are compared apart.

    Not what they would show alone: behind other tissue the same bone makes a flatter edge.
    """
    return images if view.behind is None else images - view.behind[places]


def _shadow(projector: Projector, poses: Tensor, camera: Camera) -> Tensor:
    """(S, H, W), above 0 where the ray of a pixel meets the volume; of the images' precision.

    Found on a small picture and grown by one of its pixels: an outline needs no resolution.
    """
    factor = max(1, min(camera.width, camera.height) // _SHADOW_PX)
    if factor == 1:
        return projector.image(poses, camera)
    small = camera.resized(-(-camera.width // factor), -(-camera.height // factor))
    image = projector.image(poses, small)
    met = dilated(image > 0, 1)[:, None].to(image)
    return F.interpolate(met, size=(camera.height, camera.width), mode="nearest")[:, 0]


def cut_faces(
    volume: AttenuationVolume, ends: NDArray[np.bool_] | None = None, tissue_per_mm: float = 0.01
) -> AttenuationVolume | None:
    """Where the CT's grid ends inside the body: tissue on the outermost voxels of the grid.

    Such voxels keep mu = 1, everything else is 0. None when the body ends inside the grid.

    Args:
        volume: at the CT's own resolution: blocks filled up with air would hide a cut.
        ends: (3, 2) bool, which faces (i, j, k; first and last) are the CT's own and not a crop
            to what attenuates, where the back on the couch looks like a cut; None for all.
        tissue_per_mm: half of water; skin that just touches the border does not count.
    """
    tissue = volume.mu_per_mm > tissue_per_mm
    plate = torch.zeros_like(tissue)
    # a face counts where it is cut through the body, not where a few voxels touch it
    radius = [round(_CUT_RADIUS_MM / spacing) for spacing in volume.spacing_mm[::-1]]
    for axis in range(3):  # k, j, i
        down, across = radius[:axis] + radius[axis + 1 :]
        for end in (0, -1):
            if ends is None or ends[2 - axis, end]:
                face = eroded(tissue.select(axis, end), (down, across))
                plate.select(axis, end).logical_or_(face)
    if not bool(plate.any()):
        return None
    return AttenuationVolume(plate.to(volume.mu_per_mm.dtype), volume.lps_from_index)


def ends_of(ct: CTVolume, volume: AttenuationVolume) -> NDArray[np.bool_]:
    """(3, 2) bool: the faces (i, j, k; first, last) that ``volume``, a crop of it, shares with
    the CT's grid.
    """
    first = np.round(ct.index_of_lps(volume.lps_from_index[:3, 3]))
    last = first + volume.shape_ijk
    return np.stack((first <= 0, last >= np.array(ct.shape_ijk)), axis=1)


def level_width(camera: Camera, depth_mm: float, pixel_mm: float) -> int:
    """Columns so that a pixel is about ``pixel_mm`` at ``depth_mm`` from the source."""
    field_mm = camera.width * depth_mm / camera.fx
    return int(np.clip(round(field_mm / pixel_mm), 16, camera.width))


def isocentre_depth(poses: Tensor, isocentre_lps_mm: NDArray[np.float64]) -> float:
    """Median depth (mm) of the isocentre over poses (S, 4, 4), camera from CT."""
    centre = torch.from_numpy(isocentre_lps_mm)
    depths = poses[:, 2, :3] @ centre + poses[:, 2, 3]
    return float(depths.median())
