"""When an optimisation ends, and why; every element of a batch by itself."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from xray_registration.registration.config import LevenbergMarquardtConfig

_SMALL_STEPS_TO_STOP = 3
# with less damping than this, relative to the diagonal, a short step is the model's own
_DAMPING_OF_A_SHORT_STEP = 1.0


class Termination(str, Enum):
    """Why an optimisation ended.

    STEP: the model's own step is short: a minimum. STALLED: only heavy damping made it short, or
    the damping is at its limit, and still the cost does not fall.
    """

    STEP = "step_below_tolerance"
    DECREASE = "decrease_below_tolerance"
    ITERATIONS = "iteration_limit"
    STALLED = "no_descent_direction"
    NOT_FINITE = "not_finite"


class Stopping:
    """Counts evaluations and watches steps.

    Attributes:
        iterations: (B,) evaluations of residual and Jacobian so far.
    """

    def __init__(
        self, start_is_finite: Tensor, max_iterations: int, config: LevenbergMarquardtConfig
    ) -> None:
        """After the evaluation at the start; what is not finite (B,) there has ended."""
        batch = len(start_is_finite)
        self.iterations = torch.ones(batch, dtype=torch.long)
        self._small = torch.zeros(batch, dtype=torch.long)
        self._max_iterations, self._config = max_iterations, config
        self._ended: list[Termination | None] = [
            None if ok else Termination.NOT_FINITE for ok in start_is_finite.tolist()
        ]

    @property
    def reasons(self) -> tuple[Termination, ...]:
        """One per element, once all have ended."""
        return tuple(why for why in self._ended if why is not None)

    def going_on(self) -> Tensor:
        """Places (b,) of the elements that take another step."""
        active = torch.tensor(
            [n for n, why in enumerate(self._ended) if why is None], dtype=torch.long
        )
        over = self.iterations[active] > self._max_iterations
        for n in active[over].tolist():
            self._ended[n] = Termination.ITERATIONS
        return active[~over]

    def after_step(
        self, active: Tensor, length_mm: Tensor, damping: Tensor, taken: Tensor, relative: Tensor
    ) -> None:
        """Judge a step of the elements ``active`` (b,).

        Args:
            active: places in the batch.
            length_mm: (b,) of the step.
            damping: (b,) that it was solved with.
            taken: (b,) bool.
            relative: (b,) decrease of the cost over the cost.
        """
        self.iterations[active] += 1
        is_small = taken & (relative < self._config.min_decrease)
        self._small[active] = torch.where(is_small, self._small[active] + 1, 0)
        is_short = length_mm < self._config.min_step_mm
        is_refused = ~taken & (damping > _DAMPING_OF_A_SHORT_STEP)
        is_done = self._small[active] >= _SMALL_STEPS_TO_STOP
        marks = zip(active.tolist(), is_short.tolist(), is_refused.tolist(), is_done.tolist())
        for n, short, refused, done in marks:
            if short:
                self._ended[n] = Termination.STALLED if refused else Termination.STEP
            elif done:
                self._ended[n] = Termination.DECREASE

    def stalled(self, places: Tensor) -> None:
        """No damping helps at these; those that have ended keep their reason."""
        for n in places.tolist():
            self._ended[n] = self._ended[n] or Termination.STALLED
