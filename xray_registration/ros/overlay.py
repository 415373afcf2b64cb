"""The X-ray with the registered anatomy drawn on it: outlines and names of labelled structures.

What is drawn is where the CT's structures are according to the pose, so a wrong pose and a wrong
level are seen at a glance. Green: accepted; red: rejected, where the solver ended.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from xray_registration.geometry.camera import Camera
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.optional import require

Matrix = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

ACCEPTED: Colour = (64, 255, 96)
REJECTED: Colour = (255, 72, 64)
_SHADOW: Colour = (0, 0, 0)

_POINTS_PER_STRUCTURE = 6000
# Outlines are found on at most this many columns; finer would only show the voxels.
_OUTLINE_WIDTH = 512


class Structures:
    """Surface points and centroids of the labelled structures to draw; made once per patient."""

    def __init__(self, labels: LabelMap, patterns: tuple[str, ...]) -> None:
        """Take the structures whose name matches one of the patterns (``*`` and ``?``)."""
        centroids = labels.centroids_lps_mm()
        self.names = [n for n in centroids if any(fnmatchcase(n, p) for p in patterns)]
        self.centroids_lps_mm = {name: centroids[name] for name in self.names}
        self.points_lps_mm = {
            name: labels.surface_points_lps_mm(name, _POINTS_PER_STRUCTURE) for name in self.names
        }
        steps = np.linalg.norm(labels.lps_from_index[:3, :3], axis=0)
        self.voxel_mm = float(steps.max())


def grey_rgb(radiograph: Radiograph) -> npt.NDArray[np.uint8]:
    """(H, W, 3) the radiograph in a robust window, bone bright; masked pixels darker."""
    values = np.asarray(radiograph.attenuation, dtype=np.float32)
    usable = values[radiograph.mask] if radiograph.mask.any() else values
    # Every 7th value: percentiles of a million pixels would take longer than all the drawing.
    low, high = np.percentile(usable.ravel()[::7], (1.0, 99.7))
    grey = np.clip((values - low) / max(float(high - low), 1e-12), 0.0, 1.0)
    grey = np.where(radiograph.mask, grey, 0.5 * grey)
    return np.repeat((255.0 * grey).astype(np.uint8)[:, :, None], 3, axis=2)


def draw(
    radiograph: Radiograph,
    camera: Camera,
    camera_from_ct: Matrix | None,
    structures: Structures | None,
    accepted: bool,
    caption: str,
) -> npt.NDArray[np.uint8]:
    """The overlay (H, W, 3) RGB.

    Args:
        radiograph: what was registered.
        camera: its camera.
        camera_from_ct: (4, 4) LPS mm, None = draw nothing but the caption.
        structures: what to outline and name.
        accepted: colour.
        caption: one line at the top.
    """
    cv2 = require("cv2", pip="opencv-python-headless")
    canvas = np.ascontiguousarray(grey_rgb(radiograph))
    colour = ACCEPTED if accepted else REJECTED
    scale = camera.width / 1024.0
    if camera_from_ct is not None and structures is not None:
        for name in structures.names:
            centroid = _to_camera(camera_from_ct, structures.centroids_lps_mm[name][None])
            if centroid[0, 2] <= 1.0:  # at or behind the focal spot
                continue
            points = _to_camera(camera_from_ct, structures.points_lps_mm[name])
            for outline in outlines(points, camera, structures.voxel_mm):
                line = np.round(outline).astype(np.int32)[:, None]
                cv2.polylines(canvas, [line], True, colour, max(1, round(scale * 1.5)), cv2.LINE_AA)
            x, y = camera.project(centroid)[0]
            if 0 <= x < camera.width and 0 <= y < camera.height:
                _write(canvas, short_name(name), (x, y), 0.8 * scale, colour, centred=True)
    if caption:
        _write(canvas, caption, (10 * scale, 28 * scale), 0.7 * scale, colour, centred=False)
    return canvas


def outlines(points_camera: Matrix, camera: Camera, voxel_mm: float) -> list[Matrix]:
    """Silhouette of a dense point set: closed lines (n, 2) in pixels of the camera.

    The projected points are joined to an area by a morphological closing of one voxel's size.
    """
    cv2 = require("cv2", pip="opencv-python-headless")
    step = max(1.0, camera.width / _OUTLINE_WIDTH)
    in_front = points_camera[:, 2] > 1.0
    if not in_front.any():
        return []
    pixels = camera.project(points_camera[in_front]) / step
    depth = float(np.median(points_camera[in_front, 2]))
    radius = max(1, int(np.ceil(0.6 * voxel_mm * camera.fx / depth / step)))
    margin = 2 * radius + 2
    width = int(np.ceil(camera.width / step)) + 2 * margin
    height = int(np.ceil(camera.height / step)) + 2 * margin
    columns, rows = (np.round(pixels).astype(np.int64) + margin).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    if not inside.any():
        return []
    area = np.zeros((height, width), np.uint8)
    area[rows[inside], columns[inside]] = 255
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    area = cv2.morphologyEx(area, cv2.MORPH_CLOSE, kernel)
    found, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    smallest = max(12.0, float(radius * radius))
    return [
        (contour[:, 0].astype(np.float64) - margin) * step
        for contour in found
        if cv2.contourArea(contour) > smallest
    ]


def short_name(name: str) -> str:
    """``T8`` of ``vertebrae_T8``; other names as they are."""
    return name.removeprefix("vertebrae_").removeprefix("vertebra_")


def _to_camera(camera_from_ct: Matrix, points_lps_mm: Matrix) -> Matrix:
    return np.asarray(points_lps_mm @ camera_from_ct[:3, :3].T + camera_from_ct[:3, 3])


def _write(
    canvas: npt.NDArray[np.uint8],
    text: str,
    position: tuple[float, float],
    size: float,
    colour: Colour,
    centred: bool,
) -> None:
    cv2 = require("cv2", pip="opencv-python-headless")
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(0.3, size)
    thickness = max(1, round(2 * size))
    (width, height), _ = cv2.getTextSize(text, font, size, thickness)
    x, y = position
    if centred:
        x, y = x - width / 2, y + height / 2
    origin = (round(x), round(y))
    cv2.putText(canvas, text, origin, font, size, _SHADOW, thickness + 2, cv2.LINE_AA)
    cv2.putText(canvas, text, origin, font, size, colour, thickness, cv2.LINE_AA)
