"""How much a step is damped: Nielsen's rule, by the gain ratio, for every element by itself.

Madsen, Nielsen, Tingleff, *Methods for Non-Linear Least Squares Problems* (2004), section 3.2. The
damping decides where a step leads, but counts as a constant for whoever differentiates the step.
"""

from __future__ import annotations

import torch
from torch import Tensor

GREATEST_DAMPING = 1e6
SMALLEST_DAMPING = 1e-7


class GainRatioDamping:
    """Lambda of B elements, relative to the normal matrix's diagonal.

    Attributes:
        value: (B,) float64.
    """

    def __init__(self, batch: int, initial: float) -> None:
        self.value = torch.full((batch,), initial, dtype=torch.float64)
        self._growth = torch.full((batch,), 2.0, dtype=torch.float64)

    def update(self, active: Tensor, taken: Tensor, gain: Tensor) -> None:
        """After a step of the elements ``active``: down by the gain ratio when it was ``taken``,
        up ever faster when not.

        Args:
            active: (b,) places in the batch.
            taken: (b,) bool.
            gain: (b,) decrease of the cost over the decrease that the model predicted.
        """
        good, bad = active[taken], active[~taken]
        factor = (1 - (2 * gain[taken] - 1) ** 3).clamp(1 / 8, 2.0)
        # another tensor each time: a graph may hold the last one
        value = self.value.clone()
        value[good] = (value[good] * factor).clamp_min(SMALLEST_DAMPING)
        self._growth[good] = 2.0
        value[bad] = (value[bad] * self._growth[bad]).clamp_max(GREATEST_DAMPING)
        self._growth[bad] *= 2.0
        self.value = value

    def exhausted(self, active: Tensor) -> Tensor:
        """(b,) bool: no more damping would help."""
        return self.value[active] >= GREATEST_DAMPING
