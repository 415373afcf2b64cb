"""Convex solids in LPS mm and where rays enter and leave them, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.rendering.xray_model.checks import require_point, require_range

Point = tuple[float, float, float]
Interval = tuple[NDArray[np.float64], NDArray[np.float64]]


class Shape(Protocol):
    """A convex solid."""

    def corners_lps_mm(self) -> NDArray[np.float64]:
        """(N, 3) points whose convex hull holds the solid."""
        ...

    def interval(self, origin: NDArray[np.float64], direction: NDArray[np.float64]) -> Interval:
        """Ray parameters t (N,), enter and leave, of origin (3,) + t direction (N, 3); leave <
        enter: missed.

        Everything in LPS mm. Not clipped at t = 0.
        """
        ...


@dataclass(frozen=True)
class Capsule:
    """All points within ``radius_mm`` of a line segment. A segment of length 0 is a ball.

    Raises:
        InputError: an end that is not three numbers, a radius outside 0.01-500 mm.
    """

    start_lps_mm: Point
    end_lps_mm: Point
    radius_mm: float

    def __post_init__(self) -> None:
        _check_axis(self)

    def corners_lps_mm(self) -> NDArray[np.float64]:
        """(16, 3) corners of the boxes around both end balls."""
        return _boxes((self.start_lps_mm, self.end_lps_mm), self.radius_mm)

    def interval(self, origin: NDArray[np.float64], direction: NDArray[np.float64]) -> Interval:
        """See Shape: a convex union of a cylinder and two balls."""
        start, end = np.array(self.start_lps_mm), np.array(self.end_lps_mm)
        enter, leave = _ball(origin - start, direction, self.radius_mm)
        if np.array_equal(start, end):
            return enter, leave
        for near, far in (
            _ball(origin - end, direction, self.radius_mm),
            _cylinder(origin, direction, start, end, self.radius_mm),
        ):
            hit = far >= near
            enter = np.where(hit, np.minimum(enter, near), enter)
            leave = np.where(hit, np.maximum(leave, far), leave)
        return enter, leave


@dataclass(frozen=True)
class Cylinder:
    """A cylinder with flat ends.

    Raises:
        InputError: as Capsule; also ends that coincide.
    """

    start_lps_mm: Point
    end_lps_mm: Point
    radius_mm: float

    def __post_init__(self) -> None:
        _check_axis(self)
        if self.start_lps_mm == self.end_lps_mm:
            raise InputError(f"Cylinder: both ends are {self.start_lps_mm}; its axis has no length")

    def corners_lps_mm(self) -> NDArray[np.float64]:
        """(16, 3) corners of the boxes around both ends."""
        return _boxes((self.start_lps_mm, self.end_lps_mm), self.radius_mm)

    def interval(self, origin: NDArray[np.float64], direction: NDArray[np.float64]) -> Interval:
        """See Shape."""
        start, end = np.array(self.start_lps_mm), np.array(self.end_lps_mm)
        return _cylinder(origin, direction, start, end, self.radius_mm)


@dataclass(frozen=True)
class Box:
    """A rectangular block.

    Attributes:
        centre_lps_mm: its middle.
        half_size_mm: half its edges along its own axes.
        axes: three LPS unit vectors, its own axes.

    Raises:
        InputError: axes that are not orthonormal, sizes that are not positive.
    """

    centre_lps_mm: Point
    half_size_mm: Point
    axes: tuple[Point, Point, Point] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "centre_lps_mm", require_point("centre_lps_mm", self.centre_lps_mm)
        )
        object.__setattr__(self, "half_size_mm", require_point("half_size_mm", self.half_size_mm))
        for size in self.half_size_mm:
            require_range("half_size_mm", size, 1e-3, 1e5)
        axes = np.array([require_point("axes", axis) for axis in self.axes])
        if axes.shape != (3, 3) or np.abs(axes @ axes.T - np.eye(3)).max() > 1e-6:
            raise InputError(f"Box: axes {self.axes} are not three orthogonal unit vectors")

    def corners_lps_mm(self) -> NDArray[np.float64]:
        """(8, 3) corners."""
        signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
        return np.array(self.centre_lps_mm) + (signs * self.half_size_mm) @ np.array(self.axes)

    def interval(self, origin: NDArray[np.float64], direction: NDArray[np.float64]) -> Interval:
        """See Shape."""
        axes = np.array(self.axes)
        start = axes @ (origin - np.array(self.centre_lps_mm))
        slope = direction @ axes.T
        enter = np.full(len(direction), -np.inf)
        leave = np.full(len(direction), np.inf)
        for axis, half in enumerate(self.half_size_mm):
            near, far = _slab(start[axis], slope[:, axis], -half, half)
            enter, leave = np.maximum(enter, near), np.minimum(leave, far)
        return enter, leave


def _check_axis(shape: Capsule | Cylinder) -> None:
    object.__setattr__(shape, "start_lps_mm", require_point("start_lps_mm", shape.start_lps_mm))
    object.__setattr__(shape, "end_lps_mm", require_point("end_lps_mm", shape.end_lps_mm))
    require_range("radius_mm", shape.radius_mm, 0.01, 500.0)


def _boxes(points: tuple[Point, ...], radius: float) -> NDArray[np.float64]:
    signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
    return np.concatenate([np.array(point) + radius * signs for point in points])


def _ball(offset: NDArray[np.float64], direction: NDArray[np.float64], radius: float) -> Interval:
    """Interval of the ball at 0 for rays offset + t direction."""
    a = (direction * direction).sum(-1)
    middle = -(direction @ offset) / a
    nearest = offset + middle[:, None] * direction
    squared = (radius * radius - (nearest * nearest).sum(-1)) / a
    return _around(middle, squared)


def _cylinder(
    origin: NDArray[np.float64],
    direction: NDArray[np.float64],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    radius: float,
) -> Interval:
    length = float(np.linalg.norm(end - start))
    axis = (end - start) / length
    offset = origin - start
    across = direction - (direction @ axis)[:, None] * axis
    offset_across = offset - (offset @ axis) * axis
    a = (across * across).sum(-1)
    parallel = a < 1e-18
    a = np.where(parallel, 1.0, a)
    middle = -(across @ offset_across) / a
    nearest = offset_across + middle[:, None] * across
    gap = radius * radius - (nearest * nearest).sum(-1)
    enter, leave = _around(middle, gap / a)
    enter = np.where(parallel, np.where(gap >= 0.0, -np.inf, np.inf), enter)
    leave = np.where(parallel, np.where(gap >= 0.0, np.inf, -np.inf), leave)
    near, far = _slab(float(offset @ axis), direction @ axis, 0.0, length)
    return np.maximum(enter, near), np.minimum(leave, far)


def _around(middle: NDArray[np.float64], squared: NDArray[np.float64]) -> Interval:
    half = np.sqrt(np.maximum(squared, 0.0))
    missed = squared < 0.0
    return np.where(missed, np.inf, middle - half), np.where(missed, -np.inf, middle + half)


def _slab(start: float, slope: NDArray[np.float64], low: float, high: float) -> Interval:
    """Where low <= start + t slope <= high."""
    flat = slope == 0.0
    safe = np.where(flat, 1.0, slope)
    a, b = (low - start) / safe, (high - start) / safe
    inside = low <= start <= high
    near = np.where(flat, -np.inf if inside else np.inf, np.minimum(a, b))
    far = np.where(flat, np.inf if inside else -np.inf, np.maximum(a, b))
    return near, far
