"""Removing lens (or intensifier) distortion that a CameraInfo declares, with OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.optional import require

# ROS names (sensor_msgs/CameraInfo) and the numbers of coefficients OpenCV takes for them.
_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14)}


def undistort(
    image: ArrayLike,
    camera: Camera,
    distortion: Sequence[float],
    model: str = "plumb_bob",
) -> tuple[NDArray[Any], Camera, NDArray[np.bool_]]:
    """The image that a distortion-free camera with the same K would have taken.

    Undistort the raw picture, before `make_radiograph`, and hand the mask on to it.

    Args:
        image: (H, W) numbers of any kind.
        camera: its K and size; K is that of the distorted camera (CameraInfo.k).
        distortion: CameraInfo.d: k1, k2, p1, p2[, k3[, k4, k5, k6[, s1..s4[, tx, ty]]]].
        model: "plumb_bob" or "rational_polynomial".

    Returns:
        image: (H, W), uint8, uint16 and float32 kept, others float32; bilinear.
        camera: equal to the one given; it now describes the image.
        mask: (H, W) bool, True where the picture was known.

    Raises:
        InputError: sizes differ, unknown model, wrong number of or non-finite coefficients, skew.
    """
    values = np.asarray(image)
    if values.shape != (camera.height, camera.width):
        raise InputError(
            f"undistort: the image has shape {values.shape}, the camera expects "
            f"({camera.height}, {camera.width})."
        )
    if model not in _MODELS:
        raise InputError(f"undistort: distortion model {model!r}; accepted: {', '.join(_MODELS)}.")
    coefficients = np.asarray(distortion, dtype=np.float64).ravel()
    if coefficients.size not in _MODELS[model]:
        counts = " or ".join(str(n) for n in _MODELS[model])
        raise InputError(
            f"undistort: {coefficients.size} coefficients for {model}; expected {counts}."
        )
    if not np.all(np.isfinite(coefficients)):
        raise InputError(f"undistort: coefficients {coefficients.tolist()} are not all finite.")
    if camera.skew != 0.0:
        raise InputError(
            f"undistort: the camera has skew {camera.skew:g}; OpenCV's model has none. "
            "Expected K[0][1] = 0."
        )
    if not coefficients.any():
        return values, camera, np.ones(values.shape, dtype=np.bool_)
    cv2 = require("cv2", pip="opencv-python-headless")
    k = np.array(camera.K)
    size = (camera.width, camera.height)
    map_x, map_y = cv2.initUndistortRectifyMap(k, coefficients, None, k, size, cv2.CV_32FC1)
    if values.dtype not in (np.uint8, np.uint16, np.float32):
        values = values.astype(np.float32)
    straight = cv2.remap(
        np.ascontiguousarray(values), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    known = (map_x >= 0) & (map_x <= camera.width - 1) & (map_y >= 0) & (map_y <= camera.height - 1)
    return straight, camera, known
