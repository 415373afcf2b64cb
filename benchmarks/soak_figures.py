"""What the soak has seen, as rows and figures, and what in them is a problem."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

# Between the second and the last fifth of the time; the first one warms up.
MEMORY_LIMIT_MB, LATENCY_LIMIT = 30.0, 1.3
SERVICE_LIMIT_S, GAP_LIMIT_S = 0.2, 10.0
LOST_LIMIT = 0.01
# Those of the counters that end an image whose fate ~/result tells.
_DEALT_WITH = ("accepted", "rejected", "bad_input", "without_start", "failed")

HEADING = "     s  memory MB  images  on tf  drawn  latency ms p50  p99  max  service ms p50  max"


class MemoryLog:
    """Resident memory of a process and its children, without what they share (Linux)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        #: (s since the start, MB)
        self.samples: list[tuple[float, float]] = []
        #: every process that was seen
        self.pids: set[int] = set()

    def sample(self, at_s: float) -> None:
        """Look now."""
        pids = [self._pid]
        for task in Path(f"/proc/{self._pid}/task").glob("*/children"):
            pids += [int(child) for child in task.read_text().split()]
        total = 0
        for pid in pids:
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:  # it has just ended
                continue
            rows = [row for row in text.splitlines() if row.startswith("Pss:")]
            total += sum(int(row.split()[1]) for row in rows)
        self.pids.update(pids)
        self.samples.append((at_s, total / 1024))

    def median_mb(self, begin_s: float, end_s: float) -> float:
        """Of a part of the time; NaN when there was no look."""
        found = [mb for at, mb in self.samples if begin_s <= at < end_s]
        return float(np.median(found)) if found else float("nan")


def row_of(tally: Any, memory: MemoryLog, begin: float, end: float) -> dict[str, Any]:
    """Figures of a part of the time (s since the start)."""
    latencies = [value for at, value in tally.latencies if begin <= at < end]
    return {
        "end_s": end,
        "memory_mb": memory.median_mb(begin, end),
        "images": sum(begin <= at < end for at in tally.sent),
        "on_tf": len(latencies),
        "overlays": sum(begin <= at < end for at in tally.pictures),
        "latency_s": percentiles(latencies),
        "service_s": percentiles([value for at, _, value in tally.services if begin <= at < end]),
    }


def line_of(row: dict[str, Any]) -> str:
    """A row of the table under ``HEADING``."""
    latency, service = (
        [1000 * row[key].get(name, float("nan")) for name in ("p50", "p99", "max")]
        for key in ("latency_s", "service_s")
    )
    return (
        f"{row['end_s']:6.0f}  {row['memory_mb']:9.0f}  {row['images']:6d}  {row['on_tf']:5d}  "
        f"{row['overlays']:5d}  {latency[0]:14.0f} {latency[1]:4.0f} {latency[2]:4.0f}  "
        f"{service[0]:14.1f} {service[2]:4.0f}"
    )


def figures_of(tally: Any, memory: MemoryLog, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of the whole time."""
    seconds = rows[-1]["end_s"]
    fifths = ((0.2 * seconds, 0.4 * seconds), (0.8 * seconds, seconds))
    megabytes = [memory.median_mb(*fifth) for fifth in fifths]
    latencies = [
        percentiles([value for at, value in tally.latencies if begin <= at < end])
        for begin, end in fifths
    ]
    shown = [0.0, *(at for at, _ in tally.latencies if at < seconds), seconds]
    names = sorted({name for _, name, _ in tally.services})
    return {
        "sent": len(tally.sent),
        "on_tf": len(tally.latencies),
        "overlays": len(tally.pictures),
        "counters": dict(tally.counters),
        "unaccounted": tally.unaccounted,
        "results": {state: tally.results.count(state) for state in sorted(set(tally.results))},
        "lost_before_the_node": len(tally.sent) - tally.counters.get("images_received", 0),
        "memory_growth_mb": megabytes[1] - megabytes[0],
        "processes": len(memory.pids),
        "latency_s": percentiles([value for _, value in tally.latencies]),
        "latency_growth": {
            name: latencies[1].get(name, np.inf) / latencies[0].get(name, np.inf)
            for name in ("p50", "p90")
        },
        "longest_without_pose_s": max(later - before for before, later in pairwise(shown)),
        "service_calls": len(tally.services),
        "service_refusals": list(tally.refused),
        "service_s": {
            name: percentiles([value for _, n, value in tally.services if n == name])
            for name in names
        },
    }


def problems_of(rows: list[dict[str, Any]], figures: dict[str, Any]) -> list[str]:
    """What is beyond its limit. Written so that a figure that is missing (NaN) is a problem."""
    problems = []
    solver_processes = {"process": 2, "node": 1}[figures["solver"]]
    if figures["processes"] != solver_processes:
        problems.append(f"{figures['processes']} processes were seen, expected {solver_processes}")
    if not figures["memory_growth_mb"] <= MEMORY_LIMIT_MB:
        problems.append(f"memory grew by {figures['memory_growth_mb']:.0f} MB after the first part")
    for name, growth in figures["latency_growth"].items():
        if not growth <= LATENCY_LIMIT:
            problems.append(
                f"the latency's {name} grew to {growth:.2f} times that of the beginning"
            )
    if not figures["longest_without_pose_s"] <= GAP_LIMIT_S:
        problems.append(f"no pose for {figures['longest_without_pose_s']:.1f} s")
    return problems + _service_problems(figures) + _image_problems(figures)


def _service_problems(figures: dict[str, Any]) -> list[str]:
    problems = [f"refused: {answer}" for answer in figures["service_refusals"]]
    for name, seconds in figures["service_s"].items():
        if not seconds["max"] < SERVICE_LIMIT_S:
            problems.append(f"service {name} took {1000 * seconds['max']:.0f} ms")
    if not figures["service_s"]:
        problems.append("no service was called")
    return problems


def _image_problems(figures: dict[str, Any]) -> list[str]:
    """Counters of the node against each other, and against what was sent and heard."""
    problems = []
    counted = figures["counters"]
    if figures["unaccounted"]:
        problems.append(f"{figures['unaccounted']} images came and are not accounted for")
    # The middleware keeps qos.depth images for a node that is slow to take them.
    if not 0 <= figures["lost_before_the_node"] <= LOST_LIMIT * figures["sent"]:
        problems.append(
            f"{figures['sent']} images were sent, {counted.get('images_received', 0)} received"
        )
    if counted.get("images_accepted", 0) != figures["on_tf"]:
        problems.append(
            f"{counted.get('images_accepted', 0)} images were accepted, {figures['on_tf']} on /tf"
        )
    dealt_with = sum(counted.get(f"images_{name}", 0) for name in _DEALT_WITH)
    heard = sum(figures["results"].values())
    if dealt_with != heard:
        problems.append(f"{dealt_with} images were dealt with, {heard} are on ~/result")
    if counted.get("images_failed", 0):
        problems.append(f"{counted['images_failed']} images failed")
    return problems


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p90, p99 and max; empty of nothing."""
    if not values:
        return {}
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    found = {"p50": p50, "p90": p90, "p99": p99, "max": max(values)}
    return {name: round(float(value), 5) for name, value in found.items()}
