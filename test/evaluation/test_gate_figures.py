"""The gate's figures."""

from __future__ import annotations

import math

import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation.gate_figures import gate_figures, roc_curve


def test_counts_and_rates() -> None:
    good = [True, True, True, True, False, False]
    accepted = [True, True, True, False, True, False]
    figures = gate_figures(accepted, good)
    assert (figures.n_good, figures.n_bad) == (4, 2)
    assert (figures.true_accepts, figures.false_accepts) == (3, 1)
    assert figures.true_accept_rate == 0.75
    assert figures.false_accept_rate == 0.5
    assert figures.bad_among_accepted == 0.25


def test_nothing_to_divide_by() -> None:
    figures = gate_figures([False], [False])
    assert math.isnan(figures.true_accept_rate)
    assert math.isnan(figures.bad_among_accepted)
    assert figures.false_accept_rate == 0.0


def test_roc_of_perfect_worthless_and_mixed_scores() -> None:
    good = [True, True, False, False]
    assert roc_curve([4, 3, 2, 1], good).auc == 1.0
    assert roc_curve([1, 2, 3, 4], good).auc == 0.0
    assert roc_curve([5, 5, 5, 5], good).auc == 0.5
    # pairs (good, bad): 4>3, 4>1, 2<3, 2>1: three of four are in order
    mixed = roc_curve([4, 2, 3, 1], good)
    assert mixed.auc == 0.75
    assert mixed.false_accept_rate.tolist() == [0, 0, 0.5, 0.5, 1]
    assert mixed.true_accept_rate.tolist() == [0, 0.5, 0.5, 1, 1]
    assert mixed.thresholds.tolist() == [math.inf, 4, 3, 2, 1]


def test_unusable_input_is_named() -> None:
    with pytest.raises(InputError, match="1 decisions but 2"):
        gate_figures([True], [True, False])
    with pytest.raises(InputError, match="bools"):
        gate_figures([1, 0], [True, False])
    with pytest.raises(InputError, match="one kind"):
        roc_curve([1, 2], [True, True])
    with pytest.raises(InputError, match="NaN"):
        roc_curve([1, math.nan], [True, False])
