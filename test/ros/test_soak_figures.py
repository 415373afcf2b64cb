"""The soak's own arithmetic: what it calls a problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

SECONDS = 100.0


@pytest.fixture(autouse=True)
def _benchmarks_importable(monkeypatch: pytest.MonkeyPatch, repository: Any) -> None:
    if not (repository / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not installed with the package")
    monkeypatch.syspath_prepend(str(repository))


def _seen(**changes: Any) -> Any:
    """A soak in which all went well: every fifth image is on /tf, the others were dropped."""
    from benchmarks.soak_client import Tally

    times = np.arange(0.0, SECONDS, 0.2).tolist()
    values: dict[str, Any] = {
        "sent": times,
        "latencies": [(at, 0.5) for at in times[::5]],
        "services": [(at, ("get_state", "reset")[n % 2], 0.01) for n, at in enumerate(times)],
        "results": ["registered"] * len(times[::5]),
        "counters": {
            "images_received": len(times),
            "images_accepted": len(times[::5]),
            "images_dropped": len(times) - len(times[::5]),
        },
    }
    return Tally(**{**values, **changes})


def _problems(tally: Any, megabytes: float = 0.0, pids: tuple[int, ...] = (1, 2)) -> str:
    """All problems in one text; memory grows by so much over the whole time."""
    from benchmarks.soak_figures import MemoryLog, figures_of, problems_of, row_of

    memory = MemoryLog(1)
    memory.pids.update(pids)
    memory.samples = [(float(at), 1000.0 + megabytes * at / SECONDS) for at in range(100)]
    tenths = [(n * SECONDS / 10, (n + 1) * SECONDS / 10) for n in range(10)]
    rows = [row_of(tally, memory, *tenth) for tenth in tenths]
    figures = {"solver": "process", **figures_of(tally, memory, rows)}
    return "; ".join(problems_of(rows, figures))


def test_nothing_is_wrong_when_all_went_well() -> None:
    assert _problems(_seen()) == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"latencies": [(at, 0.3 + at / 100) for at in range(100)]}, "p50 grew"),
        ({"latencies": [(float(at), 0.5) for at in range(50)]}, "no pose for 51.0 s"),
        ({"services": [(1.0, "get_state", 0.01), (9.0, "get_state", 0.2)]}, "took 200 ms"),
        ({"services": []}, "no service was called"),
        ({"refused": ["reset: None"]}, "refused: reset"),
        ({"results": ["registered"] * 99}, "100 images were dealt with, 99 are on ~/result"),
        ({"counters": {"images_received": 480}}, "480 images came and are not accounted for"),
        ({"counters": {}}, "500 images were sent, 0 received"),
        ({"counters": {"images_accepted": 90, "images_received": 90}}, "90 images were accepted"),
        ({"counters": {"images_failed": 1}}, "1 images failed"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], expected: str) -> None:
    assert expected in _problems(_seen(**changes))


def test_growing_memory_and_a_new_solver_are_said() -> None:
    assert "memory grew by 60 MB" in _problems(_seen(), megabytes=100.0)
    assert "3 processes were seen" in _problems(_seen(), pids=(1, 2, 3))
