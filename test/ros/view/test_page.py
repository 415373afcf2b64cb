"""The page in a real browser: what a person reads in each state."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.ros

pytest.importorskip("rclpy")

_FILE = Path(__file__).with_name("chromium.py")
_SPEC = importlib.util.spec_from_file_location("view_chromium", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
chromium = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = chromium
_SPEC.loader.exec_module(chromium)

PROGRAM = chromium.find_chromium()
# What a person sees: word, colour, patient's mark, overlay's mark, whether colours are taken away.
SEEN = """(() => {
  const seen = (id) => document.querySelector(id);
  const has = (id, name) => seen(id)?.classList.contains(name);
  const mark = (id) => has(id, 'marked') ? seen(id + ' .mark').textContent : '';
  return [document.documentElement?.dataset.kind, seen('#word')?.textContent, mark('#space'),
    mark('#overlay'), has('#overlay', 'grey')].join('|');
})()"""


class FakeNode:
    """Says what a registration node would say, on the same topics."""

    def __init__(self, peer: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from sensor_msgs.msg import Image

        self._peer = peer
        self._diagnostics = peer.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._overlay = peer.node.create_publisher(Image, "/registration_node/overlay", 1)
        self._values: dict[str, str] = {}
        self.header: Any = None

    def take(self, state: str) -> None:
        """Say this from now on, of a new image."""
        self.header = self._peer.header()
        stamp = self.header.stamp
        self._values = {
            "state": state,
            "accepted": "true" if state == "registered" else "false",
            "image_stamp": f"{stamp.sec}.{stamp.nanosec:09d}",
            "similarity": "0.98",
        }

    def draw(self) -> None:
        """The overlay of the newest image."""
        from xray_registration.ros.conversions import array_to_image

        picture = np.full((90, 120, 3), 99, np.uint8)
        self._overlay.publish(array_to_image(picture, self.header, "rgb8"))

    def repeat(self) -> None:
        """On /diagnostics."""
        from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

        status = DiagnosticStatus(name="registration_node: registration", message="the reason")
        status.values = [KeyValue(key=k, value=v) for k, v in self._values.items()]
        self._diagnostics.publish(DiagnosticArray(status=[status]))


@pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")
def test_what_a_person_reads(
    peer: Any,
    start_view: Callable[..., Any],
    eventually: Callable[..., Any],
    tmp_path: Path,
) -> None:
    node = FakeNode(peer)
    is_alive = False
    view = start_view("--silent-after", "2", "--stale-after", "3600")
    browser = chromium.Chromium(PROGRAM, view.address, tmp_path / "profile")

    def reads(wanted: str) -> None:
        seen: list[str] = []

        def looks() -> bool:
            if is_alive:
                node.repeat()
            seen.append(browser.evaluate(SEEN))
            return bool(seen[-1] == wanted)

        try:
            eventually(looks, wanted)
        except pytest.fail.Exception as error:
            pytest.fail(f"{error}; seen last: {seen[-1]}")

    try:
        reads("absent|NO NODE|NO VALID POSE||false")
        is_alive = True
        node.take("waiting_for_image")
        reads("waiting|WAITING FOR IMAGE|NO VALID POSE||false")
        node.take("registered")
        reads("registered|REGISTERED|||false")
        width = "document.querySelector('#overlay canvas').width"
        eventually(lambda: node.draw() or browser.evaluate(width) == 120, "the overlay")
        # the accepted picture of the image before, without colours; then that of the refused one
        node.take("rejected")
        reads("rejected|REJECTED|NO VALID POSE|REJECTED|true")
        assert browser.evaluate("document.querySelector('#text').textContent") == "the reason"
        node.draw()
        reads("rejected|REJECTED|NO VALID POSE|REJECTED|false")
        is_alive = False
        reads("silent|NODE SILENT|NO VALID POSE|NODE SILENT|true")
        view.process.kill()
        reads("lost|NO CONNECTION|NO CONNECTION|NO CONNECTION|true")
        # Another process on the same port: the page comes back by itself.
        port = view.address.rstrip("/").rpartition(":")[2]
        start_view("--port", port)
        reads("absent|NO NODE|NO VALID POSE||false")
    finally:
        browser.close()
