"""From records to figures, on records made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from xray_registration.evaluation.protocol import load_protocol
from xray_registration.evaluation.report_tables import html_table, shown, text_table
from xray_registration.evaluation.summary import summarise
from xray_registration.evaluation.worst_cases import choose_worst


def record(case: str, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "case": case, "method": "ours", "reject": None, "start_bin_mm": [0, 5],
        "start_mtre_mm": 3.0, "patient": "thorax", "variant": "as-ct", "acquisition": "plain",
        "error": None, "accepted": True, "reason": "accepted", "similarity": 0.9, "mtre_mm": 0.5,
        "in_plane_mtre_mm": 0.1, "nees": 6.0, "seconds": 2.0, "cpu_s": 1.0, "input_cpu_s": 0.1,
        "threads": 1, "device": "cpu",
    }  # fmt: skip
    values.update(changes)
    return values


def records() -> list[dict[str, Any]]:
    lost = {"mtre_mm": None, "in_plane_mtre_mm": None, "nees": None, "similarity": None}
    return [
        record("a"),
        record("b", mtre_mm=1.5, nees=12.0, similarity=0.8, probability=0.95),
        record("c", start_bin_mm=[5, 10], start_mtre_mm=8.0, mtre_mm=30.0, similarity=0.5),
        record("d", start_bin_mm=[5, 10], start_mtre_mm=9.0, accepted=False, reason="defect",
               error="X: y", **lost),
        record("a", method="adam", accepted=None, mtre_mm=0.4, cpu_s=10.0, nees=None),
        record("b", method="adam", accepted=None, mtre_mm=3.0, cpu_s=30.0, nees=None),
    ]  # fmt: skip


def test_figures_of_a_method() -> None:
    table = summarise(load_protocol("spine-single"), records())["methods"]["ours"]
    row = table["all"]
    assert (row["n"], row["smsr"], row["sr_2mm"]) == (4, 0.25, 0.5)
    assert row["gross_failures"] == 0.5
    assert row["p50_mm"] == pytest.approx((1.5 + 30) / 2)
    assert row["p95_mm"] is None  # infinite: a case without a pose is among them
    assert row["accepted"] == 0.75
    assert row["smsr_of_accepted"] == pytest.approx(1 / 3)
    assert table["by_bin"]["0-5"]["sr_2mm"] == 1.0
    assert table["by_bin"]["5-10"]["n"] == 2
    assert table["capture_range"]["range_mm"] == 5.0
    assert table["capture_range"]["last_tested_mm"] == 10.0
    assert table["refusals"] == {"defect": 1}
    assert table["defects"] == ["d: X: y"]
    assert table["covariance"]["n"] == 3
    assert table["covariance"]["mean_nees"] == pytest.approx(8.0)
    gate = table["gate"]
    assert (gate["true_accepts"], gate["false_accepts"]) == (2, 1)
    assert gate["bad_among_accepted"] == pytest.approx(1 / 3)
    assert gate["auc"] == 1.0
    assert gate["reliability"] == {"0.9-0.99": {"n": 1, "stated": 0.95, "right": 1.0}}
    assert table["times"]["cpu_total_s"] == 4.0


def test_comparison_is_on_the_cases_that_both_have() -> None:
    (comparison,) = summarise(load_protocol("spine-single"), records())["comparisons"]
    assert comparison == {
        "method": "adam", "cases": 2, "cpu_ratio": 20.0, "cpu_ratio_p50": 20.0, "smsr_ours": 0.5,
        "smsr_other": 0.5, "better_in": 0.5,
    }  # fmt: skip


def test_reject_tables() -> None:
    bad = [
        record("x", reject="blank", accepted=False, reason="low_similarity", similarity=0.1,
               mtre_mm=None),
        record("y", reject="blank", similarity=0.7, mtre_mm=None),
        record("z", reject="mirrored", accepted=False, reason="uncertain", mtre_mm=None),
    ]  # fmt: skip
    table = summarise(load_protocol("reject"), bad)["methods"]["ours"]
    assert table["by_kind"]["blank"]["false_accepts"] == 1
    assert table["by_kind"]["blank"]["refusals"] == {"low_similarity": 1}
    assert table["gate"]["false_accept_rate"] == pytest.approx(1 / 3)
    assert table["gate"]["true_accept_rate"] is None


def test_worst_cases_false_accepts_first_then_what_is_lost() -> None:
    own = [r for r in records() if r["method"] == "ours"]
    assert [r["case"] for r in choose_worst(own, 3)] == ["c", "d", "b"]
    reject = [
        record("x", reject="blank", accepted=False, similarity=0.9),
        record("y", reject="blank", accepted=True, similarity=0.4),
        record("z", reject="blank", accepted=False, similarity=None),
    ]
    assert [r["case"] for r in choose_worst(reject, 3)] == ["y", "x", "z"]


def test_cells() -> None:
    assert shown(None, "mm") == shown(float("nan"), "%") == "–"
    assert shown(0.5, "%") == "50.0 %"
    assert shown(float("inf"), "mm") == "failed"
    assert shown(0.1234, "mm") == "0.123"
    assert shown(86.31, "mm") == "86.3"
    assert shown({"a": 2}, "counts") == "a 2"


def test_tables_have_all_rows_and_escape_names() -> None:
    columns = (("n", "cases", "d"),)
    text = text_table("kind", {"one": {"n": 1}, "three": {"n": 33}}, columns)
    assert text.splitlines() == [
        "| kind  | cases |", "| ----- | ----: |", "| one   |     1 |", "| three |    33 |"
    ]  # fmt: skip
    assert "<td>&lt;b&gt;</td><td>1</td>" in html_table("kind", {"<b>": {"n": 1}}, columns)
