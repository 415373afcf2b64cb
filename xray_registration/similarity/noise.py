"""How noisy a picture is, from the picture alone."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xray_registration.similarity.filters import blurred, eroded

# The difference of two Laplacians (Immerkaer, Computer Vision and Image Understanding 64 (1996)
# 300): smooth pictures and straight edges along the axes give nothing.
_KERNEL = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
_GAIN = 6.0  # root of the sum of the kernel's squares
_SIGMA_PER_MEAN = math.sqrt(math.pi / 2)  # of absolute values


def noise_variance(image: Tensor, mask: Tensor, window_px: float) -> Tensor:
    """Variance (H, W) of the noise at each pixel of (H, W), if the noise is white.

    From the usable pixels (mask (H, W) bool) in a Gaussian neighbourhood of ``window_px``. Means of
    absolute values, so an edge counts less than in a mean square. 0 far from any usable pixel.
    """
    kernel = torch.tensor(_KERNEL, dtype=image.dtype, device=image.device)
    padded = F.pad(image[None, None], (1, 1, 1, 1), mode="replicate")
    fine = F.conv2d(padded, kernel[None, None])[0] / _GAIN
    usable = eroded(mask, 1).to(image.dtype)[None]
    share = blurred(usable, window_px).clamp_min(1e-3)
    sigma = _SIGMA_PER_MEAN * blurred(fine.abs() * usable, window_px) / share
    return sigma[0].square()
