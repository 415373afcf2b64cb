"""The damping after steps that went well, not so well, and badly."""

from __future__ import annotations

import pytest
import torch

from xray_registration.registration.least_squares.damping import (
    GREATEST_DAMPING,
    SMALLEST_DAMPING,
    GainRatioDamping,
)


def test_follows_the_gain_ratio() -> None:
    """Nielsen's rule: 1 - (2 gain - 1)^3 when taken; 2, 4, 8 in a row when not."""
    damping = GainRatioDamping(5, 1.0)
    active = torch.tensor([0, 1, 2, 4])
    gain = torch.tensor([1.0, 0.5, 0.0, -1.0]).double()
    taken = torch.tensor([True, True, True, False])
    for _ in range(3):
        damping.update(active, taken, gain)
    assert damping.value.tolist() == pytest.approx([8**-3, 1.0, 2**3, 1.0, 2 * 4 * 8])


def test_growth_begins_anew_after_a_good_step() -> None:
    damping = GainRatioDamping(1, 1.0)
    for taken in (False, False, True, False):
        damping.update(torch.tensor([0]), torch.tensor([taken]), torch.tensor([0.5]).double())
    assert damping.value.tolist() == pytest.approx([2 * 4 * 1 * 2])


def test_stays_within_bounds_and_says_when_there_is_no_more() -> None:
    damping, both = GainRatioDamping(2, 1.0), torch.arange(2)
    for _ in range(30):
        damping.update(both, torch.tensor([True, False]), torch.ones(2).double())
    assert damping.value.tolist() == [SMALLEST_DAMPING, GREATEST_DAMPING]
    assert damping.exhausted(both).tolist() == [False, True]


def test_an_older_value_is_left_as_it_was() -> None:
    damping = GainRatioDamping(1, 1.0)
    before = damping.value
    damping.update(torch.tensor([0]), torch.tensor([False]), torch.zeros(1).double())
    assert before.tolist() == [1.0]
