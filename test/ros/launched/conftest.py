"""Launch files are started for real where ROS 2's launch is installed.

The wheels from PyPI have no launch: docs/ros.md says how to run these tests against a checkout.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xray_registration.ros.qos import LATCHED

TIMEOUT_S = 240.0


class Watcher:
    """Listens on ROS in a thread of its own while launch has the main thread's event loop."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("launch_watcher", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def heard(self, message_type: Any, topic: str, latched: bool = False) -> list[Any]:
        """A list that fills with what comes on a topic."""
        found: list[Any] = []
        qos = LATCHED if latched else 100
        self.node.create_subscription(message_type, topic, found.append, qos)
        return found

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Until it holds, or fail."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, f"{what} did not happen within {TIMEOUT_S:.0f} s"
            time.sleep(0.05)

    def close(self) -> None:
        """Stop listening."""
        self._stopping.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=0.05)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    """Ears on the tests' ROS domain."""
    made = Watcher()
    yield made
    made.close()


@pytest.fixture
def launch_environment(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    """The wheels' bootstrap runs again in the nodes' processes; they find this package."""
    monkeypatch.delenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", raising=False)
    if "AMENT_PREFIX_PATH" not in os.environ:
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(repository / ".venv"))
