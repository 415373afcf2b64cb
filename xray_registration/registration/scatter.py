"""Scattered radiation in the moving picture.

What reaches the detector is not exp(-L) alone, L being the line integral: radiation scattered in
the patient adds a nearly even haze, which flattens the logarithm where the patient is dense. An
edge that is steep on one side (a skull's rim, a cortex) then seems to lie further in, alike on all
sides, and the depth is wrong by some tenths of a millimetre. Ray by ray, scatter is in proportion
to what arrives times what was removed on the way, about exp(-L) L (Ohnesorge, Flohr &
Klingenbeck-Regn, Eur. Radiol. 9 (1999) 563); here its mean over the picture serves for all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def with_scatter(images: Tensor, scatter_to_primary: float) -> Tensor:
    """Line integrals L (B, H, W) -> -log(exp(-L) + s), s = ratio x mean(exp(-L) L)."""
    if scatter_to_primary == 0:
        return images
    primary = torch.exp(-images)
    return -torch.log(primary + _haze(images, primary, scatter_to_primary))


def with_scatter_and_jacobian(
    images: Tensor, jacobian: Tensor, scatter_to_primary: float
) -> tuple[Tensor, Tensor]:
    """The same with the derivative (B, Q, H, W) from that of the line integrals.

    d(-log(P + s)) = (P dL - ds) / (P + s), ds = ratio x mean(P (1 - L) dL).
    """
    if scatter_to_primary == 0:
        return images, jacobian
    primary = torch.exp(-images)
    detected = primary + _haze(images, primary, scatter_to_primary)
    by_line = scatter_to_primary * primary * (1 - images) / images[0].numel()
    change = torch.einsum("bqhw,bhw->bq", jacobian, by_line)
    inverse = 1 / detected
    jacobian = jacobian * (primary * inverse)[:, None]
    jacobian -= change[..., None, None] * inverse[:, None]
    return -torch.log(detected), jacobian


def _haze(images: Tensor, primary: Tensor, scatter_to_primary: float) -> Tensor:
    return scatter_to_primary * (primary * images).mean((1, 2), keepdim=True)
