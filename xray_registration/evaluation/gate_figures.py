"""How well the gate tells good poses from bad ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError


@dataclass(frozen=True)
class GateFigures:
    """Decisions against the truth. "Good": within the tolerance; a reject case is never good.

    Attributes:
        n_good, n_bad: cases.
        true_accepts, false_accepts: accepted good and accepted bad ones.
        true_accept_rate: true_accepts / n_good, NaN when there is none.
        false_accept_rate: false_accepts / n_bad, NaN when there is none.
        bad_among_accepted: share of the accepted poses that are bad: what a user meets.
    """

    n_good: int
    n_bad: int
    true_accepts: int
    false_accepts: int
    true_accept_rate: float
    false_accept_rate: float
    bad_among_accepted: float

    def to_dict(self) -> dict[str, Any]:
        """Name to value."""
        return asdict(self)


@dataclass(frozen=True)
class RocCurve:
    """True accept rate over false accept rate as a threshold falls.

    Attributes:
        false_accept_rate, true_accept_rate: (T,) from (0, 0) to (1, 1).
        thresholds: (T,) accept when score >= threshold; the first is +infinity.
        auc: area under the curve; 0.5 = guessing.
    """

    false_accept_rate: NDArray[np.float64]
    true_accept_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    auc: float


def gate_figures(accepted: ArrayLike, good: ArrayLike) -> GateFigures:
    """Counts and rates from two (N,) boolean lists.

    Raises:
        InputError: lengths differ.
    """
    said, true = _flags(accepted, "accepted"), _flags(good, "good")
    if said.shape != true.shape:
        raise InputError(f"{said.size} decisions but {true.size} truths.")
    right, wrong = int((said & true).sum()), int((said & ~true).sum())
    n_good = int(true.sum())
    n_bad = int(true.size - n_good)
    return GateFigures(
        n_good=n_good,
        n_bad=n_bad,
        true_accepts=right,
        false_accepts=wrong,
        true_accept_rate=_ratio(right, n_good),
        false_accept_rate=_ratio(wrong, n_bad),
        bad_among_accepted=_ratio(wrong, right + wrong),
    )


def roc_curve(scores: ArrayLike, good: ArrayLike) -> RocCurve:
    """ROC of a score that is high for good poses, e.g. the similarity. Equal scores move together.

    Raises:
        InputError: lengths differ, NaN scores, or only one kind of case.
    """
    values = np.asarray(scores, dtype=np.float64)
    true = _flags(good, "good")
    if values.shape != true.shape:
        raise InputError(f"{values.size} scores but {true.size} truths.")
    if np.isnan(values).any():
        raise InputError("scores hold NaN; a case without a score counts as -infinity.")
    if true.all() or not true.any():
        raise InputError(f"all {true.size} cases are of one kind; a ROC needs good and bad ones.")
    order = np.argsort(-values, kind="stable")
    values, true = values[order], true[order]
    last_of_equal = np.append(values[1:] != values[:-1], True)
    hits = np.cumsum(true)[last_of_equal] / true.sum()
    misses = np.cumsum(~true)[last_of_equal] / (~true).sum()
    x, y = np.append(0.0, misses), np.append(0.0, hits)
    area = float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum())
    return RocCurve(x, y, np.append(np.inf, values[last_of_equal]), area)


def _flags(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype != np.bool_):
        raise InputError(f"{name} has shape {array.shape} and type {array.dtype}; expected bools.")
    return array.astype(np.bool_)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
