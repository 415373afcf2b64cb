"""The gate: one test for each reason, their order, and figures in the words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from xray_registration.registration.config import GateConfig
from xray_registration.registration.quality_gate import Evidence, decide
from xray_registration.registration.result import Reason

GATE = GateConfig(
    min_similarity=0.7,
    min_similarity_several_views=0.5,
    min_similarity_of_structures=0.6,
    min_overlap=0.2,
    max_sigma_mm=1.0,
    max_unsettled_mm=0.3,
    max_correction_mm=40.0,
)
NAN_POSE = np.full((4, 4), np.nan)
GOOD = Evidence(
    rig_from_ct=np.eye(4),
    covariance=np.diag([0.01, 0.01, 0.16, 1e-8, 1e-8, 1e-8]),
    view_similarities=(0.9, 0.8),
    view_overlaps=(1.0, 0.6),
    start_similarity=0.3,
    improved=True,
    correction=np.array([3.0, 4.0, 0.0, 0.0, 0.0, 0.0]),
    rotation_scale_mm=100.0,
)

# in the order in which the gate looks
FAULTS: list[tuple[Reason, dict[str, Any], tuple[str, ...]]] = [
    (Reason.NOT_FINITE, {"rig_from_ct": NAN_POSE}, ("not a finite number",)),
    (Reason.NOT_FINITE, {"view_similarities": (0.9, np.nan)}, ("not a finite number",)),
    (Reason.LOW_OVERLAP, {"view_overlaps": (1.0, 0.13)}, ("13 %", "20 %")),
    (Reason.LOW_OVERLAP, {"view_overlaps": (1.0, np.nan)}, ("20 %",)),
    (Reason.NO_IMPROVEMENT, {"improved": False}, ("start", "0.300")),
    (Reason.LOW_SIMILARITY, {"view_similarities": (0.9, 0.47)}, ("0.470", "view 1", "0.500")),
    (Reason.UNCERTAIN, {"covariance": np.eye(6)}, ("100.00 mm", "1.00 mm")),
    (Reason.UNCERTAIN, {"covariance": np.full((6, 6), np.inf)}, ("inf", "1.00 mm")),
    (Reason.NOT_CONVERGED, {"unsettled_mm": 1.26}, ("1.26 mm", "0.30 mm")),
    (Reason.NOT_CONVERGED, {"unsettled_mm": np.nan}, ("0.30 mm",)),
    (
        Reason.FAR_FROM_START,
        {"correction": np.array([30.0, 0, 0, 0.4, 0, 0])},
        ("50 mm", "40 mm", "100 mm"),
    ),
    (Reason.FAR_FROM_START, {"correction": np.full(6, np.nan)}, ("40 mm",)),
]


def test_named_bones_in_several_views_have_a_threshold_of_their_own() -> None:
    low = replace(GOOD, view_similarities=(0.9, 0.55))
    assert decide(low, GATE)[0] is Reason.ACCEPTED
    reason, text = decide(replace(low, of_structures=True), GATE)
    assert reason is Reason.LOW_SIMILARITY
    assert "0.600" in text
    assert decide(replace(GOOD, of_structures=True), GATE)[0] is Reason.ACCEPTED


def test_good_evidence_is_accepted_with_its_figures() -> None:
    reason, text = decide(GOOD, GATE)
    assert reason is Reason.ACCEPTED
    # the worst view and the worst direction
    assert "0.800" in text
    assert "0.40 mm" in text


@pytest.mark.parametrize(("reason", "fault", "words"), FAULTS)
def test_each_fault_has_its_reason_and_its_figures(
    reason: Reason, fault: dict[str, Any], words: tuple[str, ...]
) -> None:
    decided, text = decide(replace(GOOD, **fault), GATE)
    assert decided is reason
    for word in words:
        assert word in text


def test_the_first_fault_in_this_order_is_named() -> None:
    order = [FAULTS[n] for n in (0, 2, 4, 5, 6, 8, 10)]
    assert [reason for reason, _, _ in order] == [
        Reason.NOT_FINITE,
        Reason.LOW_OVERLAP,
        Reason.NO_IMPROVEMENT,
        Reason.LOW_SIMILARITY,
        Reason.UNCERTAIN,
        Reason.NOT_CONVERGED,
        Reason.FAR_FROM_START,
    ]
    for first, (reason, _, _) in enumerate(order):
        together: dict[str, Any] = {}
        for _, fault, _ in reversed(order[first:]):
            together |= fault
        assert decide(replace(GOOD, **together), GATE)[0] is reason


def test_every_reason_can_be_given() -> None:
    # two are found elsewhere: that a level is ambiguous by registering its neighbours
    # (test_wrong_level.py), that the rig deviates by refining it (test_rig_refinement.py)
    here = {reason for reason, _, _ in FAULTS} | {Reason.ACCEPTED}
    assert here == set(Reason) - {Reason.AMBIGUOUS, Reason.RIG_DEVIATES}


def test_one_view_is_not_numbered() -> None:
    evidence = replace(GOOD, view_similarities=(0.1,), view_overlaps=(1.0,))
    assert "view" not in decide(evidence, GATE)[1]


def test_one_view_alone_has_to_be_more_alike() -> None:
    one = replace(GOOD, view_similarities=(0.6,), view_overlaps=(1.0,))
    reason, text = decide(one, GATE)
    assert reason is Reason.LOW_SIMILARITY
    assert "0.700" in text
    two = replace(GOOD, view_similarities=(0.6, 0.9))
    assert decide(two, GATE)[0] is Reason.ACCEPTED


def test_the_thresholds_themselves_pass() -> None:
    evidence = replace(
        GOOD,
        view_similarities=(0.7,),
        view_overlaps=(0.2,),
        covariance=np.diag([1.0, 0, 0, 0, 0, 0]),
        correction=np.array([40.0, 0, 0, 0, 0, 0]),
    )
    assert decide(evidence, GATE)[0] is Reason.ACCEPTED


def test_a_covariance_that_is_none_is_refused() -> None:
    evidence = replace(GOOD, covariance=-np.eye(6))
    assert decide(evidence, GATE)[0] is Reason.UNCERTAIN
