"""One thread that always works on the newest item.

Registration takes longer than images may come. The subscription callback only puts the newest
image in a slot; what was waiting there is replaced and counted as a drop. So memory and latency
stay bounded and the executor never waits for the solver.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class NewestItemWorker(Generic[Item]):
    """Runs ``process`` on the newest submitted item, one at a time, in its own thread."""

    def __init__(
        self,
        process: Callable[[Item], None],
        on_error: Callable[[Item, Exception], None],
        name: str = "worker",
    ) -> None:
        """Start the thread.

        Args:
            process: called in the worker thread.
            on_error: called in the worker thread with the item and what ``process`` raised; the
                worker goes on.
            name: of the thread.
        """
        self._process = process
        self._on_error = on_error
        self._condition = threading.Condition()
        self._waiting: Item | None = None
        self._busy = False
        self._stopping = False
        self._drops = 0
        # A daemon: a solver stuck in native code must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Item | None:
        """Put the newest item in the slot; returns the older one that it replaced, if any.

        Never blocks on ``process``. Ignored after ``stop``.
        """
        with self._condition:
            if self._stopping:
                return None
            replaced, self._waiting = self._waiting, item
            if replaced is not None:
                self._drops += 1
            self._condition.notify()
            return replaced

    @property
    def drops(self) -> int:
        """Items replaced by a newer one before they were processed."""
        return self._drops

    @property
    def busy(self) -> bool:
        """An item is waiting or being processed."""
        with self._condition:
            return self._busy or self._waiting is not None

    def stop(self, timeout_s: float | None = 0.0) -> bool:
        """Take no more items, forget the waiting one, wait for the current one.

        Args:
            timeout_s: how long to wait for the thread to end; None = as long as it takes.

        Returns:
            True when the thread has ended.
        """
        with self._condition:
            self._stopping = True
            self._waiting = None
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                while self._waiting is None and not self._stopping:
                    self._condition.wait()
                if self._waiting is None:
                    return
                item, self._waiting = self._waiting, None
                self._busy = True
            try:
                self._process(item)
            except Exception as error:
                self._report(item, error)
            finally:
                with self._condition:
                    self._busy = False

    def _report(self, item: Item, error: Exception) -> None:
        try:
            self._on_error(item, error)
        except Exception:  # the thread must outlive also a defect in reporting a defect
            traceback.print_exc()
