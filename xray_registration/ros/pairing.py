"""Pairing of two topics by exactly equal stamps.

message_filters has no wheel; what is needed of it is small. Image and CameraInfo of one shot carry
the same stamp, and a newer pair makes older halves worthless.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


class ExactStampPairer(Generic[First, Second]):
    """Holds the halves that still wait for their partner; bounded, newest wins.

    Not thread-safe: it belongs to one executor callback group.
    """

    def __init__(self, capacity: int = 8) -> None:
        """Keep at most ``capacity`` halves of each side; the oldest to arrive goes first."""
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; at least 1 is expected")
        self._capacity = capacity
        self._firsts: OrderedDict[int, First] = OrderedDict()
        self._seconds: OrderedDict[int, Second] = OrderedDict()
        self.unpaired_firsts = 0
        """Firsts given up: evicted, or older than a pair that was found."""

    def add_first(self, stamp_ns: int, item: First) -> tuple[First, Second] | None:
        """Take a first; the pair when its second is here already."""
        if stamp_ns in self._seconds:
            partner = self._seconds.pop(stamp_ns)
            self._forget_before(stamp_ns)
            return item, partner
        if self._firsts.pop(stamp_ns, None) is not None:
            self.unpaired_firsts += 1
        self._firsts[stamp_ns] = item
        if len(self._firsts) > self._capacity:
            self._firsts.popitem(last=False)
            self.unpaired_firsts += 1
        return None

    def add_second(self, stamp_ns: int, item: Second) -> tuple[First, Second] | None:
        """Take a second; the pair when its first is here already."""
        if stamp_ns in self._firsts:
            partner = self._firsts.pop(stamp_ns)
            self._forget_before(stamp_ns)
            return partner, item
        self._seconds.pop(stamp_ns, None)
        self._seconds[stamp_ns] = item
        if len(self._seconds) > self._capacity:
            self._seconds.popitem(last=False)
        return None

    @property
    def waiting_firsts(self) -> int:
        """Firsts that still wait for a second."""
        return len(self._firsts)

    def clear(self) -> None:
        """Forget all halves (not the count)."""
        self._firsts.clear()
        self._seconds.clear()

    def _forget_before(self, stamp_ns: int) -> None:
        for stamp in [s for s in self._firsts if s < stamp_ns]:
            del self._firsts[stamp]
            self.unpaired_firsts += 1
        for stamp in [s for s in self._seconds if s < stamp_ns]:
            del self._seconds[stamp]
