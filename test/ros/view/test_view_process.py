"""The command as a process: registration node, DDS, WebSocket and HTTP, all real."""

from __future__ import annotations

import gc
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.ros

cv2 = pytest.importorskip("cv2")
pytest.importorskip("rclpy")


def _picture(content: bytes) -> np.ndarray:
    picture: np.ndarray = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return picture.astype(int)


def test_a_node_is_shown_from_its_start_to_its_death(
    scene: Any,
    peer: Any,
    make_node: Callable[..., Any],
    start_view: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    view = start_view("--silent-after", "2", "--stale-after", "3600")
    first, second = view.browser(), view.browser()
    eventually(lambda: first.kind == second.kind == "absent", "a page without a node")
    assert first.states[-1]["standing"]["word"] == "NO NODE"
    # Nobody but the browsers makes the node draw.
    make_node()
    eventually(lambda: first.kind == "waiting", "the node")
    peer.wait_for_subscribers()
    eventually(lambda: peer.node.count_subscribers("/image") >= 2, "the view hears images")
    eventually(
        lambda: peer.node.count_subscribers("/registration_node/overlay") >= 2, "and overlays"
    )

    peer.send_initialpose(scene.start())
    peer.wait_for_report(peer.send_scene(scene))
    eventually(lambda: first.kind == second.kind == "registered", "registered")
    state = eventually(
        lambda: (s := first.states[-1]) and s["pose"] and "overlay" in s["pictures"] and s, "all"
    )
    assert state["standing"]["trust"] == "valid"
    matrix = np.reshape(state["pose"]["camera_from_patient"], (4, 4))
    matrix[:3, 3] *= 1e3
    assert scene.mtre_mm(matrix) < 2.0
    assert max(state["pose"]["ellipsoid"]["std_mm"]) > 0.0
    assert state["camera"]["width"] == 256
    eventually(lambda: {"xray", "overlay"} <= first.states[-1]["pictures"].keys(), "pictures")
    assert first.states[-1]["pictures"]["overlay"]["mark"] == ""
    status, content, headers = view.get("picture/overlay.jpg")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    blue, green, red = np.moveaxis(_picture(content), 2, 0)
    assert (green - np.maximum(red, blue) > 60).sum() > 50
    assert _picture(view.get("picture/xray.jpg")[1]).shape == (256, 256, 3)

    # A start with which the CT is nowhere in the picture: refused, and the pose before is gone.
    far = scene.camera_from_ct.copy()
    far[0, 3] += 2000.0
    peer.send_initialpose(far)
    peer.wait_for_report(peer.send_scene(scene))
    eventually(lambda: first.kind == "rejected", "rejected")
    state = first.states[-1]
    assert state["pose"] is None
    assert state["standing"]["trust"] == "none"
    assert state["standing"]["text"]
    assert state["pictures"]["overlay"]["mark"] == "REJECTED"

    # The node dies without a word.
    [node] = [n for n in peer.executor.get_nodes() if n.get_name() == "registration_node"]
    peer.executor.remove_node(node)
    eventually(lambda: first.kind == second.kind == "silent", "silence")
    assert first.states[-1]["standing"]["word"] == "NODE SILENT"
    assert first.states[-1]["pictures"]["overlay"]["mark"] == "NODE SILENT"
    # And comes back.
    peer.executor.add_node(node)
    eventually(lambda: first.kind == "rejected", "the node again")
    del node
    gc.collect()

    # Without browsers nobody draws for the view.
    first.close()
    second.close()
    eventually(
        lambda: peer.node.count_subscribers("/registration_node/overlay") == 1, "the view rests"
    )
    view.process.send_signal(signal.SIGINT)
    output = view.process.communicate(timeout=30)[0]
    assert view.process.returncode == 0, output
    assert output == ""


def test_only_this_machine_and_this_page(
    peer: Any, start_view: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    view = start_view("--namespace", "/carm_a/", "--node", "reg")
    state = json.loads(view.get("state.json")[1])
    assert state["node"] == "/carm_a/reg"
    assert state["standing"]["kind"] == "absent"
    status, page, headers = view.get("")
    assert status == 200
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    # All that the page is made of comes from here.
    assert b"//" not in page
    for name in ("view.css", "view.js", "pictures.js", "space.js", "gl.js", "matrices.js"):
        status, content, _ = view.get(f"page/{name}")
        assert status == 200, name
        assert b"http://" not in content.replace(b"http://www.w3.org", b""), name
        assert b"https://" not in content, name
    assert view.get("picture/overlay.jpg")[0] == 404
    assert view.get("picture/secret.jpg")[0] == 404
    assert view.get("page/../server.py")[0] in (403, 404)
    assert view.get("page/%2e%2e/server.py")[0] in (403, 404)
    # A name of elsewhere that resolves to this machine, and a page of elsewhere.
    assert view.get("state.json", Host="evil.example:80")[0] == 421
    stranger = view.browser(Origin="http://evil.example")
    eventually(stranger.is_closed.is_set, "the stranger is sent away")
    assert "403" in str(stranger.failure)
    # The port was opened for this machine only.
    port = int(view.address.rstrip("/").rpartition(":")[2])
    with socket.socket() as probe, pytest.raises(OSError):
        probe.bind(("127.0.0.1", port))
    taken = subprocess.run(
        [sys.executable, "-m", "xray_registration.cli", "view", "--port", str(port)],
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert taken.returncode == 2
    assert f"--port {port}" in taken.stderr
    assert "Traceback" not in taken.stderr


def test_a_browser_that_reads_nothing_delays_nobody(
    peer: Any, start_view: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    from tornado.websocket import WebSocketClientConnection  # noqa: F401  the protocol is tornado's

    view = start_view("--rate", "30")
    port = int(view.address.rstrip("/").rpartition(":")[2])
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", port))
    lazy.sendall(
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    reader = view.browser()
    eventually(lambda: len(reader.states) > 60, "states for the other browser")
    # Browsers come and go, up to a number.
    crowd = [view.browser() for _ in range(20)]
    eventually(
        lambda: all(b.is_closed.is_set() or b.states for b in crowd), "a decision on everyone"
    )
    assert sum(b.is_closed.is_set() for b in crowd) == 6
    lazy.close()
