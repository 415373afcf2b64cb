"""The view's process: a thread for ROS, this one for the browsers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from xray_registration.errors import InputError
from xray_registration.ros.view.heard import Heard
from xray_registration.ros.view.listener import Listener
from xray_registration.ros.view.server import ViewServer
from xray_registration.ros.view.standing import Limits
from xray_registration.ros.view.topics import Topics

MAX_RATE_HZ = 30.0


@dataclass(frozen=True)
class ViewConfig:
    """What the command line says. ``port`` 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 8770
    rate_hz: float = 5.0
    topics: Topics = field(default_factory=Topics)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port is {self.port}; expected 0 to 65535")
        if not 0.2 <= self.rate_hz <= MAX_RATE_HZ:
            raise InputError(f"--rate is {self.rate_hz}; expected 0.2 to {MAX_RATE_HZ:g}")


def run_view(config: ViewConfig, on_ready: Callable[[str], None]) -> None:
    """Serve until interrupted; ``on_ready`` is called with the address once it is open.

    Raises:
        InputError: the address cannot be used.
    """
    # The signals are the event loop's: rclpy's handlers would take the context from under it.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    heard = Heard(config.limits)
    listener = Listener(config.topics, heard)
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    thread = threading.Thread(target=_spin, args=(executor,), name="ros", daemon=True)
    thread.start()
    try:
        asyncio.run(_serve(config, heard, listener, on_ready))
    finally:
        executor.shutdown()
        thread.join(5.0)
        listener.destroy_node()
        rclpy.try_shutdown()


async def _serve(
    config: ViewConfig, heard: Heard, listener: Listener, on_ready: Callable[[str], None]
) -> None:
    def watch(is_watched: bool) -> None:
        listener.is_watched = is_watched

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    server = ViewServer(heard, config.topics, config.rate_hz, watch)
    port = server.listen(config.host, config.port)
    host = f"[{config.host}]" if ":" in config.host else config.host
    on_ready(f"http://{host}:{port}/")
    try:
        await server.run(stopping)
    finally:
        await server.close()


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()
