"""What covers the anatomy in training pictures: metal, blades, a round intensifier. In 2-D.

Metal is drawn as capsules in the picture itself, with no relation to the anatomy: a network must
look past it, and must not learn where a surgeon would put it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

if TYPE_CHECKING:
    from xray_registration.learning.randomisation import Draws

_LONG, _SHORT = 2, 6  # rods or wires, and screws, in an image


def metal_path_mm(draws: Draws, size: tuple[int, int], px_per_mm: float) -> Tensor:
    """(B, H, W) mm of metal along the rays, at half the resolution inside and brought back up."""
    height, width = size[0] // 2, size[1] // 2
    scale = px_per_mm / 2
    count = _LONG + _SHORT
    # rods are about parallel and near one another, screws lie across and near the rods
    heading = draws.uniform(-0.4, 0.4, 1) + torch.where(
        draws.some(0.7)[:, 0], math.pi / 2, draws.uniform(0, math.pi, 1)
    )
    long_angles = heading + draws.uniform(-0.15, 0.15, _LONG)
    short_angles = heading + math.pi / 2 + draws.uniform(-0.7, 0.7, _SHORT)
    angles = torch.cat((long_angles, short_angles), 1)
    half = torch.cat((draws.uniform(15, 75, _LONG), draws.uniform(6, 24, _SHORT)), 1) * scale
    radius = torch.cat((draws.uniform(1.0, 3.2, _LONG), draws.uniform(1.5, 5.0, _SHORT)), 1)
    radius = radius * scale
    middle = draws.uniform(0.2, 0.8, 1, 2) * torch.tensor([width, height], device=draws.device)
    aside = draws.uniform(-30, 30, count) * scale
    along = draws.uniform(-45, 45, count) * scale
    cosine, sine = heading.cos(), heading.sin()
    x = middle[..., 0] + along * cosine - aside * sine
    y = middle[..., 1] + along * sine + aside * cosine
    there = draws.uniform(0, 1, count) < 0.7
    v = torch.arange(height, dtype=torch.float32, device=draws.device)[:, None]
    u = torch.arange(width, dtype=torch.float32, device=draws.device)[None, :]
    path = torch.zeros(draws.count, height, width, device=draws.device)
    for n in range(count):
        pick = (slice(None), n, None, None)
        du, dv = u - x[pick], v - y[pick]
        c, s = angles.cos()[pick], angles.sin()[pick]
        on_axis = (c * du + s * dv).abs().sub_(half[pick]).clamp_min_(0.0)
        off_axis = c * dv - s * du
        inside = radius[pick] ** 2 - off_axis * off_axis - on_axis * on_axis
        chord = inside.clamp_min_(0.0).sqrt_()
        path += torch.where(there[pick], chord, 0.0)
    path *= 2.0 / scale
    return F.interpolate(path[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def field_of_view(
    draws: Draws, size: tuple[int, int], collimated: float, round_: float
) -> tuple[Tensor, Tensor]:
    """Usable pixels and the open field, (B, H, W) bool each; the usable ones lie inside it.

    A receiver's mask is a little smaller than the field, by an amount that is drawn.
    """
    height, width = size
    v = torch.arange(height, device=draws.device)[None, :, None] - (height - 1) / 2
    u = torch.arange(width, device=draws.device)[None, None, :] - (width - 1) / 2
    angle = torch.where(draws.some(0.3), draws.uniform(-0.4, 0.4), draws.uniform(-0.15, 0.15))
    cosine, sine = angle.cos(), angle.sin()
    du = u - draws.uniform(-0.12, 0.12) * width
    dv = v - draws.uniform(-0.12, 0.12) * height
    along, across = (cosine * du + sine * dv).abs(), (cosine * dv - sine * du).abs()
    half_u, half_v = draws.uniform(0.2, 0.5) * width, draws.uniform(0.22, 0.5) * height
    blades = draws.some(collimated)
    distance = torch.maximum(along - half_u, across - half_v)
    distance = torch.where(blades, distance, -1e3)
    circle = (u * u + v * v).sqrt() - draws.uniform(0.4, 0.55) * width
    distance = torch.where(draws.some(round_), torch.maximum(distance, circle), distance)
    margin = draws.uniform(0.0, 3.0)
    return distance < -margin, distance < 0
