"""The X-ray with the registered anatomy drawn on it: outlines and names of labelled structures.

What is drawn is where the CT's structures are according to the pose, so a wrong pose and a wrong
level are seen at a glance. Green: accepted; red: rejected, where the solver ended; amber: a start.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from xray_registration.geometry.camera import Camera
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.optional import require

Matrix = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

ACCEPTED: Colour = (64, 255, 96)
REJECTED: Colour = (255, 72, 64)
START: Colour = (255, 190, 40)
EDGES: Colour = (72, 196, 255)
_EDGE_OPACITY = 0.85
_SHADOW: Colour = (0, 0, 0)

_POINTS_PER_STRUCTURE = 6000
# Outlines are found on at most this many columns; finer would only show the voxels.
_OUTLINE_WIDTH = 512
# Brightness that changes over more than this part of the picture is slow; most of it is taken out.
_SLOW_PARTS, _SLOW_SHARE = 14.0, 0.6
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, eq=False)
class ProjectedStructure:
    """A structure in the picture: closed lines (n, 2) and its centroid, in pixels (u, v)."""

    name: str
    outlines: list[Matrix]
    centre_px: tuple[float, float]

    @property
    def label(self) -> str:
        """What to write: ``T8`` of ``vertebrae_T8``; other names as they are."""
        return self.name.removeprefix("vertebrae_").removeprefix("vertebra_")

    def is_named(self, camera: Camera) -> bool:
        """Its centroid is in the picture, so there is a place for its name."""
        u, v = self.centre_px
        return 0 <= u < camera.width and 0 <= v < camera.height


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

    def projected(self, camera_from_ct: Matrix, camera: Camera) -> list[ProjectedStructure]:
        """The structures that this pose (4, 4) LPS mm puts in front of the source."""
        seen = []
        for name in self.names:
            centroid = _to_camera(camera_from_ct, self.centroids_lps_mm[name][None])
            if centroid[0, 2] <= 1.0:  # at or behind the focal spot
                continue
            points = _to_camera(camera_from_ct, self.points_lps_mm[name])
            u, v = camera.project(centroid)[0]
            lines = outlines(points, camera, self.voxel_mm)
            seen.append(ProjectedStructure(name, lines, (float(u), float(v))))
        return seen


def grey_rgb(radiograph: Radiograph) -> Picture:
    """(H, W, 3) the radiograph for the eye: bone bright, masked pixels darker.

    Slow changes of brightness (thick against thin parts of the body) are lessened, as fluoroscopy
    systems do before they show a picture, then a robust window is taken. For display only.
    """
    cv2 = require("cv2", pip="opencv-python-headless")
    values = np.asarray(radiograph.attenuation, dtype=np.float32)
    height, width = values.shape
    seen = radiograph.mask if radiograph.mask.any() else np.ones_like(radiograph.mask)
    # masked pixels (blades, metal) would cast a halo on their neighbours
    inside = np.where(seen, values, np.median(values[::3, ::3][seen[::3, ::3]]))
    # the slow part needs few pixels
    small = (max(1, width // 8), max(1, height // 8))
    slow = cv2.resize(inside.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    slow = cv2.GaussianBlur(slow, (0, 0), max(small) / _SLOW_PARTS)
    values = values - _SLOW_SHARE * cv2.resize(slow, (width, height))
    low, high = np.percentile(values[::3, ::3][seen[::3, ::3]], (1.0, 99.7))
    grey = np.clip((values - low) / max(float(high - low), 1e-12), 0.0, 1.0)
    grey = np.where(seen, grey, 0.4 * grey)
    return np.repeat((255.0 * grey).astype(np.uint8)[:, :, None], 3, axis=2)


def draw(
    radiograph: Radiograph,
    camera: Camera,
    camera_from_ct: Matrix | None,
    structures: Structures | None,
    accepted: bool,
    caption: str,
    edges: npt.NDArray[np.float32] | None = None,
    colour: Colour | None = None,
) -> Picture:
    """The overlay (H, W, 3) RGB.

    Args:
        radiograph: what was registered.
        camera: its camera.
        camera_from_ct: (4, 4) LPS mm, None = draw nothing but the caption.
        structures: what to outline and name.
        accepted: colour.
        caption: one line at the top.
        edges: (H, W) in 0..1, as `bone_edges.BoneRenderer.edges` gives them; painted under the
            outlines, in blue when there are outlines.
        colour: in place of that of ``accepted``, e.g. ``START``.
    """
    cv2 = require("cv2", pip="opencv-python-headless")
    canvas = np.ascontiguousarray(grey_rgb(radiograph))
    colour = colour or (ACCEPTED if accepted else REJECTED)
    scale = camera.width / 1024.0
    if edges is not None:
        canvas = paint(canvas, edges, colour if structures is None else EDGES)
    if camera_from_ct is not None and structures is not None:
        thickness = max(1, round(scale * 1.4))
        for seen in structures.projected(camera_from_ct, camera):
            lines = [np.round(o * 2**_SUBPIXEL_BITS).astype(np.int32) for o in seen.outlines]
            cv2.polylines(canvas, lines, True, colour, thickness, cv2.LINE_AA, shift=_SUBPIXEL_BITS)
            if seen.is_named(camera):
                _write(canvas, seen.label, seen.centre_px, 0.8 * scale, colour, centred=True)
    if caption:
        _write(canvas, caption, (10 * scale, 28 * scale), 0.7 * scale, colour, centred=False)
    return canvas


def paint(canvas: Picture, opacity: npt.NDArray[np.float32], colour: Colour) -> Picture:
    """``colour`` laid over an (H, W, 3) picture with the opacity (H, W) in 0..1."""
    alpha = _EDGE_OPACITY * np.clip(opacity, 0.0, 1.0)[:, :, None]
    mixed = (1.0 - alpha) * canvas + alpha * np.array(colour, dtype=np.float32)
    return np.ascontiguousarray(mixed.astype(np.uint8))


def outlines(points_camera: Matrix, camera: Camera, voxel_mm: float) -> list[Matrix]:
    """Silhouette of a dense point set: closed lines (n, 2) in pixels of the camera.

    The projected points are joined to an area by a morphological closing of one voxel's size, and
    the voxels' steps are smoothed away.
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
    area = ((cv2.GaussianBlur(area, (0, 0), 0.7 * radius + 0.5) > 127) * 255).astype(np.uint8)
    found, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    smallest = max(12.0, float(radius * radius))
    return [
        (_smoothed(contour[:, 0].astype(np.float64)) - margin) * step
        for contour in found
        if cv2.contourArea(contour) > smallest
    ]


def _smoothed(closed: Matrix) -> Matrix:
    """A closed line (n, 2) of pixel steps without the steps: a running mean of five points."""
    return np.asarray(np.mean([np.roll(closed, shift, axis=0) for shift in range(-2, 3)], axis=0))


def image_file_bytes(picture: npt.NDArray[np.generic], suffix: str = ".png") -> bytes:
    """Content of a .png, .tiff or .jpg: (H, W) uint8 or uint16, or (H, W, 3) RGB uint8."""
    cv2 = require("cv2", pip="opencv-python-headless")
    stored = picture[:, :, ::-1] if picture.ndim == 3 else picture  # OpenCV: blue first
    done, buffer = cv2.imencode(suffix, np.ascontiguousarray(stored))
    assert done
    return bytes(buffer.tobytes())


def _to_camera(camera_from_ct: Matrix, points_lps_mm: Matrix) -> Matrix:
    return np.asarray(points_lps_mm @ camera_from_ct[:3, :3].T + camera_from_ct[:3, 3])


def _write(
    canvas: Picture,
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
