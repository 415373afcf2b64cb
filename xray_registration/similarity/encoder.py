"""CNN-Transformer encoders that keep a map: pictures (B, 1 + mask) to features at every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from xray_registration.errors import InputError

_TOKENS = 12  # rows and columns of the map that attends: all of a picture sees all of it


@dataclass(frozen=True)
class EncoderConfig:
    """Attributes: channels of the features; width of the layers; transformer layers; heads."""

    channels: int = 7
    width: int = 24
    layers: int = 1
    heads: int = 4

    def __post_init__(self) -> None:
        if min(self.channels, self.width, self.heads) < 1 or self.layers < 0:
            raise InputError(f"{self}: expected positive sizes.")
        if self.width % 8 or (2 * self.width) % self.heads:
            raise InputError("width must be a multiple of 8, and 2 width one of heads.")


class _LayerNorm(nn.LayerNorm):
    """Written out: where torch's own is differentiated forward and then in reverse, as training on
    a Jacobian does, the gradient is wrong (torch 2.13: by 10 to 100 % against finite differences).
    """

    def forward(self, x: Tensor) -> Tensor:
        away = x - x.mean(-1, keepdim=True)
        deviation = (away.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return away / deviation * self.weight + self.bias


class _Attention(nn.Module):
    """Self-attention and a small network, each beside a way around it.

    Written out: the fused attention of torch has no forward-mode derivative.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm, self.norm2 = _LayerNorm(width), _LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, tokens, 3, self._heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scale = query.shape[-1] ** -0.5
        weights = ((query * scale) @ key.mT).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(mixed)
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))


class Encoder(nn.Module):
    """Half the resolution inside, a quarter and coarser for the context; features at full size."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = nn.Sequential(
            nn.Conv2d(2, width, 5, 2, 2), nn.GroupNorm(4, width), nn.GELU(),
            nn.Conv2d(width, width, 3, 1, 1), nn.GroupNorm(4, width), nn.GELU(),
        )  # fmt: skip
        self.down = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.GroupNorm(4, 2 * width), nn.GELU()
        )
        self.place = nn.Parameter(torch.zeros(1, 2 * width, _TOKENS, _TOKENS))
        self.attention = nn.ModuleList(
            _Attention(2 * width, config.heads) for _ in range(config.layers)
        )
        self.merge = nn.Sequential(
            nn.Conv2d(3 * width, width, 3, 1, 1), nn.GroupNorm(4, width), nn.GELU()
        )
        self.head = nn.Conv2d(width, config.channels, 1)

    def forward(self, images: Tensor, usable: Tensor) -> Tensor:
        """Features (B, C, H, W) of normalised pictures (B, H, W) with usable pixels (B, H, W)."""
        size = images.shape[-2:]
        fine = self.stem(torch.stack((images, usable.expand_as(images)), 1))
        coarse = self.down(fine)
        if self.attention:
            tokens = F.adaptive_avg_pool2d(coarse, _TOKENS) + self.place
            sequence = tokens.flatten(2).mT
            for layer in self.attention:
                sequence = layer(sequence)
            context = sequence.mT.unflatten(2, (_TOKENS, _TOKENS))
            context = F.interpolate(context, size=coarse.shape[-2:], mode="bilinear")
            coarse = coarse + context
        up = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        features = self.head(self.merge(torch.cat((fine, up), 1)))
        return F.interpolate(features, size=size, mode="bilinear")
