"""Samples of an Image message and back: by cv_bridge where that works, otherwise without it.

A ROS 2 install has cv_bridge; the wheels from PyPI do not. Both ways give the same samples and the
same messages. What is installed need not work: an extension may lack a library or not go with the
NumPy that is there, and PyPI's package of that name reads padded rows wrongly. So cv_bridge has to
give on a few small images what is known of them, once in each process, before it is used.
"""

from __future__ import annotations

import array
import sys
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rclpy.logging import get_logger
from sensor_msgs.msg import Image
from std_msgs.msg import Header

#: encoding -> sample type in native byte order
ENCODINGS: dict[str, type[np.generic]] = {
    "mono8": np.uint8,
    "8UC1": np.uint8,
    "mono16": np.uint16,
    "16UC1": np.uint16,
    "32FC1": np.float32,
}


class ImageBridge(Protocol):
    """Anything that converts; its arguments have been checked."""

    def samples(self, message: Image) -> npt.NDArray[Any]:
        """(height, width), native and contiguous, of one of ``ENCODINGS``."""

    def message(self, samples: npt.NDArray[Any], header: Header, encoding: str) -> Image:
        """Of (H, W) or (H, W, 3), contiguous and little-endian."""


class PlainBridge:
    """Without cv_bridge."""

    def samples(self, message: Image) -> npt.NDArray[Any]:
        """See ``ImageBridge``."""
        dtype: np.dtype[Any] = np.dtype(ENCODINGS[message.encoding])
        rows = np.frombuffer(message.data, dtype=np.uint8).reshape(message.height, message.step)
        samples = np.ascontiguousarray(rows[:, : message.width * dtype.itemsize]).view(
            dtype.newbyteorder(">" if message.is_bigendian else "<")
        )
        return np.asarray(samples, dtype=dtype)  # swaps bytes only when the order is foreign

    def message(self, samples: npt.NDArray[Any], header: Header, encoding: str) -> Image:
        """See ``ImageBridge``."""
        message = Image(header=header, encoding=encoding, is_bigendian=0)
        message.height, message.width = int(samples.shape[0]), int(samples.shape[1])
        message.step = int(np.prod(samples.shape[1:])) * samples.dtype.itemsize
        # array.array is what the setter takes without checking each byte (0.5 ms for 1024 x 1024).
        message.data = array.array("B", samples.tobytes())
        return message


class CvBridge:
    """cv_bridge, for what it does right."""

    def __init__(self, library: Any) -> None:
        """``library``: a cv_bridge.CvBridge."""
        self._library = library
        self._plain = PlainBridge()

    def samples(self, message: Image) -> npt.NDArray[Any]:
        """See ``ImageBridge``."""
        itemsize = np.dtype(ENCODINGS[message.encoding]).itemsize
        is_native = bool(message.is_bigendian) == (sys.byteorder == "big")
        # It fails on a foreign order with NumPy 2 (ros-perception/vision_opencv, pull request 556),
        # and takes rows for whole numbers of samples.
        if message.step % itemsize or not is_native:
            return self._plain.samples(message)
        samples: npt.NDArray[Any] = self._library.imgmsg_to_cv2(message, "passthrough")
        return samples

    def message(self, samples: npt.NDArray[Any], header: Header, encoding: str) -> Image:
        """See ``ImageBridge``."""
        if samples.size == 0:
            return self._plain.message(samples, header, encoding)
        message: Image = self._library.cv2_to_imgmsg(samples, encoding, header)
        return message


@cache
def image_bridge() -> ImageBridge:
    """cv_bridge where it is installed and works; says so when it does not."""
    try:
        import cv_bridge

        bridge = CvBridge(cv_bridge.CvBridge())
        _prove(bridge)
    except ModuleNotFoundError as error:
        if error.name != "cv_bridge":
            _say(error)
        return PlainBridge()
    except Exception as error:  # whatever a foreign extension raises: we can do without it
        _say(error)
        return PlainBridge()
    return bridge


def _say(error: Exception) -> None:
    first = str(error).strip().partition("\n")[0]
    get_logger("xray_registration").warning(
        f"cv_bridge is installed but does not work ({type(error).__name__}: {first}); "
        "images are converted without it"
    )


def _prove(bridge: ImageBridge) -> None:
    """Small images there and back, tight and with padded rows.

    Raises:
        ValueError: not the samples or not the message that are known.
    """
    plain, header = PlainBridge(), Header(frame_id="proof")
    for encoding, dtype in ENCODINGS.items():
        samples = np.arange(1, 7).reshape(2, 3).astype(dtype)
        message = plain.message(samples, header, encoding)
        rows = np.frombuffer(message.data, np.uint8).reshape(2, message.step)
        padded = plain.message(samples, header, encoding)
        padded.step += 2 * samples.itemsize
        padded.data = array.array("B", np.pad(rows, ((0, 0), (0, 2 * samples.itemsize))).tobytes())
        for each in (message, padded):
            read = bridge.samples(each)
            if read.dtype != samples.dtype or not np.array_equal(read, samples):
                raise ValueError(f"it reads another {encoding} image than was written")
        if bridge.message(samples, header, encoding) != message:
            raise ValueError(f"it writes another {encoding} message than was expected")
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    for encoding in ("rgb8", "bgr8"):
        if bridge.message(colour, header, encoding) != plain.message(colour, header, encoding):
            raise ValueError(f"it writes another {encoding} message than was expected")
