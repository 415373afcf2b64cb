"""Order of precedence of the start poses."""

from __future__ import annotations

import numpy as np

from xray_registration.ros.start_pose import StartPosePolicy, StartSource


def _pose(x: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = x
    return matrix


def test_nothing_then_parameter_then_previous_then_initialpose() -> None:
    policy = StartPosePolicy()
    assert policy.choose(None, True) is None
    start = policy.choose(_pose(1), True)
    assert start is not None
    assert start.source is StartSource.PARAMETER
    policy.report(start, _pose(2), 5)
    start = policy.choose(_pose(1), True)
    assert start is not None
    assert start.source is StartSource.PREVIOUS
    assert start.rig_from_ct[0, 3] == 2
    policy.set_initialpose(_pose(3), "")
    start = policy.choose(_pose(1), True)
    assert start is not None
    assert start.source is StartSource.INITIALPOSE


def test_initialpose_is_used_until_accepted() -> None:
    policy = StartPosePolicy()
    policy.set_initialpose(_pose(3), "")
    start = policy.choose(None, True)
    assert start is not None
    assert not policy.report(start, None, 5)
    assert policy.choose(None, True) is start
    policy.report(start, _pose(4), 5)
    start = policy.choose(None, True)
    assert start is not None
    assert start.source is StartSource.PREVIOUS


def test_an_initialpose_that_arrives_meanwhile_stays() -> None:
    policy = StartPosePolicy()
    policy.set_initialpose(_pose(3), "")
    start = policy.choose(None, True)
    assert start is not None
    policy.set_initialpose(_pose(9), "")
    policy.report(start, _pose(4), 5)
    newer = policy.choose(None, True)
    assert newer is not None
    assert newer.rig_from_ct[0, 3] == 9


def test_a_start_is_dropped_after_rejects_in_a_row() -> None:
    policy = StartPosePolicy()
    first = policy.choose(_pose(1), True)
    assert first is not None
    policy.report(first, _pose(2), 3)
    previous = policy.choose(_pose(1), True)
    assert previous is not None
    assert [policy.report(previous, None, 3) for _ in range(3)] == [False, False, True]
    fallback = policy.choose(_pose(1), True)
    assert fallback is not None
    assert fallback.source is StartSource.PARAMETER
    # the parameter itself is never dropped
    assert not any(policy.report(fallback, None, 1) for _ in range(3))
    assert policy.choose(_pose(1), True) is not None


def test_an_accepted_image_resets_the_count_and_zero_means_never() -> None:
    policy = StartPosePolicy()
    policy.set_initialpose(_pose(3), "")
    start = policy.choose(None, True)
    assert start is not None
    assert not any(policy.report(start, None, 0) for _ in range(50))
    policy.report(start, _pose(4), 2)
    for _ in range(4):
        previous = policy.choose(None, True)
        assert previous is not None
        assert not policy.report(previous, None, 2)
        policy.report(previous, _pose(4), 2)


def test_use_previous_off_drop_and_reset() -> None:
    policy = StartPosePolicy()
    start = policy.choose(_pose(1), False)
    assert start is not None
    policy.report(start, _pose(2), 5)
    again = policy.choose(_pose(1), False)
    assert again is not None
    assert again.source is StartSource.PARAMETER
    policy.set_initialpose(_pose(3), "elsewhere")
    wrong = policy.choose(None, False)
    assert wrong is not None
    assert wrong.frame_id == "elsewhere"
    policy.drop(wrong)
    assert policy.choose(None, False) is None
    policy.reset()
    assert policy.choose(None, True) is None
