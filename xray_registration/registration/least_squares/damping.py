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
        value, growth = self.value[active], self._growth[active]
        factor = (1 - (2 * gain - 1) ** 3).clamp(1 / 8, 2.0)
        less = (value * factor).clamp_min(SMALLEST_DAMPING)
        more = (value * growth).clamp_max(GREATEST_DAMPING)
        # another tensor each time: a graph may hold the last one
        self.value = self.value.index_put((active,), torch.where(taken, less, more))
        self._growth[active] = torch.where(taken, 2.0, 2 * growth)

    def exhausted(self, active: Tensor) -> Tensor:
        """(b,) bool: no more damping would help."""
        return self.value[active] >= GREATEST_DAMPING
