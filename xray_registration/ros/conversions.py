"""sensor_msgs/Image and CameraInfo to and from arrays and cameras.

Accepted are the single channel encodings that an X-ray detector delivers: ``mono8``, ``8UC1``,
``mono16``, ``16UC1`` and ``32FC1``. Padded rows (``step``) and ``is_bigendian`` are honoured.

The bytes are moved by `image_bridge`, with cv_bridge where that is installed and works; what is
accepted and what is an error is decided here, alike for both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.camera_info import camera_from_info, info_fields
from xray_registration.ros.image_bridge import ENCODINGS, image_bridge

_ENCODING_OF: dict[str, str] = {"uint8": "mono8", "uint16": "mono16", "float32": "32FC1"}


def image_to_array(message: Image, topic: str = "image") -> npt.NDArray[Any]:
    """Samples of a single channel image.

    Args:
        message: the image; padded rows and foreign byte order are fine.
        topic: named in errors.

    Returns:
        (height, width) uint8, uint16 or float32 in native byte order, C-contiguous. It shares the
        message's memory where the layout allows it: treat it as read-only.

    Raises:
        InputError: unknown encoding, empty image, or ``step``/``data`` that do not fit the size.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    if message.encoding not in ENCODINGS:
        raise InputError(
            f"topic '{topic}': image encoding '{message.encoding}' is not accepted; "
            f"expected one of {', '.join(ENCODINGS)}"
        )
    dtype: np.dtype[Any] = np.dtype(ENCODINGS[message.encoding])
    if height == 0 or width == 0:
        raise InputError(f"topic '{topic}': image is empty ({width} x {height} pixels)")
    row_bytes = width * dtype.itemsize
    if step < row_bytes:
        raise InputError(
            f"topic '{topic}': step is {step} bytes, but a row of {width} {message.encoding} "
            f"pixels needs at least {row_bytes}"
        )
    if len(message.data) != step * height:
        raise InputError(
            f"topic '{topic}': data has {len(message.data)} bytes, but step * height = "
            f"{step} * {height} = {step * height}"
        )
    return image_bridge().samples(message)


def array_to_image(samples: npt.NDArray[Any], header: Header, encoding: str | None = None) -> Image:
    """Image message from (H, W) uint8/uint16/float32, or (H, W, 3) uint8 as ``rgb8``.

    Raises:
        InputError: another shape or sample type, or one that does not fit ``encoding``.
    """
    if samples.ndim == 3 and samples.shape[2] == 3 and samples.dtype == np.uint8:
        accepted = {"rgb8", "bgr8"}
        chosen = encoding or "rgb8"
    elif samples.ndim == 2 and samples.dtype.name in _ENCODING_OF:
        native = samples.dtype.newbyteorder("=")
        accepted = {e for e, t in ENCODINGS.items() if np.dtype(t) == native}
        chosen = encoding or _ENCODING_OF[samples.dtype.name]
    else:
        raise InputError(
            f"cannot make an Image of a {samples.dtype} array of shape {samples.shape}; "
            "expected (H, W) uint8, uint16 or float32, or (H, W, 3) uint8"
        )
    if chosen not in accepted:
        raise InputError(
            f"encoding '{chosen}' does not fit a {samples.dtype} array of shape {samples.shape}; "
            f"expected one of {', '.join(sorted(accepted))}"
        )
    little = np.ascontiguousarray(samples, dtype=samples.dtype.newbyteorder("<"))
    return image_bridge().message(little, header, chosen)


def camera_from_message(
    info: CameraInfo,
    *,
    image_size: tuple[int, int] | None = None,
    sdd_mm: float | None = None,
    pixel_pitch_mm: tuple[float, float] | None = None,
    rectified: bool = False,
    topic: str = "camera_info",
) -> Camera:
    """Camera of the image as published; ``image_size`` is (width, height) of that image.

    The other arguments are those of ``geometry.camera_info.camera_from_info``.

    Raises:
        InputError: uncalibrated (K[0] = 0), distorted, or of another size than the image.
    """
    return camera_from_info(
        info,
        sdd_mm=sdd_mm,
        pixel_pitch_mm=pixel_pitch_mm,
        image_size=image_size,
        topic=f"topic '{topic}'",
        rectified=rectified,
    )


def camera_to_message(camera: Camera, header: Header) -> CameraInfo:
    """CameraInfo (no distortion, no ROI, no binning) of a camera."""
    info = CameraInfo()
    info.header = header
    for field, value in info_fields(camera).items():
        setattr(info, field, value)
    return info
