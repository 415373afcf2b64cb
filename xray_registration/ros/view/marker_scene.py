"""visualization_msgs markers as one block of bytes that a browser draws.

Block: uint32 length of a JSON header, padded with spaces to a multiple of 4, the header, float32
coordinates. The header is ``{"drawables": [{"frame", "kind", "offset", "count", "rgba", "ns",
"text"}]}``; ``kind`` is triangles, lines, points or text, ``offset`` and ``count`` are of points of
three coordinates, metres in ``frame``. Unknown types of markers are left out.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from visualization_msgs.msg import Marker

from xray_registration.errors import InputError
from xray_registration.geometry.converters import matrix_from_transform
from xray_registration.geometry.frames import metres_from_mm

Points = npt.NDArray[np.float32]

#: points of all markers together that are sent to a browser: a million triangles are 36 MB
MAX_POINTS = 1_500_000
_LINES, _TRIANGLES, _POINTS, _TEXT = "lines", "triangles", "points", "text"
_OF_POINTS = {
    Marker.LINE_LIST: _LINES,
    Marker.LINE_STRIP: _LINES,
    Marker.TRIANGLE_LIST: _TRIANGLES,
    Marker.POINTS: _POINTS,
    Marker.SPHERE_LIST: _POINTS,
    Marker.CUBE_LIST: _POINTS,
}
_ROUND = 16  # corners of what is round


@dataclass(frozen=True, eq=False)
class Drawable:
    """What is drawn of a marker: (N, 3) metres in ``frame``, colours 0..1."""

    frame: str
    kind: str
    points: Points
    rgba: tuple[float, float, float, float]
    ns: str
    text: str = ""


class MarkerStore:
    """The markers that stand, by namespace and id; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawables: dict[tuple[str, int], Drawable] = {}
        self._block: bytes | None = None
        self.version = 0
        self.problem = ""
        """Why the last marker that could not be drawn could not."""

    def update(self, markers: Iterable[Marker]) -> None:
        """Add, change and delete as RViz does."""
        with self._lock:
            for marker in markers:
                key = (marker.ns, int(marker.id))
                if marker.action == Marker.DELETEALL:
                    self._drawables.clear()
                elif marker.action == Marker.DELETE:
                    self._drawables.pop(key, None)
                else:
                    self._add(key, marker)
            self._block = None
            self.version += 1

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._drawables.clear()
            self._block = None
            self.version += 1

    def frames(self) -> set[str]:
        """In which something is drawn."""
        with self._lock:
            return {drawable.frame for drawable in self._drawables.values()}

    def block(self) -> bytes:
        """All that stands, see the module."""
        with self._lock:
            if self._block is None:
                self._block = _block(self._drawables.values())
            return self._block

    def _add(self, key: tuple[str, int], marker: Marker) -> None:
        try:
            drawable = drawable_of(marker)
        except InputError as error:
            self.problem, drawable = str(error), None
        if drawable is None:
            self._drawables.pop(key, None)
            return
        others = sum(len(d.points) for k, d in self._drawables.items() if k != key)
        if others + len(drawable.points) > MAX_POINTS:
            self.problem = f"marker {key[0]}/{key[1]}: more than {MAX_POINTS} points in all"
            self._drawables.pop(key, None)
            return
        self._drawables[key] = drawable


def drawable_of(marker: Marker) -> Drawable | None:
    """What is drawn of a marker; None for a type that is not.

    Raises:
        InputError: a pose or points that are not finite.
    """
    where = f"marker {marker.ns}/{marker.id}"
    kind = _OF_POINTS.get(marker.type)
    scale = np.array([marker.scale.x, marker.scale.y, marker.scale.z])
    if kind is not None:
        points = _xyz(marker.points)
        if marker.type == Marker.LINE_STRIP:
            points = np.repeat(points, 2, axis=0)[1:-1]
    elif marker.type == Marker.TEXT_VIEW_FACING:
        kind, points = _TEXT, np.zeros((1, 3))
    elif marker.type == Marker.ARROW:
        kind = _LINES
        points = _xyz(marker.points) if len(marker.points) == 2 else np.eye(3)[[2, 0]] * scale[0]
        if len(marker.points) != 2:
            points[0] = 0.0
    elif marker.type in (Marker.CUBE, Marker.SPHERE, Marker.CYLINDER):
        kind, points = _TRIANGLES, _solid(marker.type) * scale
    else:
        return None
    if not np.isfinite(points).all():
        raise InputError(f"{where}: points are not finite")
    group = {_LINES: 2, _TRIANGLES: 3}.get(kind, 1)
    points = points[: len(points) // group * group]
    pose = _pose(marker, where)
    placed = points @ pose[:3, :3].T + pose[:3, 3]
    return Drawable(
        marker.header.frame_id.lstrip("/"),
        kind,
        np.ascontiguousarray(placed, dtype=np.float32),
        _rgba(marker),
        marker.ns,
        marker.text,
    )


def _xyz(points: Any) -> npt.NDArray[np.float64]:
    flat = np.fromiter((v for p in points for v in (p.x, p.y, p.z)), np.float64, 3 * len(points))
    return flat.reshape(-1, 3)


def _pose(marker: Marker, where: str) -> npt.NDArray[np.float64]:
    p, q = marker.pose.position, marker.pose.orientation
    if (q.x, q.y, q.z, q.w) == (0.0, 0.0, 0.0, 0.0):  # RViz takes it for no rotation, too
        q.w = 1.0
    return metres_from_mm(matrix_from_transform((p.x, p.y, p.z), (q.x, q.y, q.z, q.w), where))


def _rgba(marker: Marker) -> tuple[float, float, float, float]:
    colour = marker.color
    if len(marker.colors) and colour.a == 0.0:
        colour = marker.colors[0]
    red, green, blue, alpha = (float(np.clip(v, 0.0, 1.0)) for v in _channels(colour))
    return red, green, blue, alpha


def _channels(colour: Any) -> tuple[float, float, float, float]:
    values = (colour.r, colour.g, colour.b, colour.a)
    return values if np.isfinite(values).all() else (1.0, 1.0, 1.0, 1.0)


def _solid(kind: int) -> npt.NDArray[np.float64]:
    """(N, 3) triangles of a solid of diameter or edge 1."""
    rows = {Marker.CUBE: 2, Marker.CYLINDER: 2, Marker.SPHERE: _ROUND // 2 + 1}[kind]
    columns = 4 if kind == Marker.CUBE else _ROUND
    turn = 2 * np.pi * (np.arange(columns + 1) + 0.5 * (kind == Marker.CUBE)) / columns
    if kind == Marker.SPHERE:
        tilt = np.pi * (np.arange(rows) / (rows - 1) - 0.5)
        radius, height = 0.5 * np.cos(tilt), 0.5 * np.sin(tilt)
    else:
        radius = np.full(rows, np.sqrt(0.5) if kind == Marker.CUBE else 0.5)
        height = np.array([-0.5, 0.5])
        radius, height = np.r_[0.0, radius, 0.0], np.r_[-0.5, height, 0.5]
    grid = np.stack(
        [
            radius[:, None] * np.cos(turn),
            radius[:, None] * np.sin(turn),
            np.broadcast_to(height[:, None], (len(radius), columns + 1)),
        ],
        axis=-1,
    )
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    return np.stack([a, b, c, a, c, d], axis=2).reshape(-1, 3)


def _block(drawables: Iterable[Drawable]) -> bytes:
    entries, arrays, offset = [], [], 0
    for drawable in drawables:
        entries.append(
            {
                "frame": drawable.frame,
                "kind": drawable.kind,
                "offset": offset,
                "count": len(drawable.points),
                "rgba": drawable.rgba,
                "ns": drawable.ns,
                "text": drawable.text,
            }
        )
        arrays.append(drawable.points.astype("<f4").tobytes())
        offset += len(drawable.points)
    header = json.dumps({"drawables": entries}).encode()
    header += b" " * (-len(header) % 4)
    return b"".join([struct.pack("<I", len(header)), header, *arrays])
