"""The figures of a run: from records to tables, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from xray_registration.evaluation.aggregate import (
    capture_range,
    error_summary,
    percentiles,
)
from xray_registration.evaluation.calibration import covariance_calibration, reliability
from xray_registration.evaluation.gate_figures import gate_figures, roc_curve
from xray_registration.evaluation.methods import OURS
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.records import GOOD_MM, Record, final_mtre_mm, is_good

Table = dict[str, Any]

IN_PLANE_DEPTH = (
    "in_plane_mtre_mm", "depth_mtre_mm", "rotation_deg", "translation_mm", "in_plane_mm",
    "depth_mm", "in_plane_rotation_deg", "out_of_plane_rotation_deg", "mpe_mm", "mrpd_mm",
    "mis_scaled_diffpose_figure",
)  # fmt: skip


def summarise(protocol: Protocol, records: Sequence[Record]) -> Table:
    """All tables of a run; NaN and infinity become None (JSON has neither).

    Keys: "methods" (name to `method_summary`), "comparisons" (see `compare`).
    """
    names = list(dict.fromkeys(record["method"] for record in records))
    by_method = {n: [r for r in records if r["method"] == n] for n in names}
    tables: Table = {
        "protocol": protocol.name,
        "version": protocol.version,
        "cases": len({record["case"] for record in records}),
        "methods": {name: method_summary(protocol, chosen) for name, chosen in by_method.items()},
        "comparisons": [
            compare(by_method[OURS], by_method[name], name)
            for name in names
            if name != OURS and OURS in by_method
        ],
    }
    cleaned: Table = _json_able(tables)
    return cleaned


def method_summary(protocol: Protocol, records: Sequence[Record]) -> Table:
    """Of one method: overall, per start bin, acquisition and variant; gate, covariance, time."""
    table: Table = {
        "all": row(records),
        "gate": _gate(records),
        "times": _times(records),
        "refusals": _counted(r["reason"] for r in records if r["accepted"] is False),
        "defects": [f"{r['case']}: {r['error']}" for r in records if r["reason"] == "defect"],
    }
    if protocol.reject is not None:
        table["by_kind"] = _grouped(records, lambda r: str(r["reject"]), _reject_row)
        return table
    table["by_bin"] = _grouped(records, bin_name, row)
    table["by_acquisition"] = _grouped(records, lambda r: str(r["acquisition"]), row)
    table["by_variant"] = _grouped(records, lambda r: str(r["variant"]), row)
    table["errors"] = {name: _percentiles_of(records, name) for name in IN_PLANE_DEPTH}
    captured = capture_range(
        [r["start_mtre_mm"] for r in records],
        [final_mtre_mm(r) for r in records],
        _from_zero(protocol.starts.bins_mm),
    )
    table["capture_range"] = {
        "range_mm": captured.range_mm,
        "last_tested_mm": captured.last_tested_mm,
        "bins_mm": captured.bin_edges_mm,
    }
    stated = [r["nees"] for r in records if r.get("nees") is not None]
    good = [r["nees"] for r in records if r.get("nees") is not None and is_good(r)]
    table["covariance"] = covariance_calibration(stated).to_dict()
    table["covariance_of_good"] = covariance_calibration(good).to_dict()
    return table


def row(records: Sequence[Record]) -> Table:
    """One line of a table: start, error percentiles, success rates, acceptance, CPU time."""
    ends = [final_mtre_mm(record) for record in records]
    accepted = [r for r in records if r["accepted"]]
    decided = [r for r in records if r["accepted"] is not None]
    in_plane = [_or_infinite(r.get("in_plane_mtre_mm")) for r in records]
    return {
        **error_summary(ends),
        "n": len(records),
        "start_p50_mm": percentiles([r["start_mtre_mm"] for r in records])["p50"],
        "in_plane_p50_mm": percentiles(in_plane)["p50"],
        "in_plane_p95_mm": percentiles(in_plane)["p95"],
        "accepted": len(accepted) / len(decided) if decided else None,
        "smsr_of_accepted": _share([final_mtre_mm(r) < 1.0 for r in accepted]),
        "cpu_p50_s": _median([r["cpu_s"] for r in records if "cpu_s" in r]),
        "seconds_p50": _median([r["seconds"] for r in records if "seconds" in r]),
    }


def compare(ours: Sequence[Record], others: Sequence[Record], name: str) -> Table:
    """Ours against another method on the cases that both have.

    "cpu_ratio" is total CPU time of the other over ours; "cpu_ratio_p50" the median of the cases'
    ratios.
    """
    mine = {r["case"]: r for r in ours if "cpu_s" in r}
    pairs = [(mine[r["case"]], r) for r in others if r["case"] in mine and "cpu_s" in r]
    own_cpu = sum(a["cpu_s"] for a, _ in pairs)
    other_cpu = sum(b["cpu_s"] for _, b in pairs)
    return {
        "method": name,
        "cases": len(pairs),
        "cpu_ratio": other_cpu / own_cpu if own_cpu > 0 else None,
        "cpu_ratio_p50": _median([b["cpu_s"] / a["cpu_s"] for a, b in pairs if a["cpu_s"] > 0]),
        "smsr_ours": _share([final_mtre_mm(a) < 1.0 for a, _ in pairs]),
        "smsr_other": _share([final_mtre_mm(b) < 1.0 for _, b in pairs]),
        "better_in": _share([final_mtre_mm(a) < final_mtre_mm(b) for a, b in pairs]),
    }


def bin_name(record: Record) -> str:
    """The start bin of a record in mm, "5-10"."""
    low, high = record["start_bin_mm"]
    return f"{low:g}-{high:g}"


def _gate(records: Sequence[Record]) -> Table | None:
    decided = [r for r in records if r["accepted"] is not None]
    if not decided:
        return None
    good = [is_good(r) for r in decided]
    table: Table = gate_figures([bool(r["accepted"]) for r in decided], good).to_dict()
    table["good_below_mm"] = GOOD_MM
    # a case that was refused before there was a similarity ranks last
    scores = [-np.inf if r["similarity"] is None else r["similarity"] for r in decided]
    table["auc"] = roc_curve(scores, good).auc if len(set(good)) == 2 else None
    stated = [r for r in decided if r.get("probability") is not None]
    table["reliability"] = reliability(
        [r["probability"] for r in stated], [is_good(r) for r in stated]
    )
    return table


def _reject_row(records: Sequence[Record]) -> Table:
    return {
        "n": len(records),
        "false_accepts": sum(bool(r["accepted"]) for r in records),
        "refusals": _counted(r["reason"] for r in records if not r["accepted"]),
        "similarity_p95": (percentiles([max(0.0, r["similarity"] or 0.0) for r in records])["p95"]),
        "cpu_p50_s": _median([r["cpu_s"] for r in records if "cpu_s" in r]),
    }


def _times(records: Sequence[Record]) -> Table:
    return {
        "cpu_s": _percentiles_of(records, "cpu_s"),
        "seconds": _percentiles_of(records, "seconds"),
        "input_cpu_s": _percentiles_of(records, "input_cpu_s"),
        "cpu_total_s": float(sum(r.get("cpu_s", 0.0) for r in records)),
        "threads": sorted({r["threads"] for r in records}),
        "devices": sorted({r["device"] for r in records}),
    }


def _percentiles_of(records: Sequence[Record], name: str) -> dict[str, float]:
    """Over the cases that have the figure."""
    return percentiles([r[name] for r in records if r.get(name) is not None])


def _grouped(
    records: Sequence[Record],
    key: Callable[[Record], str],
    make: Callable[[Sequence[Record]], Table],
) -> Table:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return {name: make(group) for name, group in groups.items()}


def _counted(values: Iterable[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[str(value)] = counts.get(str(value), 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _from_zero(edges: Sequence[float]) -> list[float]:
    return list(edges) if edges[0] == 0 else [0.0, *edges]


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _json_able(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_able(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_able(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
