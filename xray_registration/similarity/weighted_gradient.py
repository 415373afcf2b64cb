"""Gradients weighted by what they are worth: for fine edges of bones in noise and before clutter.

The residual is r = P (g D S - D F) / s. D are the derivatives of a smoothed picture (attenuations),
F the fixed picture, S the bones alone. What stays behind and before them, the background B, is
known only roughly, and so is used in three ways:

- g, the gain of the bones in F (scatter, beam hardening, a window), is fitted in a wide
  neighbourhood together with a gain of B: one gain for both would be too small, as B does not fit
  as well as the bones do, and bones that seem to have too little contrast are pushed towards the
  source, where they are larger.
- s^2 = noise^2 + clutter * mean |g D B|^2 / 2 is what the difference must be expected to be. The
  noise is read from the picture itself.
- P takes out what is proportional to D B, tile by tile: the background has any gain there.

All three are found at the start of a level and then held, so r is linear in S. Against
`GradientResidual`, where every place has the same say, the say of a place grows with what it can
tell: the depth of a bone in one picture hangs on a tenth of a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.similarity.filters import (
    blurred,
    derivatives,
    doubled,
    eroded,
    halved,
    masked_derivatives,
    tile_sums,
)
from xray_registration.similarity.noise import noise_variance

_SMALLEST_HALVED_WINDOW_PX = 8.0
_LEAST_GAIN = 0.2  # of that of the whole picture
_LEAST_NOISE = 0.1  # of the median: a flat part of a clipped window knows nothing
_LEAST_VARIANCE = 1e-3  # of the picture's own structure: where there is no noise at all
_LEAST_SHARE = 1e-3  # of the tiles' mean: a background without structure takes nothing out


@dataclass(frozen=True)
class WeightedTarget:
    """The fixed picture of a level, and how it is compared, for each of S starts.

    Attributes:
        gradient: (2, H, W) of the fixed picture.
        weight: (H, W) in 0..1; 0 at masked pixels and close to them.
        mask: (H, W) in 0..1, the pixels that smoothing may draw from; None for all.
        noise: (H, W) variance of a component of ``gradient``.
        gain: (S, H, W) of the bones; None before the bones are known.
        scale: (S, H, W) 1 / s; 0 where not usable.
        background: (S, 2, H, W) gradients of the background times ``scale``, each tile of length 1.
        compared: (S, 2, H, W) P D F / s.
    """

    gradient: Tensor
    weight: Tensor
    mask: Tensor | None
    noise: Tensor
    gain: Tensor | None = None
    scale: Tensor | None = None
    background: Tensor | None = None
    compared: Tensor | None = None

    def at(self, places: Tensor) -> WeightedTarget:
        """Of the starts ``places`` (b,) only."""
        parts = (self.gain, self.scale, self.background, self.compared)
        gain, scale, background, compared = (None if x is None else x[places] for x in parts)
        return replace(self, gain=gain, scale=scale, background=background, compared=compared)


@dataclass(frozen=True)
class WeightedGradientResidual:
    """Parameters in pixels of the level.

    Attributes:
        smoothing_px: Gaussian before differentiation.
        window_px: Gaussian in which noise and clutter are measured.
        gain_px: Gaussian in which the bones' gain is fitted.
        tile_px: side of the tiles in each of which the background may have any gain.
        clutter: share of the background's gradient energy that it is taken to be wrong by; beyond 1
            since errors of neighbouring pixels are alike.
    """

    smoothing_px: float = 1.0
    window_px: float = 8.0
    gain_px: float = 32.0
    tile_px: int = 16
    clutter: float = 2.0

    def __post_init__(self) -> None:
        lengths_ok = self.smoothing_px >= 0 and self.window_px > 0 and self.gain_px > 0
        if not (lengths_ok and self.tile_px >= 2 and 0 <= self.clutter < math.inf):
            raise InputError(
                f"{self}: expected smoothing >= 0, windows > 0, tiles of 2 or more pixels and "
                "clutter >= 0."
            )

    @property
    def reach_px(self) -> int:
        """How far from a pixel that must not count its neighbours do not count either."""
        return 1 + round(self.smoothing_px)

    def target(self, fixed: Tensor, mask: Tensor) -> WeightedTarget:
        """Prepare the fixed picture (H, W) with its mask (H, W) bool, True = usable."""
        usable = eroded(mask, self.reach_px).to(fixed.dtype)
        drawn_from = None if bool(mask.all()) else mask.to(fixed.dtype)
        gradient = self._gradient(fixed[None], drawn_from, usable)[0]
        noise = noise_variance(fixed, mask, self.window_px) * self._noise_gain(fixed)
        inside = usable > 0
        if bool(inside.any()):
            least = _LEAST_NOISE * noise[inside].median()
            least = least + _LEAST_VARIANCE * gradient.square().sum(0)[inside].mean() / 2
            noise = noise.clamp_min(float(least))
        return WeightedTarget(gradient, usable, drawn_from, noise.clamp_min(1e-12))

    def held(self, target: WeightedTarget, bones: Tensor, background: Tensor) -> WeightedTarget:
        """With gain, variance and background for starts, whose pictures (S, H, W) these are."""
        usable = target.weight
        moving = self._gradient(bones, target.mask, usable)
        behind = self._gradient(background, target.mask, usable)
        gain = self._gain(target, moving, behind)
        energy = (gain[:, None] * behind).square().sum(1) / 2
        variance = target.noise + self.clutter * _local_mean(energy, usable, self.window_px)
        scale = usable * variance.rsqrt()
        scaled = behind * scale[:, None]
        length = tile_sums(scaled.square().sum(1), self.tile_px)
        length = length + _LEAST_SHARE * length.mean((1, 2), keepdim=True) + 1e-20
        unit = scaled * self._over_tiles(length.rsqrt(), usable)[:, None]
        held = replace(target, gain=gain, scale=scale, background=unit)
        fixed = target.gradient * scale[:, None]
        return replace(held, compared=self._without_background(fixed[:, None], held)[:, 0])

    def __call__(self, bones: Tensor, target: WeightedTarget) -> Tensor:
        """Residual (B, 2, H, W) of pictures of the bones (B, H, W), one for each start held."""
        return self._compared(bones[:, None], target)[:, 0] - _known(target.compared)

    def with_jacobian(
        self, bones: Tensor, jacobian: Tensor, target: WeightedTarget
    ) -> tuple[Tensor, Tensor]:
        """Residual (B, 2, H, W) and its derivative (B, Q, 2, H, W) from that of the picture."""
        both = self._compared(torch.cat((bones[:, None], jacobian), 1), target)
        return both[:, 0] - _known(target.compared), both[:, 1:]

    def correlation(self, bones: Tensor, target: WeightedTarget, weight: Tensor) -> Tensor:
        """Correlation (B,) in -1..1 of what is compared, weighted by ``weight`` (B, H, W)."""
        moving, fixed = self._compared(bones[:, None], target)[:, 0], _known(target.compared)
        weights = (weight * target.weight)[:, None]
        both = (weights * moving * fixed).sum((1, 2, 3))
        lengths = [(weights * x.square()).sum((1, 2, 3)) for x in (moving, fixed)]
        return both / (lengths[0] * lengths[1]).sqrt().clamp_min(1e-12)

    def _compared(self, images: Tensor, target: WeightedTarget) -> Tensor:
        """P g D / s (B, N, 2, H, W) of images (B, N, H, W); linear in them."""
        batch, count, height, width = images.shape
        gradient = self._gradient(images.flatten(0, 1), target.mask, target.weight)
        factor = _known(target.gain) * _known(target.scale)
        scaled = gradient.view(batch, count, 2, height, width) * factor[:, None, None]
        return self._without_background(scaled, target)

    def _without_background(self, scaled: Tensor, target: WeightedTarget) -> Tensor:
        """(B, N, 2, H, W) less its projection, in each tile, on the background's gradients."""
        unit = _known(target.background)
        batch, count, _, height, width = scaled.shape
        # component by component: sums over an axis of two are slow
        along = scaled[:, :, 0] * unit[:, None, 0]
        along = torch.addcmul(along, scaled[:, :, 1], unit[:, None, 1]).flatten(0, 1)
        share = self._over_tiles(tile_sums(along, self.tile_px), along[0])
        share = share.view(batch, count, height, width)
        return torch.addcmul(scaled, share[:, :, None], unit[:, None], value=-1)

    def _gain(self, target: WeightedTarget, moving: Tensor, behind: Tensor) -> Tensor:
        """Gain (S, H, W) of the bones: least squares with a gain for the background, both drawn to
        those of the whole picture where a neighbourhood shows too little of them.
        """
        usable, trust = target.weight, target.noise.median() / target.noise
        pairs = [(moving, moving), (moving, behind), (behind, behind)]
        pairs += [(moving, target.gradient[None]), (behind, target.gradient[None])]
        products = [(x * y).sum(1) * trust for x, y in pairs]
        means = [_mean(x, usable) for x in products]
        local = [_local_mean(x, usable, self.gain_px) for x in products]
        whole = _solved(*means)
        # a ridge of the mean energies: as if every place had seen the whole picture once as well
        added = (means[0], means[2], means[0] * whole[0], means[2] * whole[1])
        places = (local[0], local[2], local[3], local[4])
        mm, bb, mf, bf = (x + y for x, y in zip(places, added, strict=True))
        gain, _ = _solved(mm, local[1], bb, mf, bf)
        return torch.maximum(gain, _LEAST_GAIN * whole[0].clamp_min(1e-3))

    def _gradient(self, images: Tensor, mask: Tensor | None, usable: Tensor) -> Tensor:
        """See `masked_derivatives`."""
        return masked_derivatives(images, self.smoothing_px, mask, usable)

    def _noise_gain(self, like: Tensor) -> float:
        """Variance of a component of the gradient of white noise of variance 1."""
        size = 2 * math.ceil(2.5 * self.smoothing_px) + 5
        impulse = like.new_zeros(1, size, size)
        impulse[0, size // 2, size // 2] = 1
        return float(derivatives(blurred(impulse, self.smoothing_px))[0, 0].square().sum())

    def _over_tiles(self, values: Tensor, like: Tensor) -> Tensor:
        """(N, H, W) with the value of each tile (N, h, w) at its pixels; H, W of ``like``."""
        large = values.repeat_interleave(self.tile_px, -2).repeat_interleave(self.tile_px, -1)
        return large[..., : like.shape[-2], : like.shape[-1]]


def _known(part: Tensor | None) -> Tensor:
    assert part is not None, "a target must be held before it is compared"
    return part


def _solved(mm: Tensor, mb: Tensor, bb: Tensor, mf: Tensor, bf: Tensor) -> tuple[Tensor, Tensor]:
    """Solution of the symmetric equations [[mm, mb], [mb, bb]] x = [mf, bf], element by element."""
    determinant = (mm * bb - mb**2).clamp_min(1e-6 * (mm * bb).abs() + 1e-30)
    return (bb * mf - mb * bf) / determinant, (mm * bf - mb * mf) / determinant


def _mean(images: Tensor, usable: Tensor) -> Tensor:
    """Mean (N, 1, 1) of images (N, H, W) over the usable pixels."""
    return ((images * usable).sum((-2, -1)) / usable.sum().clamp_min(1))[:, None, None]


def _local_mean(images: Tensor, usable: Tensor, window_px: float) -> Tensor:
    """Gaussian mean (N, H, W) over the usable pixels only; wide windows on smaller pictures."""
    values, share, sizes = images * usable, usable[None], []
    while window_px >= _SMALLEST_HALVED_WINDOW_PX:
        sizes.append(tuple(values.shape[-2:]))
        values, share, window_px = halved(values), halved(share), window_px / 2
    means = blurred(values, window_px) / blurred(share, window_px).clamp_min(1e-3)
    for size in reversed(sizes):
        means = doubled(means, size)
    return means
