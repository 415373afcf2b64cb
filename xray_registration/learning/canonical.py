"""From any radiograph with its camera to what the network sees: one fixed camera, no window.

The picture is resampled to a square camera with a fixed field of view whose axis meets the middle
of the real picture. Turning a camera about its focal spot changes no ray, so any pixel size,
detector, crop and principal point are the same picture afterwards; what a smaller detector does not
show is masked. The distance of the focal spot is not touched: a patient much nearer or farther than
in training is another picture.

Then intensities: mean and standard deviation of the usable pixels are taken out (channel 0), and
those of every pixel's neighbourhood (channel 1), so that a window's level and width change nothing
and a shading little; channel 2 says which pixels are usable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.imaging.pyramid import downsample
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.rendering.homography import resample_turned

CHANNELS = 3
_CLIP = 3.0
_BLOCK = 4  # the neighbourhood's statistics are smooth: they are taken on block means
_WINDOW_BLOCKS = 5
_SMALLEST_USABLE = 0.02


@dataclass(frozen=True)
class CanonicalCamera:
    """What the network looks through.

    Attributes:
        size: rows and columns, a multiple of 32.
        field_rad: angle of view, small: width over focal length.
    """

    size: int = 96
    field_rad: float = 0.292

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32:
            raise InputError(f"size is {self.size}; expected a multiple of 32.")
        if not 0.02 < self.field_rad < 1.5:
            raise InputError(f"field_rad is {self.field_rad}; expected 0.02 to 1.5.")

    @property
    def camera(self) -> Camera:
        """The intrinsics; without sdd_mm, which no ray depends on."""
        focal, middle = self.size / self.field_rad, (self.size - 1) / 2
        k = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]])
        return Camera(k, self.size, self.size)


def canonical_view(
    radiograph: Radiograph, camera: Camera, canonical: CanonicalCamera
) -> tuple[Tensor, Tensor, NDArray[np.float64]]:
    """The radiograph as the canonical camera sees it.

    Returns:
        image (H, W) float32, bone bright; usable (H, W) bool; and the rotation (3, 3)
        canonical_from_camera, so that ``canonical_from_ct = rotation @ camera_from_ct``.

    Raises:
        InputError: hardly a usable pixel falls into the canonical field.
    """
    target = canonical.camera
    # area means first: the interpolation below reads four pixels only
    field_px = camera.width / camera.fx * target.fx
    if field_px < camera.width:
        radiograph, camera = downsample(radiograph, camera, max(16, math.ceil(field_px)))
    middle = np.array([(camera.width - 1) / 2, (camera.height - 1) / 2, 1.0])
    axis = np.linalg.inv(camera.K) @ middle
    rotation = _turn_to_axis(axis / np.linalg.norm(axis))
    stack = torch.from_numpy(
        np.stack((np.where(radiograph.mask, radiograph.attenuation, 0.0), radiograph.mask)).astype(
            np.float32
        )
    )
    turned = torch.from_numpy(rotation)[None].expand(2, 3, 3)
    seen, inside = resample_turned(stack, camera, target, turned, interpolation="bilinear")
    usable = inside[0] & (seen[1] > 0.5)
    if float(usable.float().mean()) < _SMALLEST_USABLE:
        raise InputError(
            f"{radiograph.source}: only {100 * float(usable.float().mean()):.1f} % of the "
            f"regressor's field of view ({canonical.field_rad:.3f} rad) shows usable pixels; "
            f"expected at least {100 * _SMALLEST_USABLE:g} %."
        )
    return torch.where(usable, seen[0] / seen[1].clamp_min(0.5), 0.0), usable, rotation


def network_input(images: Tensor, usable: Tensor) -> Tensor:
    """(B, 3, H, W) float32 of pictures (B, H, W) of any window and usable pixels (B, H, W) bool."""
    mask = usable.to(torch.float32)[:, None]
    x = images.to(torch.float32)[:, None] * mask
    share = mask.mean((2, 3), keepdim=True).clamp_min(1e-6)
    mean = x.mean((2, 3), keepdim=True) / share
    x = (x - mean) * mask
    deviation = ((x * x).mean((2, 3), keepdim=True) / share).sqrt()
    z = x / deviation.clamp_min(1e-12)
    return torch.cat((z.clamp(-_CLIP, _CLIP) / 2, _local(z, mask), mask), 1)


def _local(z: Tensor, mask: Tensor) -> Tensor:
    """Contrast to the neighbourhood in units of its standard deviation, (B, 1, H, W)."""
    blocks = F.avg_pool2d(torch.cat((mask, z, z * z), 1), _BLOCK)
    pad = _WINDOW_BLOCKS // 2
    around = F.avg_pool2d(blocks, (_WINDOW_BLOCKS, 1), 1, (pad, 0))
    around = F.avg_pool2d(around, (1, _WINDOW_BLOCKS), 1, (0, pad))
    share = around[:, :1].clamp_min(1e-3)
    mean = around[:, 1:2] / share
    spread = (around[:, 2:] / share - mean * mean).clamp_min(0.0).sqrt()
    both = torch.cat((mean, spread), 1)
    both = F.interpolate(both, size=z.shape[2:], mode="bilinear", align_corners=False)
    # a tenth of the whole picture's spread is the floor: noise of a flat region stays small
    local = (z - both[:, :1]) / (both[:, 1:] + 0.1)
    return local.clamp(-_CLIP, _CLIP) / 2 * mask


def _turn_to_axis(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rotation that takes the unit vector ``axis`` to the z axis."""
    x, y, z = axis
    share = 1.0 / (1.0 + z)
    return np.array(
        [
            [1 - x * x * share, -x * y * share, -x],
            [-x * y * share, 1 - y * y * share, -y],
            [x, y, z],
        ]
    )
