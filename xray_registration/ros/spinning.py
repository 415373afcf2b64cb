"""Spinning a node until it is done or interrupted, and ending its process in peace."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import TypeVar

import rclpy
from rclpy.node import Node

NodeT = TypeVar("NodeT", bound=Node)


def spin_until(node: NodeT, is_done: Callable[[NodeT], bool]) -> None:
    """Spin until the node is done or rclpy has been shut down by a signal."""
    try:
        while rclpy.ok() and not is_done(node):
            rclpy.spin_once(node, timeout_sec=0.1)
    except RuntimeError:  # rclpy's RCLError: the signal came between the two
        if rclpy.ok():
            raise


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no further Ctrl-C break into the clean-up.

    In a terminal the whole group gets the first one, and ros2 launch may send its own on top.
    """
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
