"""Which images of several views belong together: those of equal or nearly equal stamps."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ViewSync(Generic[Item]):
    """Collects one item of every view; bounded, newest wins. Not thread-safe, as the pairers."""

    def __init__(self, views: int, tolerance_ns: int, capacity: int = 8) -> None:
        """Sync.

        Args:
            views: how many.
            tolerance_ns: largest difference of stamps within a set; 0 = equal.
            capacity: items of each view that wait, at most; the oldest to arrive goes first.
        """
        if views < 1 or capacity < 1 or tolerance_ns < 0:
            raise ValueError(f"views {views}, tolerance {tolerance_ns} ns, capacity {capacity}")
        self._tolerance_ns = tolerance_ns
        self._capacity = capacity
        self._waiting: list[OrderedDict[int, Item]] = [OrderedDict() for _ in range(views)]
        self.unmatched = 0
        """Items given up: evicted, or older than a set that was found."""

    def add(self, view: int, stamp_ns: int, item: Item) -> tuple[Item, ...] | None:
        """Take an item; the set, in the order of the views, when it completes one."""
        mine = self._waiting[view]
        if mine.pop(stamp_ns, None) is not None:
            self.unmatched += 1
        mine[stamp_ns] = item
        chosen = self._set_around(view, stamp_ns)
        if chosen is None:
            if len(mine) > self._capacity:
                mine.popitem(last=False)
                self.unmatched += 1
            return None
        found = tuple(self._waiting[n].pop(stamp) for n, stamp in enumerate(chosen))
        for waiting, stamp in zip(self._waiting, chosen, strict=True):
            for old in [s for s in waiting if s < stamp]:
                del waiting[old]
                self.unmatched += 1
        return found

    def _set_around(self, view: int, stamp_ns: int) -> list[int] | None:
        """Of every view the stamp nearest to this one, when all are within the tolerance."""
        chosen = []
        for number, waiting in enumerate(self._waiting):
            if number == view:
                chosen.append(stamp_ns)
                continue
            if not waiting:
                return None
            chosen.append(min(waiting, key=lambda stamp: abs(stamp - stamp_ns)))
        return chosen if max(chosen) - min(chosen) <= self._tolerance_ns else None
