"""Figures of many cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation import aggregate


def test_percentiles() -> None:
    assert aggregate.percentiles([4.0, 0, 1, 2, 3]) == {"p50": 2.0, "p75": 3.0, "p95": 3.8}
    assert math.isnan(aggregate.percentiles([])["p50"])


def test_a_failed_case_is_infinite_and_stays_in() -> None:
    errors = [1.0, 2.0, math.inf]
    assert aggregate.percentiles(errors, q=(50, 100)) == {"p50": 2.0, "p100": math.inf}
    assert aggregate.success_rate(errors, 10.0) == pytest.approx(2 / 3)
    assert aggregate.gross_failure_rate(errors) == pytest.approx(1 / 3)


def test_success_rates() -> None:
    errors = [0.5, 0.999, 1.0, 1.5, 9.9, 10.0, 10.1, 80.0]
    assert aggregate.smsr(errors) == 2 / 8
    summary = aggregate.error_summary(errors)
    assert summary["n"] == 8
    assert summary["sr_2mm"] == 4 / 8
    assert summary["sr_10mm"] == 5 / 8
    assert summary["gross_failures"] == 2 / 8


def test_start_bins() -> None:
    masks = aggregate.by_start_bin([0.0, 5.0, 5.1, 10.0, 40.0], [0, 5, 10])
    assert masks[0.0, 5.0].tolist() == [True, True, False, False, False]
    assert masks[5.0, 10.0].tolist() == [False, False, True, True, False]


def test_capture_range_ends_before_the_first_bad_bin() -> None:
    # bin (0, 1]: 20 of 20; (1, 2]: 19 of 20 = 95 %; (2, 3]: 18 of 20; (3, 4]: 20 of 20
    starts = np.repeat([0.5, 1.5, 2.5, 3.5], 20)
    finals = np.full(80, 0.3)
    finals[20] = 5.0
    finals[40:42] = math.inf
    found = aggregate.capture_range(starts, finals)
    assert found.range_mm == 2.0
    assert found.last_tested_mm == 4.0
    assert found.successes == (20, 19, 18, 20)
    assert found.counts == (20, 20, 20, 20)


def test_capture_range_success_is_below_two_millimetres() -> None:
    assert aggregate.capture_range([0.5], [1.999]).range_mm == 1.0
    assert aggregate.capture_range([0.5], [2.0]).range_mm == 0.0


def test_capture_range_with_empty_bins_and_wider_bins() -> None:
    found = aggregate.capture_range([0.5, 3.5, 30.0], [0.1, 0.1, 50.0])
    assert (found.range_mm, found.last_tested_mm) == (4.0, 30.0)
    wide = aggregate.capture_range([3.0, 8.0, 15.0], [0.1, 0.1, 9.0], bin_mm=[0, 5, 10, 20])
    assert (wide.range_mm, wide.last_tested_mm) == (10.0, 20.0)
    assert aggregate.capture_range([], []).range_mm == 0.0


def test_unusable_input_is_named() -> None:
    with pytest.raises(InputError, match="NaN"):
        aggregate.percentiles([1.0, math.nan])
    with pytest.raises(InputError, match="2 start errors but 1"):
        aggregate.capture_range([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="growing"):
        aggregate.by_start_bin([1.0], [0, 5, 5])
    with pytest.raises(InputError, match="expected 0"):
        aggregate.capture_range([1.0], [1.0], bin_mm=[1, 2])
