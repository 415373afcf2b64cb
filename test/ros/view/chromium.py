"""A headless Chromium that shows one page, asked over its debugging protocol."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
    "--window-size=1280,720",
)


def find_chromium() -> str | None:
    """Path of the program, if there is one."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Chromium:
    """Started with an address; ``evaluate`` asks the page."""

    def __init__(self, program: str, address: str, profile: Path) -> None:
        # the ROS wheels' libraries are not the browser's
        environment = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
        self._log = (profile.parent / "chromium.log").open("w+")
        self._process = subprocess.Popen(
            [program, *_OPTIONS, f"--user-data-dir={profile}", address],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        self._page = self._find_page(address)

    def _find_page(self, address: str) -> str:
        end = time.monotonic() + 60.0
        while time.monotonic() < end:
            self._log.seek(0)
            if found := re.search(r"listening on ws://([^/]+)/", self._log.read()):
                with urllib.request.urlopen(f"http://{found[1]}/json/list", timeout=10) as answer:
                    for target in json.load(answer):
                        if target["type"] == "page" and target["url"] == address:
                            return str(target["webSocketDebuggerUrl"])
            time.sleep(0.1)
        raise TimeoutError("chromium has not opened the page")

    def evaluate(self, expression: str) -> Any:
        """Value of an expression of JavaScript in the page."""
        return asyncio.run(self._evaluate(expression))

    async def _evaluate(self, expression: str) -> Any:
        from tornado.websocket import websocket_connect

        socket = await websocket_connect(self._page)
        parameters = {"expression": expression, "returnByValue": True}
        order = {"id": 1, "method": "Runtime.evaluate", "params": parameters}
        await socket.write_message(json.dumps(order))
        answer = json.loads(str(await socket.read_message()))
        socket.close()
        assert "exceptionDetails" not in answer["result"], answer
        return answer["result"]["result"].get("value")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
