"""The view as its own process, and clients of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

TIMEOUT_S = 60.0


class Browser:
    """Reads the WebSocket in a thread, as a page does; keeps what came."""

    def __init__(self, address: str, **headers: str) -> None:
        import tornado.ioloop

        self.address = address
        self.states: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self.is_closed = threading.Event()
        self._headers = headers
        self._loop: tornado.ioloop.IOLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import asyncio

        asyncio.run(self._read())

    async def _read(self) -> None:
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        url = self.address.replace("http://", "ws://") + "live"
        try:
            socket = await websocket_connect(HTTPRequest(url, headers=self._headers))
            while not self.is_closed.is_set():
                text = await socket.read_message()
                if text is None:
                    break
                self.states.append(json.loads(text))
            socket.close()
        except Exception as error:
            self.failure = error
        self.is_closed.set()

    @property
    def kind(self) -> str:
        """Of the newest state."""
        return str(self.states[-1]["standing"]["kind"]) if self.states else ""

    def close(self) -> None:
        """Leave."""
        self.is_closed.set()
        self._thread.join(10.0)


class View:
    """A running ``xray-registration view``."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address
        self._browsers: list[Browser] = []

    def browser(self, **headers: str) -> Browser:
        """A new one."""
        browser = Browser(self.address, **headers)
        self._browsers.append(browser)
        return browser

    def get(self, path: str, **headers: str) -> tuple[int, bytes, Any]:
        """(status, body, headers) of a GET."""
        request = urllib.request.Request(self.address + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    def close(self) -> None:
        """All browsers."""
        for browser in self._browsers:
            browser.close()


@pytest.fixture
def start_view(ros_environment: dict[str, str]) -> Iterator[Callable[..., View]]:
    """Starts the command and waits until it serves."""
    pytest.importorskip("tornado")
    pytest.importorskip("tf2_msgs")
    views: list[View] = []

    def start(*options: str) -> View:
        command = [sys.executable, "-m", "xray_registration.cli", "view", "--no-browser"]
        process = subprocess.Popen(
            [*command, "--port", "0", *options],
            env=ros_environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        said = []
        for line in process.stdout:  # the middleware may have something to say first
            said.append(line)
            if line.startswith("http://127.0.0.1:"):
                break
        else:
            pytest.fail(f"the view has ended: {''.join(said)}")
        view = View(process, said[-1].split(" ")[0])
        views.append(view)
        return view

    yield start
    for view in views:
        view.close()
        if view.process.poll() is None:
            view.process.kill()
        view.process.wait()


@pytest.fixture
def eventually(peer: Any) -> Callable[..., Any]:
    """Spins ROS and, with that, waits: ``eventually(condition, what)``."""

    def wait(condition: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            if value := condition():
                return value
            peer.spin_for(0.05)
        pytest.fail(f"{what} did not happen within {TIMEOUT_S:.0f} s")

    return wait
