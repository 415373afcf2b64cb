"""The worker thread: newest wins, nothing blocks, errors do not end it."""

from __future__ import annotations

import threading

import pytest

from xray_registration.ros.worker import NewestItemWorker

LONG_S = 30.0


class Gate:
    """A slow ``process`` under the test's control."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.done: list[int] = []

    def __call__(self, item: int) -> None:
        self.started.release()
        assert self.go_on.acquire(timeout=LONG_S)
        if item < 0:
            raise ValueError(f"item {item}")
        self.done.append(item)


def _no_error(item: int, error: Exception) -> None:
    pytest.fail(f"{item}: {error}")


def test_newest_wins_and_drops_are_counted() -> None:
    gate = Gate()
    worker = NewestItemWorker(gate, _no_error)
    assert worker.submit(1) is None
    assert gate.started.acquire(timeout=LONG_S)
    assert worker.submit(2) is None
    assert worker.submit(3) == 2
    assert worker.submit(4) == 3
    assert worker.busy
    gate.go_on.release(2)
    assert gate.started.acquire(timeout=LONG_S)
    assert worker.stop(LONG_S)
    assert gate.done == [1, 4]
    assert worker.drops == 2
    assert not worker.busy


def test_an_error_is_reported_and_the_next_item_processed() -> None:
    gate = Gate()
    errors: list[tuple[int, str]] = []
    worker = NewestItemWorker(gate, lambda item, error: errors.append((item, str(error))))
    gate.go_on.release(2)
    for item in (-1, 5):
        worker.submit(item)
        assert gate.started.acquire(timeout=LONG_S)
    assert worker.stop(LONG_S)
    assert errors == [(-1, "item -1")]
    assert gate.done == [5]


def test_a_defect_in_the_report_does_not_end_the_thread(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = Gate()

    def report(item: int, error: Exception) -> None:
        raise RuntimeError("cannot say so")

    worker = NewestItemWorker(gate, report)
    gate.go_on.release(2)
    for item in (-1, 5):
        worker.submit(item)
        assert gate.started.acquire(timeout=LONG_S)
    assert worker.stop(LONG_S)
    assert gate.done == [5]
    assert "cannot say so" in capsys.readouterr().err


def test_stop_forgets_the_waiting_item_and_takes_no_more() -> None:
    gate = Gate()
    worker = NewestItemWorker(gate, _no_error)
    worker.submit(1)
    assert gate.started.acquire(timeout=LONG_S)
    worker.submit(2)
    assert not worker.stop()  # still in item 1: does not wait
    worker.submit(3)
    gate.go_on.release(3)
    assert worker.stop(LONG_S)
    assert gate.done == [1]
