"""sensor_msgs/CameraInfo <-> Camera, without importing ROS (any object with its fields will do).

K of a CameraInfo describes the full, unbinned sensor; the region of interest is counted in unbinned
pixels; the published image is that region, binned. A CameraInfo fixes focal lengths in pixels, that
is the ratio of source-detector distance and pixel pitch, so one of the two must be given to have
mm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import positive

# Largest relative disagreement of two statements about the same length (rounded headers pass).
_LENGTH_TOLERANCE = 0.01


def camera_from_info(
    info: Any,
    sdd_mm: float | None = None,
    pixel_pitch_mm: float | tuple[float, float] | None = None,
    image_size: tuple[int, int] | None = None,
    topic: str = "camera_info",
    rectified: bool = False,
) -> Camera:
    """Camera of the PUBLISHED image: ROI cut out, then binned.

    Args:
        info: CameraInfo-like: k, d, width, height, roi, binning_x, binning_y, distortion_model
            (and p with ``rectified``).
        sdd_mm: source-to-detector distance, if known.
        pixel_pitch_mm: pitch of the full, unbinned detector, one number or (x, y); gives the
            distance as fx * pitch. With both given they must agree within 1 %, and sdd_mm is kept.
        image_size: (width, height) of the image that came with it, to be checked.
        topic: named in errors.
        rectified: the image is already undistorted (a ROS image_rect topic): take P, not K and D.

    Raises:
        InputError: uncalibrated (K[0] = 0), distorted (D not 0), ROI outside the sensor, image of
            another size, distance and pitch that contradict each other.
    """
    full = _full_camera(info, topic, rectified)
    if sdd_mm is not None:
        sdd_mm = positive(sdd_mm, f"{topic}: sdd_mm")
    sdd_mm = _distance(full, sdd_mm, pixel_pitch_mm, topic)
    full = Camera(full.K, full.width, full.height, sdd_mm)
    camera = _published(full, info, topic)
    if image_size is not None and tuple(image_size) != (camera.width, camera.height):
        raise InputError(
            f"{topic}: describes an image of {camera.width}x{camera.height} (width x height; "
            f"sensor {full.width}x{full.height} after ROI and binning), but the image is "
            f"{image_size[0]}x{image_size[1]}"
        )
    return camera


def info_fields(camera: Camera) -> dict[str, Any]:
    """Fields of an undistorted CameraInfo, for ``CameraInfo(**info_fields(camera))``.

    The camera becomes the full sensor: no ROI (all zero by default) and no binning. sdd_mm has no
    field in a CameraInfo and must travel otherwise.
    """
    projection = np.hstack([camera.K, np.zeros((3, 1))])
    return {
        "height": camera.height,
        "width": camera.width,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": camera.K.ravel().tolist(),
        "r": np.eye(3).ravel().tolist(),
        "p": projection.ravel().tolist(),
        "binning_x": 0,
        "binning_y": 0,
    }


def _full_camera(info: Any, topic: str, rectified: bool) -> Camera:
    width, height = int(info.width), int(info.height)
    if width == 0 or height == 0:
        raise InputError(
            f"{topic}: width x height is {width}x{height}; expected the size of the sensor in "
            "pixels"
        )
    if rectified:
        p = np.array(info.p, np.float64).reshape(3, 4)
        if p[:, 3].any():
            raise InputError(
                f"{topic}: the last column of P is {p[:, 3].tolist()}; expected 0 (not a stereo "
                "pair)"
            )
        k, name = p[:, :3], "P"
    else:
        _refuse_distortion(info, topic)
        k, name = np.array(info.k, np.float64).reshape(3, 3), "K"
    if k[0, 0] == 0.0:
        raise InputError(
            f"{topic}: {name}[0] is 0, so the camera is uncalibrated; expected fx = "
            "source-detector distance / pixel pitch (publish a calibrated CameraInfo, or give K "
            "as a parameter)"
        )
    try:
        return Camera(k, width, height)
    except InputError as error:
        raise InputError(f"{topic}: {error}") from error


def _refuse_distortion(info: Any, topic: str) -> None:
    d = np.array(info.d, np.float64).ravel()
    if not np.isfinite(d).all() or d.any():
        raise InputError(
            f"{topic}: distortion coefficients D = {d.tolist()} "
            f"({info.distortion_model or 'no model'}) are not 0; expected an undistorted image: "
            "undo the distortion first with xray_registration.imaging.undistort, or, if the image "
            "is already rectified (image_rect), say so with the parameter rectified"
        )


def _published(full: Camera, info: Any, topic: str) -> Camera:
    roi = info.roi
    x0, y0, width, height = (int(v) for v in (roi.x_offset, roi.y_offset, roi.width, roi.height))
    if (width == 0 and x0 != 0) or (height == 0 and y0 != 0):
        raise InputError(
            f"{topic}: roi has offset ({x0}, {y0}) and size {width}x{height}; expected a size with "
            "an offset (all zero means the full sensor)"
        )
    binning_x, binning_y = max(1, int(info.binning_x)), max(1, int(info.binning_y))
    try:
        camera = full.cropped(x0, y0, width or full.width, height or full.height)
        return camera.binned(binning_x, binning_y)
    except InputError as error:
        raise InputError(f"{topic}: roi or binning: {error}") from error


def _distance(
    full: Camera,
    sdd_mm: float | None,
    pixel_pitch_mm: float | tuple[float, float] | None,
    topic: str,
) -> float | None:
    if pixel_pitch_mm is None:
        return sdd_mm
    # from_detector checks the numbers; distance 1 makes its focal lengths 1 / pitch
    unit = Camera.from_detector(full.width, full.height, pixel_pitch_mm, 1.0)
    along_x, along_y = full.fx / unit.fx, full.fy / unit.fy
    if abs(along_x - along_y) > _LENGTH_TOLERANCE * along_x:
        raise InputError(
            f"{topic}: pixel_pitch_mm {pixel_pitch_mm} and K contradict each other: the distance "
            f"would be {along_x:.1f} mm along x and {along_y:.1f} mm along y"
        )
    if sdd_mm is None:
        return along_x
    if abs(along_x - sdd_mm) > _LENGTH_TOLERANCE * along_x:
        raise InputError(
            f"{topic}: sdd_mm {sdd_mm:g} and pixel_pitch_mm {pixel_pitch_mm} contradict each "
            f"other: with K, this pitch (of the unbinned detector) means {along_x:.1f} mm; give "
            "one of them"
        )
    return sdd_mm
