"""What lies beside a bone whose CT shows nothing else: other bones, and soft tissue about them all.

For CTs of one segmented bone. The other bones are those of the batch's other pictures, mirrored (so
never the bone itself), turned, scaled and shifted; the soft tissue is a limb of elliptic section.
Both are added to the line integrals. With a CT of the whole patient neither is needed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

if TYPE_CHECKING:
    from xray_registration.learning.randomisation import Draws

_OTHERS = 3  # bones at most
_PER_MM = (0.016, 0.024)  # of soft tissue, 50 to 75 keV


def with_surroundings(line_integrals: Tensor, draws: Draws, px_per_mm: float) -> Tensor:
    """Line integrals (B, H, W), each with other bones and soft tissue added to it.

    Args:
        line_integrals: of the bones alone.
        draws: random numbers of the batch.
        px_per_mm: at the patient.
    """
    result = line_integrals + _limb(draws, line_integrals.shape[1:], px_per_mm)
    for n in range(_OTHERS):
        result = result + _moved(line_integrals.roll(n + 1, 0), draws)
    return result


def _moved(bones: Tensor, draws: Draws) -> Tensor:
    """Pictures (B, H, W) mirrored, turned, scaled, shifted and fainter or denser; some empty."""
    angle = draws.uniform(-math.pi, math.pi, 1)[:, 0]
    zoom = draws.uniform(0.7, 1.8, 1)[:, 0]
    shift = draws.uniform(-0.6, 0.6, 2)
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = (
        torch.stack((-cosine, -sine, shift[:, 0]), 1),
        torch.stack((-sine, cosine, shift[:, 1]), 1),
    )
    grid = F.affine_grid(
        torch.stack(rows, 1), [len(bones), 1, *bones.shape[1:]], align_corners=False
    )
    moved = F.grid_sample(bones[:, None], grid, align_corners=False)[:, 0]
    return moved * draws.uniform(0.5, 1.3) * draws.some(0.7)


def _limb(draws: Draws, size: tuple[int, ...], px_per_mm: float) -> Tensor:
    """(B, H, W) attenuation of a straight limb through the middle half of the picture."""
    height, width = size
    v = (
        torch.arange(height, device=draws.device)[None, :, None]
        - draws.uniform(0.25, 0.75) * height
    )
    u = torch.arange(width, device=draws.device)[None, None, :] - draws.uniform(0.25, 0.75) * width
    angle = draws.uniform(-math.pi, math.pi)
    off_axis = (angle.cos() * v - angle.sin() * u) / px_per_mm
    radius = draws.uniform(15.0, 55.0)
    chord = 2 * (radius.square() - off_axis.square()).clamp_min(0.0).sqrt()
    uneven = 1.0 + 0.2 * draws.smooth((height, width), 4)
    return chord * draws.uniform(0.4, 1.0) * draws.uniform(*_PER_MM) * uneven
