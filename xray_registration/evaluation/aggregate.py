"""Figures of many cases: percentiles, success rates, capture range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError

SMSR_MM = 1.0
GROSS_FAILURE_MM = 10.0
CAPTURE_SUCCESS_MM = 2.0
CAPTURE_SHARE = 0.95


@dataclass(frozen=True)
class CaptureRange:
    """Capture range after van de Kraats et al., IEEE TMI 24:1177 (2005).

    Attributes:
        range_mm: upper edge of the last bin of starts before the success rate first falls below
            ``share``; 0 when the first bin already fails. Empty bins tell nothing and are passed
            over: ``last_tested_mm`` says how far there were starts at all.
        last_tested_mm: upper edge of the last bin that holds a start.
        bin_edges_mm: (B + 1,) edges of the bins.
        successes, counts: (B,) of each bin.
    """

    range_mm: float
    last_tested_mm: float
    bin_edges_mm: tuple[float, ...]
    successes: tuple[int, ...]
    counts: tuple[int, ...]


def percentiles(values: ArrayLike, q: Sequence[float] = (50, 75, 95)) -> dict[str, float]:
    """{"p50": ..., "p75": ..., "p95": ...}, linear between neighbours; NaN without values.

    Raises:
        InputError: a NaN among the values (a failed case counts as infinite, it is not left out).
    """
    array = _errors(values)
    if not array.size:
        return {f"p{number:g}": float("nan") for number in q}
    ranks = np.sort(array)
    result = {}
    for number in q:
        place = number / 100 * (len(ranks) - 1)
        low, high = int(np.floor(place)), int(np.ceil(place))
        share = place - low
        # infinity times zero is not a number: touch the upper neighbour only when it has a share
        value = ranks[low] if share == 0 else (1 - share) * ranks[low] + share * ranks[high]
        result[f"p{number:g}"] = float(value)
    return result


def success_rate(errors_mm: ArrayLike, below_mm: float) -> float:
    """Share of errors below ``below_mm``; NaN without values. Infinite errors are failures."""
    array = _errors(errors_mm)
    return float((array < below_mm).mean()) if array.size else float("nan")


def smsr(errors_mm: ArrayLike) -> float:
    """Sub-millimetre success rate: share of mTRE < 1 mm."""
    return success_rate(errors_mm, SMSR_MM)


def gross_failure_rate(errors_mm: ArrayLike) -> float:
    """Share of mTRE > 10 mm."""
    array = _errors(errors_mm)
    return float((array > GROSS_FAILURE_MM).mean()) if array.size else float("nan")


def error_summary(errors_mm: ArrayLike) -> dict[str, float]:
    """Count, percentiles 50/75/95 and success rates of an mTRE sample, by name."""
    array = _errors(errors_mm)
    return {
        "n": float(array.size),
        **{f"{name}_mm": value for name, value in percentiles(array).items()},
        "smsr": smsr(array),
        "sr_2mm": success_rate(array, 2.0),
        "sr_10mm": success_rate(array, 10.0),
        "gross_failures": gross_failure_rate(array),
    }


def by_start_bin(
    start_mm: ArrayLike, edges_mm: Sequence[float]
) -> Mapping[tuple[float, float], NDArray[np.bool_]]:
    """Bin (low, high] to the mask of the cases whose start lies in it; the first includes ``low``.

    Raises:
        InputError: edges that do not grow.
    """
    edges = _edges(edges_mm)
    starts = _errors(start_mm)
    masks = {}
    for number, (low, high) in enumerate(pairwise(edges.tolist())):
        above = starts >= low if number == 0 else starts > low
        masks[low, high] = above & (starts <= high)
    return masks


def capture_range(
    start_mm: ArrayLike,
    final_mm: ArrayLike,
    bin_mm: float | Sequence[float] = 1.0,
    success_mm: float = CAPTURE_SUCCESS_MM,
    share: float = CAPTURE_SHARE,
) -> CaptureRange:
    """Largest start error up to which at least ``share`` of each bin ends below ``success_mm``.

    Args:
        start_mm: (N,) mTRE before.
        final_mm: (N,) mTRE after; infinite where nothing came out.
        bin_mm: width of the bins (1 mm in the definition), or their edges from 0 on. With few
            cases in 1 mm bins a single failure ends the range: say the width when you quote it.

    Raises:
        InputError: lengths differ, NaN, edges that do not grow from 0.
    """
    starts, finals = _errors(start_mm), _errors(final_mm)
    if starts.shape != finals.shape:
        raise InputError(f"{starts.size} start errors but {finals.size} final ones.")
    if not starts.size:
        return CaptureRange(0.0, 0.0, (0.0,), (), ())
    if isinstance(bin_mm, (int, float)):
        count = max(1, int(np.ceil(starts.max() / bin_mm)))
        edges = np.arange(count + 1) * float(bin_mm)
    else:
        edges = _edges(bin_mm)
    if edges[0] != 0:
        raise InputError(f"the first bin edge is {edges[0]:g}; expected 0.")
    masks = list(by_start_bin(starts, edges.tolist()).values())
    counts = [int(mask.sum()) for mask in masks]
    successes = [int((finals[mask] < success_mm).sum()) for mask in masks]
    reached = tested = 0.0
    failed = False
    for high, wins, total in zip(edges[1:], successes, counts, strict=True):
        if not total:
            continue
        tested = float(high)
        failed = failed or wins < share * total
        if not failed:
            reached = float(high)
    return CaptureRange(reached, tested, tuple(edges.tolist()), tuple(successes), tuple(counts))


def _edges(edges_mm: Sequence[float]) -> NDArray[np.float64]:
    edges = np.asarray(edges_mm, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InputError(f"bin edges are {edges.tolist()}; expected two or more growing numbers.")
    return edges


def _errors(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isnan(array).any() or (array < 0).any():
        raise InputError(
            "errors must be a flat list of non-negative numbers (infinite for a failed case); got "
            f"shape {array.shape}, {int(np.isnan(array).sum())} NaN."
        )
    return array
