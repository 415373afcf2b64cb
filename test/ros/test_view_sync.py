"""Images of several views, brought together by their stamps."""

from __future__ import annotations

import itertools

import pytest

from xray_registration.ros.view_sync import ViewSync


def test_equal_stamps_in_any_order() -> None:
    for order in itertools.permutations(range(3)):
        sync: ViewSync[str] = ViewSync(3, 0)
        found = [sync.add(view, 5, f"v{view}") for view in order]
        assert found == [None, None, ("v0", "v1", "v2")]
        assert sync.unmatched == 0


def test_one_view_is_a_set_by_itself() -> None:
    assert ViewSync(1, 0).add(0, 7, "a") == ("a",)


def test_the_tolerance_bounds_the_whole_set() -> None:
    sync: ViewSync[int] = ViewSync(3, 10)
    assert sync.add(0, 100, 100) is None
    assert sync.add(1, 108, 108) is None
    # within 10 of the first, 18 from ...
    assert sync.add(2, 90, 90) is None
    assert sync.add(2, 99, 99) == (100, 108, 99)
    # what is older than the set is given up
    assert sync.unmatched == 1


def test_exact_means_exact() -> None:
    sync: ViewSync[int] = ViewSync(2, 0)
    assert sync.add(0, 100, 0) is None
    assert sync.add(1, 101, 1) is None
    assert sync.add(1, 100, 2) == (0, 2)


def test_the_nearest_wins() -> None:
    sync: ViewSync[int] = ViewSync(2, 50)
    assert sync.add(0, 100, 100) is None
    assert sync.add(1, 160, 160) is None
    assert sync.add(0, 140, 140) == (140, 160)
    assert sync.unmatched == 1


def test_bounded() -> None:
    sync: ViewSync[int] = ViewSync(2, 0, capacity=3)
    for stamp in range(10):
        assert sync.add(0, stamp, stamp) is None
    assert sync.unmatched == 7
    assert sync.add(1, 6, 6) is None
    assert sync.add(1, 7, 7) == (7, 7)
    with pytest.raises(ValueError, match="tolerance"):
        ViewSync(2, -1)
