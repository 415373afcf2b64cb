"""The drawing of a check: the picture with a margin, the CT's box, structures, landmarks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from xray_registration.evaluation.geometry_check.finding import Finding, Severity
from xray_registration.evaluation.geometry_check.scene import Scene
from xray_registration.evaluation.overlay import ProjectedStructure
from xray_registration.optional import require

Picture = NDArray[np.uint8]
Matrix = NDArray[np.float64]

_LONG_SIDE = 900
_MARGIN = 0.18
_LINE_PX = 20
_NEAR_MM = 1.0
BOX = (255, 170, 60)
STRUCTURE = (64, 255, 96)
LANDMARK = (255, 90, 210)
AXIS = (90, 200, 255)
_TEXT = {
    Severity.ERROR: (255, 96, 88),
    Severity.WARNING: (255, 200, 70),
    Severity.HINT: (110, 210, 255),
    Severity.NOTE: (205, 205, 205),
}


def draw_check(
    scene: Scene | None,
    background: NDArray[np.float32],
    structures: Sequence[ProjectedStructure],
    findings: Sequence[Finding],
) -> Picture:
    """(H, W, 3) RGB.

    Args:
        scene: None draws the background and the words only.
        background: (height, width) grey values, any range.
        structures: outlines in pixels of the scene's camera.
        findings: written below.
    """
    canvas = _Canvas(background)
    if scene is not None:
        _draw_box(canvas, scene)
        for structure in structures:
            for line in structure.outlines:
                canvas.line(line, STRUCTURE, closed=True)
            canvas.label(np.array(structure.centre_px), structure.label, STRUCTURE)
        for name, point in scene.landmarks.items():
            (pixel,) = scene.pixels(point[None])
            canvas.cross(pixel, LANDMARK)
            canvas.label(pixel, name, LANDMARK, above=True)
        canvas.cross(np.array([scene.camera.cx, scene.camera.cy]), AXIS)
    return canvas.with_text(findings)


def _draw_box(canvas: _Canvas, scene: Scene) -> None:
    corners = scene.ct.corners_lps_mm
    # edges join corners (in binary order) that differ in one bit
    for a, b in combinations(range(8), 2):
        if (a ^ b) in (1, 2, 4):
            ends = _in_front(scene.in_camera(corners[[a, b]]))
            if ends is not None:
                canvas.line(np.asarray(scene.camera.project(ends)), BOX)


def _in_front(ends: Matrix) -> Matrix | None:
    """The part of a line (2, 3) that lies in front of the source; None: nothing of it."""
    depths = ends[:, 2]
    if depths.max() <= _NEAR_MM:
        return None
    if depths.min() > _NEAR_MM:
        return ends
    near, far = ends[np.argsort(depths)]
    share = (_NEAR_MM - near[2]) / (far[2] - near[2])
    return np.array([near + share * (far - near), far])


class _Canvas:
    """A picture in a grey frame; coordinates are pixels of the unscaled picture."""

    def __init__(self, background: NDArray[np.float32]) -> None:
        self._cv2 = require("cv2", pip="opencv-python-headless")
        height, width = background.shape
        self._scale = _LONG_SIDE / max(width, height)
        size = (max(1, round(width * self._scale)), max(1, round(height * self._scale)))
        shrink = self._cv2.INTER_AREA if self._scale < 1 else self._cv2.INTER_LINEAR
        grey = self._cv2.resize(_to_grey(background), size, interpolation=shrink)
        self._margin = round(_MARGIN * _LONG_SIDE)
        self._pixels: Picture = np.full(
            (size[1] + 2 * self._margin, size[0] + 2 * self._margin, 3), 44, np.uint8
        )
        m = self._margin
        self._pixels[m : m + size[1], m : m + size[0]] = grey[:, :, None]
        frame = (m - 1, m - 1), (m + size[0], m + size[1])
        self._cv2.rectangle(self._pixels, *frame, (235, 235, 235), 1)

    def _place(self, pixels: Matrix) -> Matrix:
        return np.asarray((pixels + 0.5) * self._scale + self._margin - 0.5)

    def line(self, pixels: Matrix, colour: tuple[int, int, int], closed: bool = False) -> None:
        # OpenCV clips, but its integers do not hold what a point beside the source projects to
        points = np.clip(self._place(pixels), -20000, 20000)
        points = np.rint(points * 8).astype(np.int32)
        self._cv2.polylines(
            self._pixels, [points[:, None]], closed, colour, 1, self._cv2.LINE_AA, 3
        )

    def cross(self, pixel: Matrix, colour: tuple[int, int, int]) -> None:
        if np.isfinite(pixel).all():
            x, y = self._shown(pixel)
            self._cv2.drawMarker(self._pixels, (x, y), colour, self._cv2.MARKER_CROSS, 13, 2)

    def label(
        self, pixel: Matrix, text: str, colour: tuple[int, int, int], above: bool = False
    ) -> None:
        if not np.isfinite(pixel).all():
            return
        x, y = self._shown(pixel)
        outside = (x, y) != tuple(np.rint(self._place(pixel)).astype(int))
        words = f"{text} (off)" if outside else text
        (width, _), _ = self._cv2.getTextSize(words, self._cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
        x = int(np.clip(x - width // 2, 4, self._pixels.shape[1] - width - 4))
        y = int(np.clip(y - 9 if above else y + 5, 14, self._pixels.shape[0] - 6))
        for shade, thick in (((0, 0, 0), 3), (colour, 1)):
            self._write(words, x, y, shade, thick)

    def _shown(self, pixel: Matrix) -> tuple[int, int]:
        """On the canvas: points beyond it are shown at its border."""
        height, width = self._pixels.shape[:2]
        x, y = np.clip(np.rint(self._place(pixel)), 8, (width - 9, height - 9))
        return int(x), int(y)

    def _write(
        self, text: str, x: int, y: int, colour: tuple[int, int, int], thick: int = 1
    ) -> None:
        # OpenCV's fonts are ASCII
        plain = text.encode("ascii", "replace").decode()
        font = self._cv2.FONT_HERSHEY_SIMPLEX
        self._cv2.putText(self._pixels, plain, (x, y), font, 0.45, colour, thick, self._cv2.LINE_AA)

    def with_text(self, findings: Sequence[Finding]) -> Picture:
        width = self._pixels.shape[1]
        lines = [
            (line, _TEXT[finding.severity])
            for finding in findings
            for line in textwrap.wrap(
                f"{finding.severity.value}: {finding.text}", width // 8, subsequent_indent="    "
            )
        ]
        top = self._pixels.shape[0]
        space = np.full((_LINE_PX * (len(lines) + 1), width, 3), 24, np.uint8)
        self._pixels = np.concatenate([self._pixels, space])
        for number, (line, colour) in enumerate(lines, start=1):
            self._write(line, 10, top + number * _LINE_PX, colour)
        return self._pixels


def _to_grey(values: NDArray[np.float32]) -> Picture:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(finite, (0.5, 99.5))
    scaled = np.nan_to_num((values - low) / max(float(high - low), 1e-12), nan=0.0)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
