"""Every reason to end, one element at a time."""

from __future__ import annotations

import torch

from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.least_squares.stopping import Stopping, Termination

CONFIG = LevenbergMarquardtConfig(min_step_mm=0.1, min_decrease=1e-3)


def _step(
    stopping: Stopping,
    length_mm: float = 1.0,
    damping: float = 0.01,
    taken: bool = True,
    relative: float = 0.5,
) -> None:
    stopping.after_step(
        torch.tensor([0]),
        torch.tensor([length_mm]),
        torch.tensor([damping]),
        torch.tensor([taken]),
        torch.tensor([relative]),
    )


def _one(limit: int = 100) -> Stopping:
    return Stopping(torch.tensor([True]), limit, CONFIG)


def test_good_steps_go_on_until_the_limit() -> None:
    stopping = _one(limit=2)
    for _ in range(2):
        assert stopping.going_on().tolist() == [0]
        _step(stopping)
    assert stopping.going_on().tolist() == []
    assert stopping.reasons == (Termination.ITERATIONS,)
    assert stopping.iterations.tolist() == [3]


def test_a_short_step() -> None:
    for taken, damping, reason in (
        (True, 0.01, Termination.STEP),
        (True, 50.0, Termination.STEP),
        (False, 0.01, Termination.STEP),
        (False, 50.0, Termination.STALLED),
    ):
        stopping = _one()
        _step(stopping, 0.05, damping, taken)
        assert stopping.reasons == (reason,)


def test_three_small_decreases_in_a_row() -> None:
    stopping = _one()
    for relative in (1e-4, 1e-4, 0.5, 1e-4, 1e-4):
        _step(stopping, relative=relative)
    assert stopping.reasons == ()
    _step(stopping, relative=1e-4)
    assert stopping.reasons == (Termination.DECREASE,)


def test_a_refused_step_is_no_small_decrease() -> None:
    stopping = _one()
    for _ in range(5):
        _step(stopping, taken=False, relative=-1.0)
    assert stopping.reasons == ()


def test_not_finite_from_the_beginning_and_stalled_by_the_damping() -> None:
    stopping = Stopping(torch.tensor([True, False, True]), 100, CONFIG)
    assert stopping.going_on().tolist() == [0, 2]
    stopping.stalled(torch.tensor([0, 1]))
    assert stopping.going_on().tolist() == [2]
    stopping.stalled(torch.tensor([2]))
    stalled = Termination.STALLED
    assert stopping.reasons == (stalled, Termination.NOT_FINITE, stalled)
