"""Markers as the browser gets them."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from xray_registration.ros.view import marker_scene
from xray_registration.ros.view.marker_scene import MarkerStore, drawable_of


def _marker(kind: int, number: int = 0, points: Any = (), ns: str = "bone") -> Marker:
    marker = Marker(header=Header(frame_id="patient"), ns=ns, id=number, type=kind)
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = 1.0
    marker.color = ColorRGBA(r=1.0, g=0.5, b=0.25, a=1.0)
    marker.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in points]
    return marker


def _unpacked(block: bytes) -> list[dict[str, Any]]:
    (length,) = struct.unpack_from("<I", block)
    assert length % 4 == 0
    entries = json.loads(block[4 : 4 + length])["drawables"]
    points = np.frombuffer(block, "<f4", offset=4 + length).reshape(-1, 3)
    assert len(points) == sum(e["count"] for e in entries)
    for entry in entries:
        entry["points"] = points[entry["offset"] : entry["offset"] + entry["count"]]
    return entries


def test_a_block_holds_what_was_published_where_its_pose_puts_it() -> None:
    store = MarkerStore()
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
    turned = _marker(Marker.TRIANGLE_LIST, points=corners)
    turned.pose.position.x = 10.0
    turned.pose.orientation.z = turned.pose.orientation.w = np.sqrt(0.5)  # x to y
    name = _marker(Marker.TEXT_VIEW_FACING, ns="names")
    name.text, name.pose.position.z = "T8", 2.0
    store.update([turned, name])
    surface, text = _unpacked(store.block())
    np.testing.assert_allclose(surface["points"], [(10, 0, 0), (10, 1, 0), (9, 0, 0)], atol=1e-6)
    assert (surface["frame"], surface["kind"], surface["ns"]) == ("patient", "triangles", "bone")
    assert surface["rgba"] == [1.0, 0.5, 0.25, 1.0]
    assert (text["kind"], text["text"]) == ("text", "T8")
    np.testing.assert_allclose(text["points"], [(0, 0, 2)])


def test_add_change_delete() -> None:
    store = MarkerStore()
    line = [(0, 0, 0), (1, 0, 0)]
    store.update([_marker(Marker.LINE_LIST, n, line) for n in range(3)])
    versions = [store.version]
    changed = _marker(Marker.LINE_LIST, 1, [*line, *line])
    gone = _marker(Marker.LINE_LIST, 2)
    gone.action = Marker.DELETE
    store.update([changed, gone])
    assert [e["count"] for e in _unpacked(store.block())] == [2, 4]
    everything = _marker(Marker.LINE_LIST)
    everything.action = Marker.DELETEALL
    store.update([everything])
    assert _unpacked(store.block()) == []
    versions.append(store.version)
    store.clear()
    assert versions[0] < versions[1] < store.version


def test_shapes() -> None:
    strip = drawable_of(_marker(Marker.LINE_STRIP, points=[(0, 0, 0), (1, 0, 0), (2, 0, 0)]))
    assert strip is not None
    np.testing.assert_allclose(strip.points[:, 0], [0, 1, 1, 2])
    arrow = _marker(Marker.ARROW)
    arrow.scale.x = 0.3
    drawn = drawable_of(arrow)
    assert drawn is not None
    np.testing.assert_allclose(drawn.points, [(0, 0, 0), (0.3, 0, 0)], atol=1e-7)
    way = drawable_of(_marker(Marker.ARROW, points=[(1, 1, 1), (2, 2, 2)]))
    assert way is not None
    np.testing.assert_allclose(way.points, [(1, 1, 1), (2, 2, 2)])
    for kind in (Marker.CUBE, Marker.SPHERE, Marker.CYLINDER):
        solid = _marker(kind)
        solid.scale.x, solid.scale.y, solid.scale.z = 2.0, 4.0, 6.0
        solid.pose.orientation.w = 0.0  # as left by whoever forgets it
        drawn = drawable_of(solid)
        assert drawn is not None
        assert drawn.kind == "triangles"
        assert len(drawn.points) % 3 == 0
        np.testing.assert_allclose(np.ptp(drawn.points, axis=0), [2, 4, 6], atol=1e-5)
    assert drawable_of(_marker(Marker.MESH_RESOURCE)) is None


def test_broken_markers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MarkerStore()
    broken = _marker(Marker.TRIANGLE_LIST, points=[(0, 0, 0), (1, 0, 0), (float("nan"), 1, 0)])
    cut = _marker(Marker.TRIANGLE_LIST, 1, [(0, 0, 0), (1, 0, 0), (0, 1, 0), (5, 5, 5)])
    skewed = _marker(Marker.CUBE, 2)
    skewed.pose.orientation.x = 3.0
    store.update([broken, cut, skewed])
    assert [e["count"] for e in _unpacked(store.block())] == [3]
    assert "bone/2" in store.problem
    monkeypatch.setattr(marker_scene, "MAX_POINTS", 5)
    store.update([_marker(Marker.TRIANGLE_LIST, 3, [(0, 0, 0), (1, 0, 0), (0, 1, 0)])])
    assert len(_unpacked(store.block())) == 1
    assert "more than 5 points" in store.problem
