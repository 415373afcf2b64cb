"""Looking transforms up on /tf and /tf_static, with tf2_ros where it is installed and without.

Both answer alike: the transform at the asked time, between two samples interpolated, never
extrapolated; static edges hold at any time.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import TransformStamped
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from xray_registration.errors import InputError
from xray_registration.geometry.converters import matrix_from_transform
from xray_registration.optional import require
from xray_registration.ros.tf import TF_QOS, tf_message_type

Matrix = npt.NDArray[np.float64]

_BUFFER_NS = 10_000_000_000  # tf2's default
_STATIC_QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TransformLookup(Protocol):
    """Anything that answers for /tf."""

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """target_from_source (4, 4) mm at a time.

        Raises:
            InputError: not connected, or not known at that time.
        """

    def destroy(self) -> None:
        """Stop listening."""


class _Forgetful:
    """tf2_ros' buffer, cleared when a bag or a simulation is started again.

    By itself it ignores all that is older than ten seconds until its clock jumps back, and the wall
    clock never does.
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self._newest_ns: dict[tuple[str, str], int] = {}

    def set_transform(self, edge: TransformStamped, authority: str) -> None:
        """Of tf2_ros' listener."""
        names, stamp_ns = _names(edge), Time.from_msg(edge.header.stamp).nanoseconds
        newest_ns = self._newest_ns.get(names, stamp_ns)
        if stamp_ns < newest_ns - _BUFFER_NS:
            self._buffer.clear()  # not the static ones
            self._newest_ns.clear()
            newest_ns = stamp_ns
        self._newest_ns[names] = max(newest_ns, stamp_ns)
        self._buffer.set_transform(edge, authority)

    def set_transform_static(self, edge: TransformStamped, authority: str) -> None:
        """Of tf2_ros' listener."""
        self._buffer.set_transform_static(edge, authority)


class Tf2Lookup:
    """tf2_ros' buffer and listener."""

    def __init__(self, node: Node, tf2_ros: Any) -> None:
        self._errors = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(_Forgetful(self._buffer), node)

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """See ``TransformLookup``."""
        time = Time(nanoseconds=stamp_ns, clock_type=ClockType.ROS_TIME)
        try:
            edge = self._buffer.lookup_transform(target, source, time)
        except self._errors as error:
            raise InputError(f"/tf: no transform from '{source}' to '{target}': {error}") from error
        return _matrix(edge)

    def destroy(self) -> None:
        """Stop listening."""
        self._listener.unregister()


class PlainLookup:
    """The same without tf2_ros: pytransform3d finds the way and interpolates the edges."""

    def __init__(self, node: Node) -> None:
        """Listen; raises MissingDependencyError without tf2_msgs."""
        self._node = node
        self._lock = threading.Lock()
        self._static: dict[tuple[str, str], Matrix] = {}
        self._moving: dict[tuple[str, str], deque[tuple[int, Matrix]]] = {}
        kind = tf_message_type()
        self._subscriptions = [
            node.create_subscription(kind, "/tf", self._on_tf, TF_QOS),
            node.create_subscription(kind, "/tf_static", self._on_static, _STATIC_QOS),
        ]

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """See ``TransformLookup``."""
        if target == source:
            return np.eye(4)
        library = require("pytransform3d.transform_manager")
        manager = library.TransformManager(strict_check=False)
        late = []
        with self._lock:
            edges = dict(self._static)
            for edge, samples in self._moving.items():
                matrix = _interpolated(samples, stamp_ns)
                if matrix is None:
                    late.append(f"{edge[1]} -> {edge[0]}")
                else:
                    edges[edge] = matrix
        for (parent, child), matrix in edges.items():
            manager.add_transform(child, parent, matrix)
        try:
            found = manager.get_transform(source, target)
        except KeyError:
            unknown = f"; not known at that time: {', '.join(late)}" if late else ""
            raise InputError(
                f"/tf: no transform from '{source}' to '{target}' at {stamp_ns * 1e-9:.3f} s"
                f"{unknown}"
            ) from None
        return np.asarray(found, dtype=np.float64)

    def destroy(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_static(self, message: Any) -> None:
        with self._lock:
            for edge in message.transforms:
                if (matrix := _matrix_or_none(edge)) is not None:
                    self._static[_names(edge)] = matrix

    def _on_tf(self, message: Any) -> None:
        with self._lock:
            for edge in message.transforms:
                if (matrix := _matrix_or_none(edge)) is not None:
                    samples = self._moving.setdefault(_names(edge), deque())
                    _insert(samples, Time.from_msg(edge.header.stamp).nanoseconds, matrix)


def make_lookup(node: Node) -> TransformLookup:
    """tf2_ros' where it is installed, otherwise the plain one."""
    try:
        import tf2_ros
    except ImportError:
        return PlainLookup(node)
    return Tf2Lookup(node, tf2_ros)


def _insert(samples: deque[tuple[int, Matrix]], stamp_ns: int, matrix: Matrix) -> None:
    """In the order of stamps; what is older than the buffer is dropped, as by tf2."""
    if samples and stamp_ns < samples[-1][0] - _BUFFER_NS:
        samples.clear()  # time has jumped back: a simulation or a bag was started again
    index = len(samples)
    while index and samples[index - 1][0] > stamp_ns:
        index -= 1
    if index and samples[index - 1][0] == stamp_ns:
        samples[index - 1] = (stamp_ns, matrix)
        return
    samples.insert(index, (stamp_ns, matrix))
    while samples[0][0] < samples[-1][0] - _BUFFER_NS:
        samples.popleft()


def _interpolated(samples: deque[tuple[int, Matrix]], stamp_ns: int) -> Matrix | None:
    stamps = [stamp for stamp, _ in samples]
    index = bisect_left(stamps, stamp_ns)
    if index < len(stamps) and stamps[index] == stamp_ns:
        return samples[index][1]
    if index in (0, len(stamps)):
        return None
    transformations = require("pytransform3d.transformations")
    (before_ns, before), (after_ns, after) = samples[index - 1], samples[index]
    share = (stamp_ns - before_ns) / (after_ns - before_ns)
    start, end = (transformations.pq_from_transform(m, strict_check=False) for m in (before, after))
    between = transformations.pq_slerp(start, end, share)
    return np.asarray(transformations.transform_from_pq(between), dtype=np.float64)


def _names(edge: TransformStamped) -> tuple[str, str]:
    return edge.header.frame_id.lstrip("/"), edge.child_frame_id.lstrip("/")


def _matrix_or_none(edge: TransformStamped) -> Matrix | None:
    try:
        return _matrix(edge)
    except InputError:  # NaN, or no rotation: as if it had not been sent
        return None


def _matrix(edge: TransformStamped) -> Matrix:
    t, q = edge.transform.translation, edge.transform.rotation
    return matrix_from_transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w), "/tf")
