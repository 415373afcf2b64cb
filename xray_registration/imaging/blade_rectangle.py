"""The rectangle that the collimator's blades leave open, told by its corners.

Four blades make a rectangle of any rotation. The light falls across each side over its whole
length, from corner to corner, and the line through a side shows hardly anything beyond them, where
both of its sides lie behind other blades. Neither a bone, a rod nor the patient's side ends at such
corners. So nothing is asked of the area beyond: where leaking radiation reaches the detector past
the patient, it is lighter than the field behind a pelvis, and the patient's outline crosses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from xray_registration.imaging.blade_lines import Array, LightPicture, is_inside

_ANGLE_DEG = 3.0  # lines are found to a degree each
_MOST_PER_SIDE = 5
_STEP_PX = 4.0  # half the width over which the light falls
_FALL = 0.02  # of the range, and two standard deviations of a pixel
_SHORTEST_SIDE = 0.1  # of the picture's shorter side
_CORNER_PX = 5.0  # where the penumbras of two blades meet nothing is counted
_BEYOND = 0.5  # pixels of a line with a fall beyond the corners, of those between them
_FALLS_ALONG = 0.6  # share of each side, when all four are seen
_FALLS_ALONG_THREE = 0.9  # when the fourth is said to be outside of the picture

_Sides = tuple["_Line | None", ...]


def open_rectangle(picture: LightPicture, planes: Sequence[Array]) -> list[Array]:
    """The three or four half planes, of those given, that are sides of the open rectangle.

    Args:
        picture: in which the light must fall across them.
        planes: (a, b, c), a x + b y + c <= 0 on the lighter side.

    Returns:
        Three when one side lies outside of the picture; none without such a rectangle.
    """
    lines = [_Line.of(picture, plane) for plane in planes]
    turned = np.array([np.degrees(np.arctan2(plane[1], plane[0])) for plane in planes])
    best: tuple[float, _Sides] = (0.0, ())
    tried = set()
    for base in turned:
        sides: list[list[int | None]] = []
        for quarter in range(4):
            off = (turned - base - 90.0 * quarter + 180.0) % 360.0 - 180.0
            near = np.flatnonzero(np.abs(off) <= _ANGLE_DEG)[:_MOST_PER_SIDE]
            sides.append([*near.tolist(), None])
        for numbers in product(*sides):
            # a turn by a quarter is the same rectangle
            key = frozenset(n for n in numbers if n is not None)
            if len(key) < 3 or key in tried:
                continue
            tried.add(key)
            chosen = tuple(None if n is None else lines[n] for n in numbers)
            score = _score(chosen, _SHORTEST_SIDE * min(picture.shape))
            if score > best[0]:
                best = (score, chosen)
    return [side.plane for side in best[1] if side is not None]


@dataclass(frozen=True, eq=False)
class _Line:
    """A line through the whole picture.

    Attributes:
        plane: (a, b, c).
        foot: (2,) the point of the line next to the picture's centre, pixels.
        along: (2,) its direction, the darker side to its left.
        place: (N,) of its pixels, from the foot along the line.
        falls: (N,) bool, whether the light falls across the line there.
    """

    plane: Array
    foot: Array
    along: Array
    place: Array
    falls: NDArray[np.bool_]

    @classmethod
    def of(cls, picture: LightPicture, plane: Array) -> _Line:
        height, width = picture.shape
        normal = plane[:2]
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        foot = centre - (centre @ normal + plane[2]) * normal
        along = np.array([-normal[1], normal[0]])
        reach = int(np.hypot(height, width) / 2) + 2
        place = np.arange(-reach, reach + 1, dtype=np.float64)
        points = foot + place[:, None] * along
        seen = is_inside(points, picture.shape)
        across = np.array([-3.0, -1.0, 1.0, 3.0]) * _STEP_PX
        light = picture.at((points[seen][:, None] + across[:, None] * normal).reshape(-1, 2))
        before, fall, after = -np.diff(light.reshape(-1, 4), axis=1).T
        falls = (fall > max(2.0 * picture.noise, _FALL)) & (fall > before) & (fall > after)
        return cls(plane, foot, along, place[seen], falls)

    def crossing(self, other: _Line) -> tuple[float, bool]:
        """Where another line, not parallel, crosses this one, and whether its dark side follows."""
        slope = float(other.plane[:2] @ self.along)
        return -float(other.plane[:2] @ self.foot + other.plane[2]) / slope, slope > 0


def _score(sides: _Sides, shortest_px: float) -> float:
    """Pixels of the sides at which the light falls, less those at which it does not, less twice
    those beyond the corners at which it does: they say that the rectangle goes on. 0 when a side is
    too short, or has too few of the first or too many of the last.
    """
    needed = _FALLS_ALONG if all(sides) else _FALLS_ALONG_THREE
    score = 0.0
    for n, side in enumerate(sides):
        if side is None:
            continue
        begin, end = -np.inf, np.inf
        for other in (sides[n - 1], sides[(n + 1) % 4]):
            if other is not None:
                place, is_end = side.crossing(other)
                begin, end = (begin, min(end, place)) if is_end else (max(begin, place), end)
        within = (side.place > begin + _CORNER_PX) & (side.place < end - _CORNER_PX)
        beyond = (side.place < begin - _CORNER_PX) | (side.place > end + _CORNER_PX)
        length, falls = np.count_nonzero(within), np.count_nonzero(side.falls & within)
        more = np.count_nonzero(side.falls & beyond)
        if length < shortest_px or falls < needed * length or more > _BEYOND * falls:
            return 0.0
        score += 2.0 * falls - length - 2.0 * more
    return score
