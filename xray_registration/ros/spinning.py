"""Spinning a node until it is done or interrupted, and ending its process in peace."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import TypeVar

import rclpy
from rclpy._rclpy_pybind11 import InvalidHandle
from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node

NodeT = TypeVar("NodeT", bound=Node)


# Ctrl-C may come while an executor is made. rclpy's ``__del__`` then misses an attribute that the
# making has not come to, and a traceback is printed: here the class has it.
class OneThread(SingleThreadedExecutor):
    """rclpy's executor that runs callbacks one by one; its making may be interrupted."""

    _sigint_gc = None


class ManyThreads(MultiThreadedExecutor):
    """rclpy's executor with a pool of threads; its making may be interrupted."""

    _sigint_gc = None


def spin_until(node: NodeT, is_done: Callable[[NodeT], bool]) -> None:
    """Spin until the node is done or rclpy has been shut down by a signal."""
    try:
        executor = OneThread()
        executor.add_node(node)
        while rclpy.ok() and not is_done(node):
            executor.spin_once(timeout_sec=0.1)
    except RuntimeError:  # rclpy's RCLError: the signal came between the two
        if rclpy.ok():
            raise


def spin_on(executor: Executor) -> None:
    """Spin until rclpy is shut down, also while callbacks destroy publishers and subscriptions.

    A callback of a multi-threaded executor may destroy one (a latched pose is forgotten with its
    publisher) just when the executor prepares to wait for its events; rclpy then raises
    InvalidHandle out of ``spin``. In the next round the entity is no longer there.
    """
    is_ended = False
    while not is_ended:
        with contextlib.suppress(InvalidHandle):
            executor.spin()
            is_ended = True


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
