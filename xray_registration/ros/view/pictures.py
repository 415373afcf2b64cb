"""Images of the topics as JPEG for the browser."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import Image

from xray_registration.errors import InputError
from xray_registration.optional import require
from xray_registration.ros.conversions import image_to_array

#: longest side that is sent; a monitor across the room shows no more
LONGEST_SIDE = 1024
_JPEG_QUALITY = 88
# Brightest and darkest thousandths (dead pixels, marks) do not set the window. Photon counts are
# mostly dark beside what the beam reaches directly: the median becomes this grey, within limits.
_WINDOW_PERCENTILES = (0.2, 50.0, 99.8)
_MEDIAN_GREY = 0.45
_GAMMA = (0.3, 1.5)
_COLOURS = ("rgb8", "bgr8")


def jpeg(message: Image, topic: str) -> bytes:
    """JPEG of an image, at most ``LONGEST_SIDE`` pixels long.

    Single channel images of more than 8 bits are shown from their darkest to their brightest value
    and brightened as a whole. Polarity, and which of two pixels is brighter, stay as they are.

    Raises:
        InputError: an encoding that cannot be shown, or data that do not fit the size.
    """
    cv2 = require("cv2", "opencv-python-headless")
    samples = _colours(message, topic) if message.encoding in _COLOURS else None
    if samples is None:
        samples = image_to_array(message, topic)
    longest = max(samples.shape[:2])
    if longest > LONGEST_SIDE:
        scale = LONGEST_SIDE / longest
        samples = cv2.resize(samples, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if samples.dtype != np.uint8:
        samples = _windowed(samples)
    done, content = cv2.imencode(".jpg", samples, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise InputError(f"topic '{topic}': the image of {samples.shape} cannot be made a JPEG")
    return bytes(content)


def _colours(message: Image, topic: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) in OpenCV's order, blue first."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height == 0 or width == 0 or step < 3 * width or len(message.data) != step * height:
        raise InputError(
            f"topic '{topic}': {len(message.data)} bytes with step {step} do not fit an image of "
            f"{width} x {height} {message.encoding} pixels"
        )
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(height, step)[:, : 3 * width]
    pixels = rows.reshape(height, width, 3)
    return np.ascontiguousarray(pixels[:, :, ::-1] if message.encoding == "rgb8" else pixels)


def _windowed(samples: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    # float32 holds 16 bits exactly; a subset of pixels is enough for the window
    values = samples.astype(np.float32)
    some = values[::4, ::4]
    some = some[np.isfinite(some)]
    if some.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    low, middle, high = np.percentile(some, _WINDOW_PERCENTILES)
    scale = 1.0 / max(float(high - low), 1e-12)
    shown = np.clip(np.nan_to_num((values - low) * scale, posinf=1.0), 0.0, 1.0)
    median = min(max(float(middle - low) * scale, 1e-3), 0.999)
    gamma = float(np.clip(np.log(_MEDIAN_GREY) / np.log(median), *_GAMMA))
    return (255.0 * shown**gamma).astype(np.uint8)
