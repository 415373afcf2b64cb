"""HTTP and WebSocket side of the view.

    /                   the page; /page/... its files
    /live               WebSocket: the state, several times a second; it takes no orders
    /state.json         the same once
    /picture/NAME.jpg   the newest picture of NAME (xray, overlay, drr); 404 when there is none
    /scene.bin          the markers, see ``marker_scene``

Bounded everywhere: a browser is sent a state only when the one before has left; it fetches pictures
itself, the newest, as fast as it can show them; a picture is encoded once for all browsers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket

from xray_registration.errors import InputError
from xray_registration.ros.view.heard import Heard
from xray_registration.ros.view.pictures import jpeg
from xray_registration.ros.view.state_message import state_message
from xray_registration.ros.view.topics import Topics

PAGE = Path(__file__).with_name("page")
MAX_BROWSERS = 16
_PING_S = 5.0
# Nothing from elsewhere: the page works without a network, and nothing can be slipped into it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ViewServer:
    """Serves one ``Heard`` to any number of browsers up to ``MAX_BROWSERS``."""

    def __init__(
        self, heard: Heard, topics: Topics, rate_hz: float, watch: Callable[[bool], None]
    ) -> None:
        """``watch`` is called with whether any browser is connected."""
        self._heard, self._topics = heard, topics
        self._period_s = 1.0 / rate_hz
        self._watch = watch
        self._browsers: set[_Live] = set()
        self._encoder = ThreadPoolExecutor(1, "jpeg")
        self._jpegs: dict[str, tuple[int, bytes]] = {}
        self._encoding = asyncio.Lock()
        self._server: tornado.httpserver.HTTPServer | None = None
        self._allowed_hosts: frozenset[str] | None = None

    def listen(self, host: str, port: int) -> int:
        """Open the port (0: any that is free); returns which.

        Raises:
            InputError: the address cannot be used.
        """
        try:
            sockets = tornado.netutil.bind_sockets(port, host)
        except OSError as error:
            raise InputError(
                f"--host {host} --port {port} cannot be listened on: {error.strerror or error}; "
                "choose another, or --port 0 for any free one"
            ) from error
        if _is_loopback(host):
            # A page elsewhere whose name was made to resolve to this machine gets nothing.
            self._allowed_hosts = frozenset({"localhost", "127.0.0.1", "::1", host})
        settings = {"view": self, "websocket_ping_interval": _PING_S}
        files = {"path": str(PAGE)}
        application = tornado.web.Application(
            [
                (r"/()", _File, {**files, "default_filename": "index.html"}),
                (r"/page/(.*)", _File, files),
                (r"/live", _Live),
                (r"/state\.json", _State),
                (r"/picture/(xray|overlay|drr)\.jpg", _Picture),
                (r"/scene\.bin", _Scene),
            ],
            **settings,  # type: ignore[arg-type]
        )
        self._server = tornado.httpserver.HTTPServer(application, max_buffer_size=1 << 20)
        self._server.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])

    async def run(self, stopping: asyncio.Event) -> None:
        """Send the state until told to stop."""
        while not stopping.is_set():
            started = time.monotonic()
            self._watch(bool(self._browsers))
            text = self.state() if self._browsers else ""
            for browser in list(self._browsers):
                browser.offer(text)
            rest = max(0.01, self._period_s - (time.monotonic() - started))
            try:
                await asyncio.wait_for(stopping.wait(), rest)
            except asyncio.TimeoutError:
                continue

    async def close(self) -> None:
        """Say goodbye to the browsers and give the port back."""
        for browser in list(self._browsers):
            browser.close(1001, "the view has ended")
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()
        self._encoder.shutdown(wait=False, cancel_futures=True)

    def state(self) -> str:
        """JSON of now."""
        snapshot = self._heard.snapshot(time.monotonic())
        message = state_message(snapshot, self._topics, self._heard.child_frame)
        return json.dumps(message, allow_nan=False)

    async def picture(self, name: str) -> tuple[int, bytes] | None:
        """(version, JPEG) of the newest.

        Raises:
            InputError: it cannot be shown.
        """
        async with self._encoding:
            image = self._heard.image(name)
            if image is None:
                return None
            cached = self._jpegs.get(name)
            if cached is None or cached[0] != image.version:
                loop = asyncio.get_running_loop()
                content = await loop.run_in_executor(self._encoder, jpeg, image.message, name)
                cached = self._jpegs[name] = (image.version, content)
            return cached

    async def scene(self) -> bytes:
        """The markers' block."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._encoder, self._heard.markers.block)

    def is_allowed(self, host: str) -> bool:
        """Whether a request for this host name is for this server."""
        return self._allowed_hosts is None or host in self._allowed_hosts

    def add(self, browser: _Live) -> bool:
        """A browser comes; False when there are too many."""
        if len(self._browsers) >= MAX_BROWSERS:
            return False
        self._browsers.add(browser)
        return True

    def remove(self, browser: _Live) -> None:
        """A browser has gone."""
        self._browsers.discard(browser)


class _Guarded(tornado.web.RequestHandler):
    """Common headers, and no answer to requests that are meant for another host."""

    @property
    def view(self) -> ViewServer:
        found: ViewServer = self.settings["view"]
        return found

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        if not self.view.is_allowed(self.request.host_name.strip("[]")):
            raise tornado.web.HTTPError(421, reason="Misdirected Request")


class _File(_Guarded, tornado.web.StaticFileHandler):
    """The page and its files."""

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-store")


class _State(_Guarded):
    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(self.view.state())


class _Picture(_Guarded):
    async def get(self, name: str) -> None:
        try:
            found = await self.view.picture(name)
        except InputError as error:
            self.set_status(415)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            await self.finish(str(error))
            return
        if found is None:
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", "image/jpeg")
        self.set_header("X-Version", str(found[0]))
        await self.finish(found[1])


class _Scene(_Guarded):
    async def get(self) -> None:
        self.set_header("Content-Type", "application/octet-stream")
        await self.finish(await self.view.scene())


class _Live(_Guarded, tornado.websocket.WebSocketHandler):
    """One browser. Tornado's ``check_origin`` refuses pages of other sites."""

    _sending: Any = None

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        if not self.view.add(self):
            self.close(1013, f"{MAX_BROWSERS} browsers are connected already")

    def on_message(self, message: str | bytes) -> None:
        """The view takes no orders."""

    def on_close(self) -> None:
        self.view.remove(self)

    def offer(self, text: str) -> None:
        """Send it unless the one before is still on its way: then this browser misses it."""
        if self._sending is not None and not self._sending.done():
            return
        try:
            self._sending = asyncio.ensure_future(self._send(text))
        except tornado.websocket.WebSocketClosedError:
            self.view.remove(self)

    async def _send(self, text: str) -> None:
        try:
            await self.write_message(text)
        except (tornado.websocket.WebSocketClosedError, tornado.iostream.StreamClosedError):
            self.view.remove(self)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
