"""Spinning on while callbacks destroy what the executor waits for, and a Ctrl-C before it."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy._rclpy_pybind11 import InvalidHandle
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from xray_registration.ros.spinning import ManyThreads, OneThread, spin_on


class _Interrupted(MultiThreadedExecutor):
    """Fails once as rclpy does when an entity goes while it prepares to wait."""

    failed = False

    def spin_once(self, timeout_sec: float | None = None) -> None:
        if not self.failed:
            self.failed = True
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        super().spin_once(timeout_sec)


def test_a_destroyed_entity_does_not_end_the_spinning(ros: None) -> None:
    node, executor, turns = Node("forgetful"), _Interrupted(2), threading.Event()
    count = 0

    def forget() -> None:
        nonlocal count
        # as a node does that forgets its latched message
        node.destroy_publisher(node.create_publisher(String, "latched", 1))
        count += 1
        if count == 20:
            turns.set()

    node.create_timer(0.001, forget)
    executor.add_node(node)
    thread = threading.Thread(target=spin_on, args=(executor,), daemon=True)
    thread.start()
    assert turns.wait(20.0)
    assert executor.failed
    executor.shutdown()
    thread.join(10.0)
    assert not thread.is_alive()
    node.destroy_node()


@pytest.mark.parametrize("kind", [OneThread, ManyThreads])
def test_an_interrupted_making_leaves_no_traceback(
    ros: None, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    monkeypatch.setattr("rclpy.executors.SignalHandlerGuardCondition", interrupt)
    with pytest.raises(KeyboardInterrupt):
        kind()
    gc.collect()
    assert not unraisable
