"""A radiograph made ready for the search for blades, and the straight edges in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_WORK_SIDE_PX = 256  # found at this size, then drawn at full size
_EDGE = 0.012  # gradient of a pixel that votes, of the picture's range per pixel
_VOTE_DEG = 3  # a gradient's direction is that uncertain
_SHORTEST = 0.10  # votes of a line, of the picture's shorter side
_CALM_PX, _CALM_EDGE = (2.5, 8.0), 0.004
_CONTOUR_EDGE = 0.01

Array = NDArray[np.float64]


def working_factor(shape: tuple[int, ...]) -> int:
    """Pixels of the full image per working pixel, along a side."""
    return max(1, int(np.ceil(max(shape) / _WORK_SIDE_PX)))


@dataclass(frozen=True, eq=False)
class LightPicture:
    """The picture at working size, 0 to 1.

    Attributes:
        signal: (H, W) as it is.
        smooth: (H, W) for sampling along lines.
        gradient: (2, H, W) of x and y, per pixel.
        noise: standard deviation of a pixel.
    """

    signal: Array
    smooth: Array
    gradient: Array
    noise: float

    @classmethod
    def of(cls, light: Array, factor: int, counts: bool) -> LightPicture | None:
        from scipy import ndimage

        height, width = (n // factor for n in light.shape)
        if min(height, width) < 24:
            return None
        blocks = light[: height * factor, : width * factor].astype(np.float64)
        signal = blocks.reshape(height, factor, width, factor).mean(axis=(1, 3))
        if counts:
            signal = np.sqrt(np.maximum(signal, 0.0))
        low, high = np.quantile(signal, [0.005, 0.995])
        if not high > low:
            return None
        signal = (signal - low) / (high - low)
        rough = np.abs(signal - ndimage.median_filter(signal, 3))
        return cls(
            signal=signal,
            smooth=ndimage.gaussian_filter(signal, 1.5),
            gradient=_gradient(ndimage.gaussian_filter(signal, 1.0)),
            noise=1.8 * float(np.median(rough)) + 1e-4,
        )

    @cached_property
    def structure(self) -> NDArray[np.bool_]:
        """(H, W) True at fine gradients, which neither noise nor scatter makes."""
        from scipy import ndimage

        # scattered light rises and falls, but slowly
        slow = ndimage.gaussian_filter(self.signal, _CALM_PX[1])
        return np.asarray(np.hypot(*_gradient(self._fine - slow)) > _CALM_EDGE)

    @cached_property
    def contours(self) -> NDArray[np.bool_]:
        """(H, W) True at gradients of any kind that noise does not make."""
        return np.asarray(np.hypot(*_gradient(self._fine)) > _CONTOUR_EDGE)

    @cached_property
    def _fine(self) -> Array:
        from scipy import ndimage

        return np.asarray(ndimage.gaussian_filter(self.signal, _CALM_PX[0]))

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.smooth.shape
        return int(height), int(width)

    def at(self, points: Array) -> Array:
        """Values at points (N, 2), x and y."""
        from scipy import ndimage

        return np.asarray(
            ndimage.map_coordinates(self.smooth, points.T[::-1], order=1, mode="nearest")
        )


def _gradient(image: Array) -> Array:
    from scipy import ndimage

    return np.stack([ndimage.sobel(image, axis=1), ndimage.sobel(image, axis=0)]) / 8.0


def straight_edges(picture: LightPicture, most: int) -> list[Array]:
    """Half planes (a, b, c), a x + b y + c <= 0 on the lighter side; most votes first."""
    from scipy import ndimage

    height, width = picture.shape
    gx, gy = picture.gradient
    rows, columns = np.nonzero(np.hypot(gx, gy) > _EDGE)
    darker = np.degrees(np.arctan2(-gy[rows, columns], -gx[rows, columns]))
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    reach = int(np.hypot(height, width) / 2) + 2
    degrees = np.round(darker).astype(int) + np.arange(-_VOTE_DEG, _VOTE_DEG + 1)[:, None]
    x_part, y_part = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    offset = np.round((columns - middle_x) * x_part + (rows - middle_y) * y_part)
    cells = degrees % 360 * (2 * reach + 1) + offset.astype(int) + reach
    counts = np.bincount(cells.ravel(), minlength=360 * (2 * reach + 1)).reshape(360, -1)
    votes = ndimage.gaussian_filter(counts.astype(float), (1.0, 0.7), mode=("wrap", "constant"))
    planes = []
    for _ in range(most):
        degree, place = np.unravel_index(int(votes.argmax()), votes.shape)
        if votes[degree, place] < _SHORTEST * min(height, width):
            break
        a, b = np.cos(np.radians(degree)), np.sin(np.radians(degree))
        planes.append(np.array([a, b, -(place - reach) - a * middle_x - b * middle_y]))
        near = slice(max(0, int(place) - 8), int(place) + 9)
        votes[np.arange(degree - 8, degree + 9) % 360, near] = 0.0
    return planes


def is_inside(points: Array, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(N,) which of the points (N, 2), x and y, lie in a picture of (rows, columns)."""
    x, y = points.T
    return np.asarray((x >= 1) & (x <= shape[1] - 2) & (y >= 1) & (y <= shape[0] - 2))
