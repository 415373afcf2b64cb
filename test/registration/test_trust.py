"""How likely a pose is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.registration.trust import (
    TrustConfig,
    largest_sigma_mm,
    probability_right,
)

TRUST = TrustConfig(
    even_similarity=0.8,
    even_similarity_several_views=0.5,
    even_similarity_of_structures=0.7,
    width=0.05,
    right_mm=2.0,
)
SHARP = np.diag([1e-4] * 3 + [1e-12] * 3)


def test_largest_sigma_is_that_of_the_worst_direction() -> None:
    covariance = np.diag([4.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    assert largest_sigma_mm(covariance, 100.0) == pytest.approx(2.0)
    covariance[5, 5] = 0.05**2  # 0.05 rad are 5 mm at 100 mm
    assert largest_sigma_mm(covariance, 100.0) == pytest.approx(5.0)
    turned = np.array([[1.0, 0.9], [0.9, 1.0]])
    covariance[:2, :2], covariance[5, 5] = turned, 0.0
    assert largest_sigma_mm(covariance, 100.0) == pytest.approx(np.sqrt(1.9))


@pytest.mark.parametrize(
    ("similarities", "expected"),
    [
        ((0.8,), 0.5),
        ((0.85,), 1 / (1 + math.exp(-1))),
        ((0.99,), 1 / (1 + math.exp(-3.8))),
        ((0.99, 0.5), 0.5),  # the lesser of several views, by a curve of its own
        ((0.9, 0.7), 1 / (1 + math.exp(-4))),
        ((-1.0,), 0.0),
        ((float("nan"),), 0.0),
        ((0.9, float("nan")), 0.0),
    ],
)
def test_curve_of_the_similarity(similarities: tuple[float, ...], expected: float) -> None:
    found = probability_right(similarities, SHARP, 100.0, TRUST)
    assert found == pytest.approx(expected, abs=1e-9)


def test_named_bones_in_several_views_have_a_curve_of_their_own() -> None:
    found = [
        probability_right(similarities, SHARP, 100.0, TRUST, of_structures=True)
        for similarities in ((0.9, 0.7), (0.75, 0.9), (0.8,))
    ]
    assert found == pytest.approx([0.5, 1 / (1 + math.exp(-1)), 0.5])


def test_a_picture_that_leaves_the_depth_open_is_not_trusted() -> None:
    blurred = np.diag([1e-4, 1e-4, 4.0, 1e-12, 1e-12, 1e-12])  # 2 mm in depth
    within_one_sigma = 0.682689
    found = probability_right((0.99, 0.99), blurred, 100.0, TRUST)
    assert found == pytest.approx(within_one_sigma / (1 + math.exp(-9.8)), abs=1e-6)
    assert probability_right((0.99,), np.full((6, 6), np.inf), 100.0, TRUST) == 0.0
    assert probability_right((2.0,), np.zeros((6, 6)), 100.0, TRUST) == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_curve_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="width"):
        TrustConfig(width=value)
