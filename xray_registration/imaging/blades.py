"""Collimator blades under scatter: straight edges beyond which nothing is seen any more.

Behind the blades of a scattering patient there is light, smooth and not much darker than behind the
spine, so no threshold separates them (see `collimation`). What remains is their edges, straight and
one-signed over the whole chord of the field. Three or four of them that make a rectangle are taken
for that (see `blade_rectangle`); otherwise each must be a blade by itself, with nothing but calm
beyond. Edges are found by a Hough transform in which each pixel votes only for lines across its own
gradient, with the side that is darker (see `blade_lines`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xray_registration.imaging.blade_lines import (
    Array,
    LightPicture,
    is_inside,
    straight_edges,
    working_factor,
)
from xray_registration.imaging.blade_rectangle import open_rectangle

_MOST_LINES = 14  # of single blades
_MOST_SIDES = 20  # of which a rectangle is made
_CLIPPED_FROM = 0.85  # share of the pixels that are darker
_CHORD = 0.15  # a shorter piece of a line within the field decides nothing
_CUT_CHORD = 0.35  # a line that leaves less of a stronger one's chord contradicts it
_JUMP_SHARE = 0.6  # of the chord along which the light must jump
_BELOW_SHARE = 0.85  # of the pixels beyond that must be darker than the field at their foot
_CALM_SHARE = 0.96  # of the pixels beyond that must be without structure
_CALM_BESIDE_FIELD = 0.5  # or at most as much structure beyond, of that in the field
_OPEN_BEAM = 0.9  # of the range: between blades the patient darkens more than half of the field
_CLEAR_PX = 10.0  # from a line on, its own blurred edge is no structure any more
_CONTOURS_IN_A_FIELD = (0.01, 0.55)  # share of its pixels
_MANY_CONTOURS = 0.16  # of a field that is mostly open beam
_SMALLEST_FIELD = 0.18  # share of the image; the open beam beside a patient is narrower
_MARGIN_PX = 5.0  # penumbra, in pixels of the full image


def field_between_blades(light: Array, counts: bool) -> NDArray[np.bool_] | None:
    """(H, W) bool, True within the blades; None where no blade is evident.

    Args:
        light: (H, W), larger where more radiation arrived.
        counts: ``light`` is proportional to the number of photons; then its root, whose noise is
            even, is searched, and the area beyond a blade must be calm. A display stretches the
            noise of dark areas too much to ask for that.
    """
    factor = working_factor(light.shape)
    picture = LightPicture.of(light, factor, counts)
    if picture is None:
        return None
    edges = straight_edges(picture, _MOST_SIDES)
    planes = open_rectangle(picture, edges)
    if len(planes) < 4:
        planes = max(planes, _sides_in_the_dark(light, factor, counts), key=len)
    if planes and not _shows_a_patient(picture, _inside(picture, planes)):
        planes = []
    if len(planes) < 4:
        planes = max(planes, _single_blades(picture, edges[:_MOST_LINES], counts), key=len)
    if not planes:
        return None
    field = _drawn(planes, light.shape, factor)
    return field if field.mean() >= _SMALLEST_FIELD else None


def _sides_in_the_dark(light: Array, factor: int, counts: bool) -> list[Array]:
    """Sides of the open rectangle, looked for with the lightest part of the picture clipped.

    When the light beside the patient is in the field, nearly all of the range is spent on it, and
    little on the blades in front of the patient.
    """
    white = float(np.quantile(light[::factor, ::factor], _CLIPPED_FROM))
    clipped = LightPicture.of(np.minimum(light, white), factor, counts)
    return [] if clipped is None else open_rectangle(clipped, straight_edges(clipped, _MOST_SIDES))


def _single_blades(picture: LightPicture, edges: list[Array], counts: bool) -> list[Array]:
    """The edges that are blades each by itself, whatever the others are; at least two.

    One straight edge alone is too often the side of a patient or of his spine.
    """
    planes = [p for p in edges if _is_field(picture, _inside(picture, [p]))]
    planes = _without_contradictions(picture, planes)
    if counts:
        planes = _calm_beyond(picture, planes)
    planes = _confirmed(picture, planes)
    return planes if len(planes) > 1 and _is_field(picture, _inside(picture, planes)) else []


def shows_a_patient(light: Array, field: NDArray[np.bool_], counts: bool) -> bool:
    """Whether a field (H, W) is more than the open beam beside a patient, who then would be taken
    for the blades; ``light`` and ``counts`` as for :func:`field_between_blades`.

    A hand in an open beam is a patient as well, but then it is well seen.
    """
    from scipy import ndimage

    factor = working_factor(light.shape)
    picture = LightPicture.of(light, factor, counts)
    if picture is None:
        return True
    height, width = picture.shape
    small = field[: height * factor : factor, : width * factor : factor]
    inside = ndimage.binary_erosion(small, iterations=int(_CLEAR_PX))
    return _shows_a_patient(picture, inside)


def _shows_a_patient(picture: LightPicture, inside: NDArray[np.bool_]) -> bool:
    return _is_field(picture, inside) or _contours(picture, inside) >= _MANY_CONTOURS


def _chord(picture: LightPicture, plane: Array, others: list[Array]) -> tuple[Array, float]:
    """Points (N, 2), a pixel apart, of a line within the picture and the other half planes, and
    which share of its piece in the picture that is.
    """
    height, width = picture.shape
    reach = int(np.hypot(height, width))
    along = np.array([-plane[1], plane[0]])
    points = -plane[2] * plane[:2] + np.arange(-reach, reach + 1)[:, None] * along
    points = points[is_inside(points, picture.shape)]
    kept = np.ones(len(points), dtype=np.bool_)
    for other in others:
        kept &= points @ other[:2] + other[2] <= -3.0
    return points[kept], float(kept.mean()) if len(kept) else 0.0


def _evidence(picture: LightPicture, plane: Array, others: list[Array]) -> tuple[float, float]:
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
        seen = is_inside(beyond, picture.shape)
        if seen.sum() >= 5:
            below = min(below, float(np.mean(picture.at(beyond[seen]) <= limit[seen])))
    return float(np.mean(jump > max(2.0 * picture.noise, 0.02))), below


def _without_contradictions(picture: LightPicture, planes: list[Array]) -> list[Array]:
    """Lines with some evidence; of two that exclude each other the one with more votes."""
    kept: list[Array] = []
    for plane in planes:
        if min(_evidence(picture, plane, kept)) < 0.4:
            continue
        if all(_chord(picture, other, [plane])[1] >= _CUT_CHORD for other in kept):
            kept.append(plane)
    return kept


def _distance(picture: LightPicture, plane: Array) -> Array:
    """(H, W) signed distance beyond a line, pixels."""
    height, width = picture.shape
    y, x = np.mgrid[:height, :width]
    return np.asarray(plane[0] * x + plane[1] * y + plane[2])


def _inside(picture: LightPicture, planes: list[Array]) -> NDArray[np.bool_]:
    inside = np.ones(picture.shape, dtype=np.bool_)
    for plane in planes:
        inside &= _distance(picture, plane) < -_CLEAR_PX
    return inside


def _contours(picture: LightPicture, inside: NDArray[np.bool_]) -> float:
    """Share of the pixels that lie on contours."""
    return float(np.mean(picture.contours[inside])) if inside.any() else 0.0


def _is_field(picture: LightPicture, inside: NDArray[np.bool_]) -> bool:
    """Neither the open beam, nor the slope of light at a patient's side."""
    least, most = _CONTOURS_IN_A_FIELD
    return (
        least <= _contours(picture, inside) <= most
        and float(np.median(picture.smooth[inside])) <= _OPEN_BEAM
    )


def _calm_beyond(picture: LightPicture, planes: list[Array]) -> list[Array]:
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


def _confirmed(picture: LightPicture, planes: list[Array]) -> list[Array]:
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


def _drawn(planes: list[Array], shape: tuple[int, ...], factor: int) -> NDArray[np.bool_]:
    """The field at full size, its outline moved in by the penumbra."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    inside = np.ones(shape, dtype=np.bool_)
    for a, b, c in planes:
        # centre of a block of `factor` pixels: its first one plus (factor - 1) / 2
        offset = c * factor - (a + b) * (factor - 1) / 2
        inside &= a * x + b * y + offset <= -_MARGIN_PX
    return inside
