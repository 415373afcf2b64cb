"""From line integrals to the logarithm that a detector shows.

A rendering adds up attenuation at one energy. The beam has many, and its soft part is used up
first (hardening); and radiation scattered in the patient adds a nearly even haze. Both flatten the
logarithm where the patient is dense. An edge that is steep on one side (a skull's rim, a cortex)
then seems to lie further in, alike on all sides, and the depth is wrong by some tenths of a
millimetre. Ray by ray, scatter is in proportion to what arrives times what was removed on the way,
about exp(-L) L (Ohnesorge, Flohr & Klingenbeck-Regn, Eur. Radiol. 9 (1999) 563); here its mean over
the picture serves for all of it. Figures: docs/design/detected.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xray_registration.errors import InputError

_SHARES = (0.3, 0.4, 0.3)  # of the soft, the middle and the hard part of the beam


@dataclass(frozen=True)
class BeamConfig:
    """What the moving picture is given of a real beam; all 0: a monochromatic one without scatter.

    Attributes:
        hardening: h; the soft part of the beam is attenuated 1 + h times as much as the middle, the
            hard part 1 - h / 2 times. For 40, 60 and 90 keV h would be 0.3 in water and 0.7 to 1.1
            in bone.
        scatter_to_primary: scattered radiation that reaches the detector through its grid.
    """

    hardening: float = 0.6
    scatter_to_primary: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.hardening < 2:
            raise InputError(f"hardening is {self.hardening}; expected 0 or more, below 2.")
        if not 0 <= self.scatter_to_primary < float("inf"):
            raise InputError(
                f"scatter_to_primary is {self.scatter_to_primary}; expected 0 or more."
            )

    @property
    def is_ideal(self) -> bool:
        """Whether nothing is done."""
        return self.hardening == 0 and self.scatter_to_primary == 0


IDEAL_BEAM = BeamConfig(0.0, 0.0)


def detected(lines: Tensor, beam: BeamConfig) -> Tensor:
    """Line integrals L (B, H, W) -> -log(P + s).

    P is what arrives, H = -log P, s = ratio x mean(P H).
    """
    if beam.is_ideal:
        return lines
    hard, _ = _hardened(lines, beam.hardening)
    primary = torch.exp(-hard)
    return -torch.log(primary + _haze(hard, primary, beam))


def detected_with_jacobian(
    lines: Tensor, jacobian: Tensor, beam: BeamConfig
) -> tuple[Tensor, Tensor]:
    """The same with the derivative (B, Q, H, W) from that of the line integrals.

    d(-log(P + s)) = (P dH - ds) / (P + s), ds = ratio x mean(P (1 - H) dH), dH = (dH / dL) dL.
    """
    if beam.is_ideal:
        return lines, jacobian
    hard, slope = _hardened(lines, beam.hardening)
    primary = torch.exp(-hard)
    inverse = 1 / (primary + _haze(hard, primary, beam))
    by_line = slope * primary
    of_haze = by_line * (1 - hard) * (beam.scatter_to_primary / lines[0].numel())
    change = torch.einsum("bqhw,bhw->bq", jacobian, of_haze)
    jacobian = jacobian * (by_line * inverse)[:, None]
    jacobian -= change[..., None, None] * inverse[:, None]
    return torch.log(inverse), jacobian


def _hardened(lines: Tensor, hardening: float) -> tuple[Tensor, Tensor]:
    """H = -log(sum of the parts that arrive) and dH / dL."""
    total, slope = torch.zeros_like(lines), torch.zeros_like(lines)
    for share, relative in zip(_SHARES, (1 + hardening, 1.0, 1 - hardening / 2), strict=True):
        part = share * torch.exp(-relative * lines)
        total += part
        slope += relative * part
    return -torch.log(total), slope / total


def _haze(hard: Tensor, primary: Tensor, beam: BeamConfig) -> Tensor:
    return beam.scatter_to_primary * (primary * hard).mean((1, 2), keepdim=True)
