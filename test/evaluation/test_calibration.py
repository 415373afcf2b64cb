"""Covariance against errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation.calibration import (
    covariance_calibration,
    nees,
    pose_error_vector,
    reliability,
)


def test_nees_of_a_diagonal_covariance() -> None:
    # 1 sigma in every direction: 6; 2 sigma in one alone: 4
    sigma = np.array([1, 2, 3, 0.01, 0.02, 0.03])
    assert nees(sigma, np.diag(sigma**2)) == pytest.approx(6.0)
    assert nees([2, 0, 0, 0, 0, 0], np.diag(sigma**2)) == pytest.approx(4.0)


def test_nees_of_correlated_errors() -> None:
    c = np.eye(6)
    c[0, 1] = c[1, 0] = 0.5
    # inverse of [[1, .5], [.5, 1]] is [[4, -2], [-2, 4]] / 3: (1, 1) gives 4/3
    assert nees([1, 1, 0, 0, 0, 0], c) == pytest.approx(4 / 3)


def test_error_vector_is_the_increment_about_the_isocentre() -> None:
    truth = np.eye(4)
    truth[2, 3] = 700
    estimate = truth.copy()
    c, s = math.cos(0.1), math.sin(0.1)
    estimate[:3, :3] = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    isocentre = np.array([50.0, 0, 0])
    # turned by 0.1 rad about z through the isocentre, then moved by 2 mm along z
    estimate[:3, 3] = truth[:3, 3] + isocentre - estimate[:3, :3] @ isocentre + [0, 0, 2]
    np.testing.assert_allclose(
        pose_error_vector(estimate, truth, isocentre), [0, 0, 2, 0, 0, 0.1], atol=1e-9
    )


def test_calibration_of_a_right_and_of_an_overconfident_covariance() -> None:
    random = np.random.default_rng(3)
    sigma = np.array([0.1, 0.1, 1.0, 0.01, 0.01, 0.002])
    errors = random.normal(size=(4000, 6)) * sigma
    right = covariance_calibration([nees(e, np.diag(sigma**2)) for e in errors])
    assert right.n == 4000
    assert right.mean_nees == pytest.approx(6, abs=0.2)
    assert right.coverage_95 == pytest.approx(0.95, abs=0.015)
    wrong = covariance_calibration([nees(e, np.diag(sigma**2) / 4) for e in errors])
    assert wrong.mean_nees == pytest.approx(24, abs=0.8)
    assert wrong.coverage_95 < 0.5


def test_cases_without_a_covariance_are_left_out() -> None:
    assert math.isnan(nees(np.ones(6), np.full((6, 6), np.inf)))
    found = covariance_calibration([6.0, math.nan])
    assert (found.n, found.mean_nees, found.coverage_95) == (1, 6.0, 1.0)
    assert covariance_calibration([]).n == 0


def test_unusable_input_is_named() -> None:
    with pytest.raises(InputError, match=r"\(5,\)"):
        nees(np.ones(5), np.eye(6))
    with pytest.raises(InputError, match="positive definite"):
        nees(np.ones(6), np.ones((6, 6)))
    with pytest.raises(InputError, match="symmetric"):
        nees(np.ones(6), np.triu(np.ones((6, 6))))


def test_reliability_by_class_of_the_stated_probability() -> None:
    stated = [0.0, 0.05, 0.5, 0.8, 0.995, 1.0, 1.0]
    rows = reliability(stated, [False, True, True, False, True, True, False])
    assert list(rows) == ["0-0.1", "0.5-0.9", "0.99-1"]
    assert rows["0-0.1"] == {"n": 2, "stated": pytest.approx(0.025), "right": 0.5}
    assert rows["0.5-0.9"]["stated"] == pytest.approx(0.65)
    assert rows["0.99-1"]["n"] == 3
    assert rows["0.99-1"]["right"] == pytest.approx(2 / 3)
    assert reliability([], []) == {}
