"""Finding the open field of a collimated radiograph: straight blades, a circular intensifier.

Conservative: a field is reported only when everything outside it is dark and nearly uniform, its
outline is convex, sharp, and made of a few straight lines, a circle, or both. Anatomy is not like
that. Without such evidence nothing is masked, and the caller may give a mask of his own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORK_SIDE_PX = 256  # found at this size, then drawn at full size
_THRESHOLDS = (0.04, 0.08, 0.15, 0.25)  # of the range between dark and light
_SMALLEST_OUTSIDE = 0.01  # share of the image outside the field
_SMALLEST_FIELD = 0.05
_CONVEXITY = 0.97  # field area over the area of its convex hull
_DARK_OUTSIDE = 0.97  # share of the outside that must be dark
_OUTSIDE_SPREAD = 0.12  # of the range
_EDGE_JUMP = 0.12  # of the range, in the median along the outline
_EXPLAINED = 0.92  # share of the outline on the lines and the circle
_MARGIN_PX = 2.0  # penumbra, in working pixels
_LARGEST_LOG_RANGE = 9.0

_Points = NDArray[np.float64]


def open_field(
    light: NDArray[np.float64], usable: NDArray[np.bool_], logarithmic: bool = False
) -> NDArray[np.bool_] | None:
    """(H, W) bool, True inside the open field; None when no collimation is evident.

    Args:
        light: (H, W), larger where more radiation arrived.
        usable: pixels whose values may be looked at.
        logarithmic: `light` is proportional to intensity; its logarithm is tried as well, in which
            thick anatomy stands out from the blades.
    """
    if not usable.any():
        return None
    filled = light if usable.all() else np.where(usable, light, np.median(light[usable]))
    factor = max(1, int(np.ceil(max(light.shape) / _WORK_SIDE_PX)))
    small = _block_mean(filled, factor)
    if min(small.shape) < 24:
        return None
    candidates = [small]
    if logarithmic:
        top = float(np.quantile(small, 0.99))
        if top > 0:
            candidates.append(np.log(np.maximum(small, top * np.exp(-_LARGEST_LOG_RANGE))))
    for signal in candidates:
        lines = _field_outline(signal)
        if lines is not None:
            return _draw(lines, light.shape, factor)
    return None


def _field_outline(signal: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(M, 3) half planes a x + b y + c <= 0 of the field in working pixels, or None."""
    from scipy import ndimage
    from scipy.spatial import ConvexHull, QhullError

    dark, light = np.quantile(signal, [0.005, 0.99])
    span = float(light - dark)
    if span <= 0:
        return None
    for share in _THRESHOLDS:
        pieces, count = ndimage.label(signal > dark + share * span)
        if count == 0:
            continue
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        field = _without_holes(pieces == int(sizes.argmax()))
        if field.mean() < _SMALLEST_FIELD or field.mean() > 1.0 - _SMALLEST_OUTSIDE:
            continue
        rim = np.argwhere(field & ~ndimage.binary_erosion(field))[:, ::-1].astype(np.float64)
        try:
            hull = ConvexHull(rim)
        except QhullError:
            continue
        planes = np.unique(hull.equations, axis=0)
        outline = _along(rim[hull.vertices])
        if _is_collimated(signal, field, planes, outline, dark + share * span, span):
            return planes
    return None


def _without_holes(field: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Dark pieces that do not touch the image's border are anatomy, not blades."""
    from scipy import ndimage

    pieces, count = ndimage.label(~field)
    border = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    outside = np.zeros(count + 1, dtype=np.bool_)
    outside[border] = True
    outside[0] = False
    return ~outside[pieces]


def _is_collimated(
    signal: NDArray[np.float64],
    field: NDArray[np.bool_],
    planes: NDArray[np.float64],
    outline: _Points,
    threshold: float,
    span: float,
) -> bool:
    distance = _outside_distance(planes, signal.shape, 1)
    in_hull = distance <= 0.5
    if field.sum() < _CONVEXITY * in_hull.sum():
        return False
    outside = signal[distance > _MARGIN_PX]
    if outside.size < _SMALLEST_OUTSIDE * signal.size:
        return False
    if np.mean(outside <= threshold) < _DARK_OUTSIDE:
        return False
    low, high = np.quantile(outside, [0.02, 0.98])
    if high - low > _OUTSIDE_SPREAD * span:
        return False
    height, width = signal.shape
    x, y = outline[:, 0], outline[:, 1]
    edge = outline[(x > 1.5) & (y > 1.5) & (x < width - 2.5) & (y < height - 2.5)]
    if len(edge) < 0.1 * max(width, height):
        return False
    return _is_sharp(signal, edge, planes, span) and _is_made_of_lines_and_circle(
        edge, min(width, height)
    )


def _is_sharp(
    signal: NDArray[np.float64], edge: _Points, planes: NDArray[np.float64], span: float
) -> bool:
    """The light jumps within four working pixels inside the outline, in the median along it."""
    from scipy.ndimage import map_coordinates

    nearest = np.argmax(edge @ planes[:, :2].T + planes[:, 2], axis=1)
    normal = planes[nearest, :2]
    inner = map_coordinates(signal, (edge - 4.0 * normal).T[::-1], order=1, mode="nearest")
    outer = map_coordinates(signal, (edge + 2.0 * normal).T[::-1], order=1, mode="nearest")
    return bool(np.median(inner - outer) >= _EDGE_JUMP * span)


def _is_made_of_lines_and_circle(edge: _Points, side_px: int) -> bool:
    """Whether at most eight lines, a circle, or up to four long lines and a circle explain it."""
    rng = np.random.default_rng(0)  # the same image always gives the same mask
    needed = _EXPLAINED * len(edge)
    rest = _without_lines(edge, 8, 0.1 * side_px, rng)
    if len(edge) - len(rest) >= needed:
        return True
    if _on_circle(edge, side_px, rng) >= needed:
        return True
    rest = _without_lines(edge, 4, 0.25 * side_px, rng)
    if len(rest) < 0.1 * len(edge):
        return False
    return len(edge) - len(rest) + _on_circle(rest, side_px, rng) >= needed


def _without_lines(
    points: _Points, count: int, shortest_px: float, rng: np.random.Generator
) -> _Points:
    """The points that are left when up to `count` lines have taken theirs."""
    for _ in range(count):
        if len(points) < 2:
            break
        pairs = rng.integers(0, len(points), size=(200, 2))
        along = points[pairs[:, 1]] - points[pairs[:, 0]]
        length = np.linalg.norm(along, axis=1)
        pairs, along, length = (v[length > 4.0] for v in (pairs, along, length))
        if len(pairs) == 0:
            break
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None]
        offset = np.sum(normal * points[pairs[:, 0]], axis=1)
        hit = np.abs(points @ normal.T - offset) <= 1.0
        best = int(hit.sum(axis=0).argmax())
        taken = points[hit[:, best]]
        if np.linalg.norm(np.ptp(taken, axis=0)) < shortest_px:
            break
        points = points[~hit[:, best]]
    return points


def _on_circle(points: _Points, side_px: int, rng: np.random.Generator) -> int:
    """How many points lie on the best circle of a plausible radius, within 1.5 % of it."""
    if len(points) < 6:
        return 0
    best = 0
    for triple in rng.integers(0, len(points), size=(200, 3)):
        a, b, c = points[triple]
        system = 2.0 * np.array([b - a, c - a])
        if abs(np.linalg.det(system)) < 0.02 * side_px**2:
            continue
        centre = np.linalg.solve(system, np.array([b @ b - a @ a, c @ c - a @ a]))
        radius = float(np.linalg.norm(a - centre))
        if not 0.15 * side_px < radius < 1.5 * side_px:
            continue
        off = np.abs(np.linalg.norm(points - centre, axis=1) - radius)
        best = max(best, int(np.count_nonzero(off <= max(1.0, 0.015 * radius))))
    return best


def _along(vertices: _Points) -> _Points:
    """Points about one pixel apart along a closed polygon."""
    parts = []
    for a, b in zip(vertices, np.roll(vertices, -1, axis=0)):
        steps = max(1, round(float(np.linalg.norm(b - a))))
        parts.append(a + (b - a) * (np.arange(steps) / steps)[:, None])
    return np.concatenate(parts)


def _outside_distance(
    planes: NDArray[np.float64], shape: tuple[int, ...], factor: int
) -> NDArray[np.float32]:
    """(H, W) signed distance beyond the nearest half plane, in working pixels, at full size."""
    rows = (np.arange(shape[0], dtype=np.float32) + 0.5) / factor - 0.5
    columns = (np.arange(shape[1], dtype=np.float32) + 0.5) / factor - 0.5
    result = np.full(shape, -np.inf, dtype=np.float32)
    for a, b, c in planes.astype(np.float32):
        np.maximum(result, (b * rows + c)[:, None] + (a * columns)[None, :], out=result)
    return result


def _draw(planes: NDArray[Any], shape: tuple[int, ...], factor: int) -> NDArray[np.bool_]:
    """The field at full size, its inner outline moved in by the penumbra's margin."""
    height, width = shape[0] / factor, shape[1] / factor
    inside = np.ones(shape, dtype=np.bool_)
    border = np.array([[-1, 0, 0], [0, -1, 0], [1, 0, 1 - width], [0, 1, 1 - height]])
    # Lines along the image's own border are no blades: nothing is lost there.
    own = [not _is_border(plane, border) for plane in planes]
    inner = planes[own]
    if len(inner):
        inside = _outside_distance(inner, shape, factor) <= -_MARGIN_PX
    return inside


def _is_border(plane: NDArray[Any], border: NDArray[Any]) -> bool:
    same = np.abs(border[:, :2] - plane[:2]).max(axis=1) < 0.02
    return bool(np.any(same & (np.abs(border[:, 2] - plane[2]) < 2.0)))


def _block_mean(image: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean(axis=(1, 3)))
