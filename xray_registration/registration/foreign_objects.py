"""Metal that the CT does not know: thin, dense, and not in the moving picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.imaging.pyramid import downsample
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.registration.objective import isocentre_depth, level_width
from xray_registration.registration.view import View
from xray_registration.rendering import Projector

_PIXEL_MM = 0.8  # at the isocentre
_WIDTH_MM = 14.0  # broader things are left by the opening: heads of screws have 12 mm
_EXPLAINED = 0.5  # share of a dense thing that the CT must show nearby
# A foreign thing goes on, from where it is certain, for as long as it has this share of the density
# that it has within some reach there: over bone it is not certain, but no less dense.
_SAME_SHARE, _REACH_MM, _LEAST_DENSE = 0.4, 15.0, 2.5
_MARGIN_MM = 1.6
_SMALLEST_PX = 24


@dataclass(frozen=True)
class Caution:
    """How far the pose may be off, and what is dense then.

    Attributes:
        slack_mm: what the CT shows within so much explains what the picture shows.
        dense: robust standard deviations of the picture's own fine structure.
    """

    slack_mm: float
    dense: float


#: With a pose from coarse levels, and with one that lacks only the last.
ROUGH, CLOSE = Caution(5.0, 5.0), Caution(2.0, 4.0)


def without_foreign_objects(
    view: View, projector: Projector, rig_from_ct: Tensor, caution: Caution = ROUGH
) -> View:
    """The view with dense thin things masked that a picture of the CT does not show.

    Found by a top-hat transform (what an opening with a disc takes away) of the picture and of the
    CT rendered at ``rig_from_ct`` (1, 4, 4), which may be some millimetres off.
    """
    pose = torch.from_numpy(np.array(view.camera_from_rig)) @ rig_from_ct
    width = level_width(view.camera, isocentre_depth(pose, projector.isocentre_lps_mm), _PIXEL_MM)
    small, camera = downsample(view.radiograph, view.camera, width)
    usable = np.array(small.mask)
    if min(usable.shape) < _SMALLEST_PX or not usable.any():
        return view
    moving = projector.image(pose, camera, projector.sampling_axes(pose))[0].cpu().numpy()
    seen = _scaled_top_hat(np.array(small.attenuation), usable)
    known = _scaled_top_hat(moving, usable)
    explained = _largest_near(known, caution.slack_mm)
    certain = (seen > caution.dense) & (_EXPLAINED * seen > explained) & usable
    if not certain.any():
        return view
    foreign = _grown(_continued(certain, seen, usable), max(1, round(_MARGIN_MM / _PIXEL_MM)))
    return replace(view, radiograph=_masked(view.radiograph, foreign))


def _scaled_top_hat(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """In robust standard deviations above its median; 0 where not usable."""
    from scipy import ndimage

    radius = round(_WIDTH_MM / 2 / _PIXEL_MM)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x**2 + y**2 <= radius**2
    smooth = ndimage.gaussian_filter(np.where(usable, image, np.median(image[usable])), 0.7)
    low = ndimage.minimum_filter(np.where(usable, smooth, np.inf), footprint=disc)
    low = np.where(np.isfinite(low), low, smooth)
    opened = ndimage.maximum_filter(np.where(usable, low, -np.inf), footprint=disc)
    opened = np.where(np.isfinite(opened), np.minimum(opened, smooth), smooth)
    hat = np.where(usable, smooth - ndimage.gaussian_filter(opened, 2.0), 0.0)
    values = hat[usable]
    middle = float(np.median(values))
    scale = 1.4826 * float(np.median(np.abs(values - middle)))
    return np.asarray(np.where(usable, (hat - middle) / max(scale, 1e-9), 0.0))


def _largest_near(image: NDArray[np.float64], slack_mm: float) -> NDArray[np.float64]:
    from scipy import ndimage

    return np.asarray(ndimage.maximum_filter(image, 2 * round(slack_mm / _PIXEL_MM) + 1))


def _continued(
    certain: NDArray[np.bool_], seen: NDArray[np.float64], usable: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """``certain`` with what hangs together with it and is dense enough."""
    from scipy import ndimage

    reach = _REACH_MM / _PIXEL_MM
    share = ndimage.gaussian_filter(certain.astype(np.float64), reach)
    density = ndimage.gaussian_filter(np.where(certain, seen, 0.0), reach)
    typical = density / np.maximum(share, 1e-9)
    likely = (seen > np.maximum(_LEAST_DENSE, _SAME_SHARE * typical)) & usable & (share > 1e-4)
    return np.asarray(
        ndimage.binary_propagation(certain, mask=likely | certain, structure=np.ones((3, 3)))
    )


def _grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(mask, iterations=pixels))


def _masked(radiograph: Radiograph, foreign: NDArray[np.bool_]) -> Radiograph:
    """With the pixels under ``foreign``, a mask of fewer pixels, not usable."""
    rows = np.arange(radiograph.height) * foreign.shape[0] // radiograph.height
    columns = np.arange(radiograph.width) * foreign.shape[1] // radiograph.width
    return radiograph.without(foreign[np.ix_(rows, columns)], "foreign")
