"""A network that finds, in the picture alone, metal and blades that a receiver has not masked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from xray_registration.errors import InputError
from xray_registration.learning.checkpoint import Checkpoint, described
from xray_registration.similarity.filters import blurred

KIND = "picture_mask"
METAL, BLADES = 0, 1  # channels of the answer
_CHANNELS = 3
_FOLD = 2  # the layers work on pictures of half the size, with all pixels kept as channels
_NEAR_PX = 12.0
_LARGEST = 5.0  # of the inputs, in standard deviations


@dataclass(frozen=True)
class MaskNetworkConfig:
    """Attributes: widths of the layers, finest first; pixel_mm at the isocentre."""

    widths: tuple[int, ...] = (24, 32, 48, 64, 96)
    pixel_mm: float = 0.8

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if len(self.widths) < 2 or min(self.widths) < 1 or not self.pixel_mm > 0:
            raise InputError(f"{self}: expected two widths or more, and positive numbers.")


class MaskNetwork(nn.Module):
    """A U-Net (Ronneberger et al., MICCAI 2015) with residual blocks."""

    def __init__(self, config: MaskNetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or MaskNetworkConfig()
        widths = self.config.widths
        down = zip((_CHANNELS * _FOLD**2, *widths[:-1]), widths, strict=True)
        self.down = nn.ModuleList(_Block(before, after) for before, after in down)
        up = zip(widths[:-1], widths[1:], strict=True)  # noqa: RUF007
        self.up = nn.ModuleList(_Block(fine + coarse, fine) for fine, coarse in up)
        self.head = nn.Conv2d(widths[0], 2 * _FOLD**2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, 3, H, W) of `mask_input` to logits (B, 2, H, W): metal, blades."""
        height, width = inputs.shape[-2:]
        step = _FOLD * 2 ** (len(self.down) - 1)
        padded = F.pad(inputs, (0, -width % step, 0, -height % step))
        x = F.pixel_unshuffle(padded, _FOLD)
        kept: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(kept[-1], 2) if kept else x)
            kept.append(x)
        for fine, block in zip(kept[-2::-1], list(self.up)[::-1], strict=True):
            x = block(torch.cat((fine, F.interpolate(x, scale_factor=2, mode="nearest")), 1))
        return F.pixel_shuffle(self.head(x), _FOLD)[:, :, :height, :width]


def mask_input(pictures: Tensor, usable: Tensor) -> Tensor:
    """Pictures (B, H, W) and usable pixels (B, H, W) to (B, 3, H, W) that know no window: the
    picture in standard deviations from its mean, the same from the mean of a neighbourhood, and
    the usable pixels.
    """
    mask = usable.to(pictures.dtype)
    count = mask.sum((1, 2), keepdim=True).clamp_min(1.0)

    def scaled(x: Tensor) -> Tensor:
        size = ((x * mask).square().sum((1, 2), keepdim=True) / count).sqrt()
        return (x / size.clamp_min(1e-5)).clamp(-_LARGEST, _LARGEST)

    mean = (pictures * mask).sum((1, 2), keepdim=True) / count
    share = blurred(mask, _NEAR_PX).clamp_min(1e-3)
    near = pictures - blurred(pictures * mask, _NEAR_PX) / share
    return torch.stack((scaled(pictures - mean), scaled(near) * mask, mask), 1)


def mask_network_from(checkpoint: Checkpoint) -> MaskNetwork:
    """Rebuild it, in evaluation mode.

    Raises:
        InputError: the description or the tensors do not fit this version.
    """
    with described(checkpoint, "mask network"):
        network = MaskNetwork(MaskNetworkConfig(**checkpoint.facts["network"]))
        network.load_state_dict(checkpoint.tensors)
    return network.eval()


class _Block(nn.Module):
    """Two convolutions beside a way around them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after, momentum=0.05),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after, momentum=0.05),
        )
        self.around = nn.Conv2d(before, after, 1, bias=False) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.around(x))
