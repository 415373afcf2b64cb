"""Exact-stamp pairing."""

from __future__ import annotations

import pytest

from xray_registration.ros.pairing import ExactStampPairer


def _pairer(capacity: int = 3) -> ExactStampPairer[str, str]:
    return ExactStampPairer(capacity)


def test_either_order() -> None:
    pairer = _pairer()
    assert pairer.add_first(5, "image") is None
    assert pairer.add_second(5, "info") == ("image", "info")
    assert pairer.add_second(6, "info 6") is None
    assert pairer.add_first(6, "image 6") == ("image 6", "info 6")
    assert pairer.unpaired_firsts == 0


def test_only_equal_stamps_pair() -> None:
    pairer = _pairer()
    assert pairer.add_first(5, "image") is None
    assert pairer.add_second(6, "info") is None
    assert pairer.waiting_firsts == 1


def test_a_pair_is_given_once() -> None:
    pairer = _pairer()
    pairer.add_first(5, "image")
    assert pairer.add_second(5, "info") is not None
    assert pairer.add_second(5, "info again") is None
    assert pairer.add_second(5, "info once more") is None


def test_older_halves_are_given_up_when_a_newer_pair_is_found() -> None:
    pairer = _pairer()
    pairer.add_first(1, "old image")
    pairer.add_second(2, "old info")
    pairer.add_first(3, "image")
    assert pairer.add_second(3, "info") == ("image", "info")
    assert pairer.unpaired_firsts == 1
    assert pairer.add_second(1, "too late") is None
    assert pairer.add_first(2, "too late") is None


def test_newer_halves_stay() -> None:
    pairer = _pairer()
    pairer.add_first(3, "image 3")
    pairer.add_first(4, "image 4")
    assert pairer.add_second(3, "info 3") == ("image 3", "info 3")
    assert pairer.add_second(4, "info 4") == ("image 4", "info 4")


def test_bounded_and_the_newest_stay() -> None:
    pairer = _pairer(capacity=3)
    for stamp in range(10):
        assert pairer.add_first(stamp, f"image {stamp}") is None
    assert pairer.waiting_firsts == 3
    assert pairer.unpaired_firsts == 7
    assert pairer.add_second(9, "info") == ("image 9", "info")
    assert pairer.unpaired_firsts == 9
    for stamp in range(20, 40):
        pairer.add_second(stamp, "info")
    assert pairer.add_first(20, "image") is None
    assert pairer.add_first(39, "image") == ("image", "info")


def test_time_that_jumps_back_does_not_block() -> None:
    pairer = _pairer()
    pairer.add_first(1000, "image")
    for stamp in range(5):  # a bag that starts again
        assert pairer.add_first(stamp, "image") is None
        assert pairer.add_second(stamp, "info") == ("image", "info")


def test_an_image_that_comes_twice_counts() -> None:
    pairer = _pairer()
    pairer.add_first(1, "image")
    pairer.add_first(1, "image again")
    assert pairer.unpaired_firsts == 1
    assert pairer.add_second(1, "info") == ("image again", "info")


def test_clear_and_capacity() -> None:
    pairer = _pairer()
    pairer.add_first(1, "image")
    pairer.clear()
    assert pairer.add_second(1, "info") is None
    with pytest.raises(ValueError, match="capacity is 0"):
        ExactStampPairer(0)
