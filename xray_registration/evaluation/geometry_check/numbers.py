"""What can be said of a camera and of a pose from their numbers alone, without the CT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.evaluation.geometry_check.finding import Finding, error, hint, warning
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import check_rigid

Matrix = NDArray[np.float64]

# Of C-arms and radiography rooms: 0.7 to 2 m; mobile mini C-arms 0.4 m, long-leg stands 3 m.
SDD_RANGE_MM = (300.0, 4000.0)
_METRES_BELOW = 10.0
_PITCH_RANGE_MM = (0.02, 5.0)
# Full opening angle of the picture's wider side.
_ANGLE_RANGE_DEG = (1.0, 60.0)
_NORMALISED_BELOW_PX = 20.0
_PRINCIPAL_POINT_SHARE = 0.25
_FOCAL_RATIO = 0.05


def camera_findings(data: Mapping[str, Any], name: str) -> tuple[Camera | None, list[Finding]]:
    """The camera of a CAM.json's content (None when it is none at all), and what is odd about it.

    Args:
        data: width, height, K, sdd_mm.
        name: file, for messages.
    """
    try:
        camera = Camera.from_dict(data, name)
    except InputError as problem:
        code = "camera_mirrored" if "negative focal length" in str(problem) else "camera_unusable"
        return None, [error(code, str(problem))]
    return camera, [*_focal_length(camera), *_source_distance(camera), *_principal_point(camera)]


def pose_findings(value: Any, name: str) -> tuple[Matrix | None, list[Finding]]:
    """A pose's 4x4 (None when it is no affine matrix at all), and what is wrong with it.

    A mirrored or scaled matrix is returned as it is, so that what it does can be drawn.
    """
    try:
        return check_rigid(value, name), []
    except InputError as problem:
        text = str(problem)
    code = "pose_unusable"
    try:
        matrix = np.array(value, np.float64)
        usable = matrix.shape == (4, 4) and bool(np.isfinite(matrix).all())
    except (TypeError, ValueError):
        return None, [error(code, text)]
    if not usable or np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-3:
        return None, [error(code, text)]
    if np.linalg.det(matrix[:3, :3]) < 0:
        return matrix, [error("pose_mirrored", text)]
    return matrix, [error("pose_not_rigid", text)]


def _focal_length(camera: Camera) -> list[Finding]:
    findings = []
    longest = max(camera.width / camera.fx, camera.height / camera.fy)
    angle = math.degrees(2 * math.atan(longest / 2))
    if _in_millimetres(camera):
        findings.append(
            error(
                "k_in_mm",
                f"K seems to be in millimetres: fx = {camera.fx:.6g} is the source distance "
                f"sdd_mm = {camera.sdd_mm:.6g}, and the principal point ({camera.cx:.4g}, "
                f"{camera.cy:.4g}) is far from the middle of {camera.width}x{camera.height} "
                "pixels. Expected pixels: divide K by the pixel pitch.",
            )
        )
    elif max(camera.fx, camera.fy) < _NORMALISED_BELOW_PX:
        findings.append(
            error(
                "k_normalised",
                f"fx = {camera.fx:.4g}, fy = {camera.fy:.4g} are far too small for pixels: K seems "
                "to be normalised by the picture's size, or in metres. Expected sdd / pixel pitch.",
            )
        )
    elif not _ANGLE_RANGE_DEG[0] <= angle <= _ANGLE_RANGE_DEG[1]:
        findings.append(
            warning(
                "opening_angle",
                f"the picture spans {angle:.3g} degrees as seen from the source (fx = "
                f"{camera.fx:.5g} px for {camera.width}x{camera.height}); C-arms have 5 to 30. Is "
                "K in pixels, and of a picture of this size?",
            )
        )
    if abs(camera.fx / camera.fy - 1) > _FOCAL_RATIO:
        findings.append(
            warning(
                "focal_lengths_differ",
                f"fx = {camera.fx:.5g} and fy = {camera.fy:.5g} differ by more than 5 %: right "
                "only for a detector whose pixels are not square.",
            )
        )
    return findings


def _in_millimetres(camera: Camera) -> bool:
    if camera.sdd_mm is None or abs(camera.fx / camera.sdd_mm - 1) > 0.02:
        return False
    return bool(_offset_share(camera).max() > _PRINCIPAL_POINT_SHARE)


def _source_distance(camera: Camera) -> list[Finding]:
    sdd = camera.sdd_mm
    if sdd is None:
        return [
            warning(
                "sdd_missing",
                "sdd_mm is missing: nothing can be said in mm on the detector, and not whether the "
                "CT lies between source and detector.",
            )
        ]
    if sdd < _METRES_BELOW:
        return [
            error(
                "sdd_in_metres",
                f"sdd_mm = {sdd:g} is no distance of a C-arm; it seems to be in metres: "
                f"{sdd * 1000:g} mm?",
            )
        ]
    if sdd < SDD_RANGE_MM[0]:
        text = f"sdd_mm = {sdd:g} is too small for a C-arm; expected {SDD_RANGE_MM[0]:g} to 2000."
        return [error("sdd_too_small", f"{text} Is it in centimetres, or the pixel pitch?")]
    if sdd > SDD_RANGE_MM[1]:
        return [warning("sdd_too_large", f"sdd_mm = {sdd:g} is large; C-arms have 700 to 1500.")]
    low, high = sorted(camera.pixel_pitch_mm)
    if (low < _PITCH_RANGE_MM[0] or high > _PITCH_RANGE_MM[1]) and not _in_millimetres(camera):
        return [
            warning(
                "pixel_pitch",
                f"sdd_mm / fx gives pixels of {low:.3g} to {high:.3g} mm on the detector; usual "
                f"are 0.05 to 2. Do sdd_mm and K belong together?",
            )
        ]
    return []


def _offset_share(camera: Camera) -> Matrix:
    """Distance of the principal point from the picture's middle, as a share of its sides."""
    size = np.array([camera.width, camera.height])
    return np.asarray(np.abs(np.array([camera.cx, camera.cy]) - (size - 1) / 2) / size)


def _principal_point(camera: Camera) -> list[Finding]:
    if _in_millimetres(camera) or _offset_share(camera).max() <= _PRINCIPAL_POINT_SHARE:
        return []
    findings = [
        warning(
            "principal_point",
            f"the principal point ({camera.cx:.5g}, {camera.cy:.5g}) is far from the middle of the "
            f"{camera.width}x{camera.height} picture; right only for a part cut out of a larger "
            "one.",
        )
    ]
    size = np.array([camera.width, camera.height])
    scale = (2 * np.array([camera.cx, camera.cy]) + 1) / size
    swapped = np.abs(np.array([camera.cy, camera.cx]) - (size - 1) / 2) / size
    if scale.min() > 0.2 and scale.max() < 10 and abs(scale[0] / scale[1] - 1) < 0.1:
        width, height = np.rint(2 * np.array([camera.cx, camera.cy]) + 1).astype(int)
        findings.append(
            hint(
                "k_of_another_size",
                f"K would fit a picture of about {width}x{height} pixels: was the picture resized "
                f"(by {1 / scale[0]:.3g}) without K?",
            )
        )
    elif swapped.max() <= 0.1:
        findings.append(hint("cx_cy_swapped", "with cx and cy swapped it would be in the middle."))
    return findings
