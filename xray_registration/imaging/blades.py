"""Collimator blades under scatter: straight edges beyond which nothing is seen any more.

Behind the blades of a scattering patient there is light, smooth and not much darker than behind the
spine, so no threshold separates them (see `collimation`). What remains is their edges: straight,
one-signed over the whole chord of the field, and calm beyond. Edges are found by a Hough transform
in which each pixel votes only for lines across its own gradient, with the side that is darker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WORK_SIDE_PX = 256  # found at this size, then drawn at full size
_EDGE = 0.012  # gradient of a pixel that votes, of the picture's range per pixel
_VOTE_DEG = 3  # a gradient's direction is that uncertain
_SHORTEST = 0.10  # votes of a line, of the picture's shorter side
_MOST_LINES = 14
_CHORD = 0.15  # a shorter piece of a line within the field decides nothing
_CUT_CHORD = 0.35  # a line that leaves less of a stronger one's chord contradicts it
_JUMP_SHARE = 0.6  # of the chord along which the light must jump
_BELOW_SHARE = 0.85  # of the pixels beyond that must be darker than the field at their foot
_CALM_SHARE = 0.96  # of the pixels beyond that must be without structure
_CALM_BESIDE_FIELD = 0.5  # or at most as much structure beyond, of that in the field
_CALM_PX, _CALM_EDGE = (2.5, 8.0), 0.004
_CONTOUR_EDGE = 0.01
_OPEN_BEAM = 0.9  # of the range: between blades the patient darkens more than half of the field
_CLEAR_PX = 10.0  # from a line on, its own blurred edge is no structure any more
_CONTOURS_IN_A_FIELD = (0.01, 0.55)  # share of its pixels
_MANY_CONTOURS = 0.16  # of a field that is mostly open beam
_SMALLEST_FIELD = 0.18  # share of the image; the open beam beside a patient is narrower
_MARGIN_PX = 5.0  # penumbra, in pixels of the full image

_Array = NDArray[np.float64]


def field_between_blades(light: _Array, counts: bool) -> NDArray[np.bool_] | None:
    """(H, W) bool, True within the blades; None where no blade is evident.

    Args:
        light: (H, W), larger where more radiation arrived.
        counts: ``light`` is proportional to the number of photons; then its root, whose noise is
            even, is searched, and the area beyond a blade must be calm. A display stretches the
            noise of dark areas too much to ask for that.
    """
    factor = max(1, int(np.ceil(max(light.shape) / _WORK_SIDE_PX)))
    picture = _Picture.of(light, factor, counts)
    if picture is None:
        return None
    planes = [p for p in _candidates(picture) if _is_field(picture, _inside(picture, [p]))]
    planes = _without_contradictions(picture, planes)
    if counts:
        planes = _calm_beyond(picture, planes)
    planes = _confirmed(picture, planes)
    if not planes or not _is_field(picture, _inside(picture, planes)):
        return None
    field = _drawn(planes, light.shape, factor)
    return field if field.mean() >= _SMALLEST_FIELD else None


def shows_a_patient(light: _Array, field: NDArray[np.bool_], counts: bool) -> bool:
    """Whether a field (H, W) is more than the open beam beside a patient, who then would be taken
    for the blades; ``light`` and ``counts`` as for :func:`field_between_blades`.

    A hand in an open beam is a patient as well, but then it is well seen.
    """
    from scipy import ndimage

    factor = max(1, int(np.ceil(max(light.shape) / _WORK_SIDE_PX)))
    picture = _Picture.of(light, factor, counts)
    if picture is None:
        return True
    height, width = picture.shape
    small = field[: height * factor : factor, : width * factor : factor]
    inside = ndimage.binary_erosion(small, iterations=int(_CLEAR_PX))
    return _is_field(picture, inside) or _contours(picture, inside) >= _MANY_CONTOURS


@dataclass(frozen=True, eq=False)
class _Picture:
    """The picture at working size, 0 to 1.

    Attributes:
        smooth: (H, W) for sampling along lines.
        gradient: (2, H, W) of x and y, per pixel.
        structure: (H, W) bool, fine gradients that neither noise nor scatter makes.
        contours: (H, W) bool, gradients of any kind that noise does not make.
        noise: standard deviation of a pixel.
    """

    smooth: _Array
    gradient: _Array
    structure: NDArray[np.bool_]
    contours: NDArray[np.bool_]
    noise: float

    @classmethod
    def of(cls, light: _Array, factor: int, counts: bool) -> _Picture | None:
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
        # scattered light rises and falls, but slowly
        fine, slow = (ndimage.gaussian_filter(signal, size) for size in _CALM_PX)
        return cls(
            smooth=ndimage.gaussian_filter(signal, 1.5),
            gradient=_gradient(ndimage.gaussian_filter(signal, 1.0)),
            structure=np.hypot(*_gradient(fine - slow)) > _CALM_EDGE,
            contours=np.hypot(*_gradient(fine)) > _CONTOUR_EDGE,
            noise=1.8 * float(np.median(rough)) + 1e-4,
        )

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.smooth.shape
        return int(height), int(width)

    def at(self, points: _Array) -> _Array:
        """Values at points (N, 2), x and y."""
        from scipy import ndimage

        return np.asarray(
            ndimage.map_coordinates(self.smooth, points.T[::-1], order=1, mode="nearest")
        )


def _gradient(image: _Array) -> _Array:
    from scipy import ndimage

    return np.stack([ndimage.sobel(image, axis=1), ndimage.sobel(image, axis=0)]) / 8.0


def _candidates(picture: _Picture) -> list[_Array]:
    """Half planes (a, b, c), a x + b y + c <= 0 on the lighter side; most votes first."""
    from scipy import ndimage

    height, width = picture.shape
    gx, gy = picture.gradient
    rows, columns = np.nonzero(np.hypot(gx, gy) > _EDGE)
    darker = np.degrees(np.arctan2(-gy[rows, columns], -gx[rows, columns]))
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    reach = int(np.hypot(height, width) / 2) + 2
    votes = np.zeros((360, 2 * reach + 1))
    for turn in range(-_VOTE_DEG, _VOTE_DEG + 1):
        degrees = np.round(darker).astype(int) + turn
        x_part, y_part = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        offset = np.round((columns - middle_x) * x_part + (rows - middle_y) * y_part)
        np.add.at(votes, (degrees % 360, offset.astype(int) + reach), 1.0)
    votes = ndimage.gaussian_filter(votes, (1.0, 0.7), mode=("wrap", "constant"))
    planes = []
    for _ in range(_MOST_LINES):
        degree, place = np.unravel_index(int(votes.argmax()), votes.shape)
        if votes[degree, place] < _SHORTEST * min(height, width):
            break
        a, b = np.cos(np.radians(degree)), np.sin(np.radians(degree))
        planes.append(np.array([a, b, -(place - reach) - a * middle_x - b * middle_y]))
        near = slice(max(0, int(place) - 8), int(place) + 9)
        votes[np.arange(degree - 8, degree + 9) % 360, near] = 0.0
    return planes


def _chord(picture: _Picture, plane: _Array, others: list[_Array]) -> tuple[_Array, float]:
    """Points (N, 2), a pixel apart, of a line within the picture and the other half planes, and
    which share of its piece in the picture that is.
    """
    height, width = picture.shape
    reach = int(np.hypot(height, width))
    along = np.array([-plane[1], plane[0]])
    points = -plane[2] * plane[:2] + np.arange(-reach, reach + 1)[:, None] * along
    points = points[_is_inside(points, picture.shape)]
    kept = np.ones(len(points), dtype=np.bool_)
    for other in others:
        kept &= points @ other[:2] + other[2] <= -3.0
    return points[kept], float(kept.mean()) if len(kept) else 0.0


def _is_inside(points: _Array, shape: tuple[int, int]) -> NDArray[np.bool_]:
    x, y = points.T
    return np.asarray((x >= 1) & (x <= shape[1] - 2) & (y >= 1) & (y <= shape[0] - 2))


def _evidence(picture: _Picture, plane: _Array, others: list[_Array]) -> tuple[float, float]:
    """Share of the chord at which the light jumps, and of the pixels beyond that are darker."""
    points, _ = _chord(picture, plane, others)
    if len(points) < _CHORD * min(picture.shape):
        return 0.0, 0.0
    normal = plane[:2]
    inner = picture.at(points - 4.0 * normal)
    jump = inner - picture.at(points + 4.0 * normal)
    # what is beyond the other edge of a rod or a bone is light again
    limit = inner - 0.25 * np.maximum(jump, 0.0) + picture.noise
    below = 1.0
    for distance in (8, 14, 22, 34, 50, 70):
        beyond = points + distance * normal
        seen = _is_inside(beyond, picture.shape)
        if seen.sum() >= 5:
            below = min(below, float(np.mean(picture.at(beyond[seen]) <= limit[seen])))
    return float(np.mean(jump > max(2.0 * picture.noise, 0.02))), below


def _without_contradictions(picture: _Picture, planes: list[_Array]) -> list[_Array]:
    """Lines with some evidence; of two that exclude each other the one with more votes."""
    kept: list[_Array] = []
    for plane in planes:
        if min(_evidence(picture, plane, kept)) < 0.4:
            continue
        if all(_chord(picture, other, [plane])[1] >= _CUT_CHORD for other in kept):
            kept.append(plane)
    return kept


def _distance(picture: _Picture, plane: _Array) -> _Array:
    """(H, W) signed distance beyond a line, pixels."""
    height, width = picture.shape
    y, x = np.mgrid[:height, :width]
    return np.asarray(plane[0] * x + plane[1] * y + plane[2])


def _inside(picture: _Picture, planes: list[_Array]) -> NDArray[np.bool_]:
    inside = np.ones(picture.shape, dtype=np.bool_)
    for plane in planes:
        inside &= _distance(picture, plane) < -_CLEAR_PX
    return inside


def _contours(picture: _Picture, inside: NDArray[np.bool_]) -> float:
    """Share of the pixels that lie on contours."""
    return float(np.mean(picture.contours[inside])) if inside.any() else 0.0


def _is_field(picture: _Picture, inside: NDArray[np.bool_]) -> bool:
    """Neither the open beam, nor the slope of light at a patient's side."""
    least, most = _CONTOURS_IN_A_FIELD
    return (
        least <= _contours(picture, inside) <= most
        and float(np.median(picture.smooth[inside])) <= _OPEN_BEAM
    )


def _calm_beyond(picture: _Picture, planes: list[_Array]) -> list[_Array]:
    """The lines beyond which there is no structure, or far less than in the field.

    Some there may be: scattered light has an edge where the patient ends.
    """
    inside = _inside(picture, planes)
    anatomy = float(np.mean(picture.structure[inside])) if inside.any() else 0.0
    limit = max(1.0 - _CALM_SHARE, _CALM_BESIDE_FIELD * anatomy)
    kept = []
    for plane in planes:
        beyond = _distance(picture, plane) > _CLEAR_PX
        if beyond.sum() < 200 or (
            float(np.mean(picture.structure[beyond])) <= limit
            or _contours(picture, beyond) <= 1.0 - _CALM_SHARE
        ):
            kept.append(plane)
    return kept


def _confirmed(picture: _Picture, planes: list[_Array]) -> list[_Array]:
    """What is left when the weakest is taken away until all have full evidence."""
    kept = list(planes)
    while kept:
        strength = []
        for n, plane in enumerate(kept):
            jump, below = _evidence(picture, plane, kept[:n] + kept[n + 1 :])
            strength.append(min(jump / _JUMP_SHARE, below / _BELOW_SHARE))
        weakest = int(np.argmin(strength))
        if strength[weakest] >= 1.0:
            break
        del kept[weakest]
    return kept


def _drawn(planes: list[_Array], shape: tuple[int, ...], factor: int) -> NDArray[np.bool_]:
    """The field at full size, its outline moved in by the penumbra."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    inside = np.ones(shape, dtype=np.bool_)
    for a, b, c in planes:
        # centre of a block of `factor` pixels: its first one plus (factor - 1) / 2
        offset = c * factor - (a + b) * (factor - 1) / 2
        inside &= a * x + b * y + offset <= -_MARGIN_PX
    return inside
