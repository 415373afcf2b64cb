"""Images and CameraInfo of real sensor_msgs to arrays and cameras, and back."""

from __future__ import annotations

import array

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.ros.conversions import (
    array_to_image,
    camera_from_message,
    camera_to_message,
    image_to_array,
)
from xray_registration.ros.image_bridge import ENCODINGS

HEADER = Header(stamp=Time(sec=12, nanosec=34), frame_id="carm_source_optical_frame")


def _samples(encoding: str, height: int = 5, width: int = 7) -> np.ndarray:
    generator = np.random.default_rng(3)
    dtype = np.dtype(ENCODINGS[encoding])
    if dtype.kind == "f":
        return generator.normal(size=(height, width)).astype(np.float32)
    return generator.integers(0, np.iinfo(dtype).max, (height, width)).astype(dtype)


def _message(samples: np.ndarray, encoding: str, padding: int, big_endian: bool) -> Image:
    """An image written byte by byte, independently of the code under test."""
    code = {1: "B", 2: "H", 4: "f"}[samples.itemsize]
    data = bytearray()
    for row in samples:
        values = array.array(code, row.tolist())
        if big_endian:
            values.byteswap()
        data += values.tobytes() + b"\xaa" * padding
    message = Image(header=HEADER, encoding=encoding, is_bigendian=int(big_endian))
    message.height, message.width = samples.shape
    message.step = samples.shape[1] * samples.itemsize + padding
    message.data = array.array("B", bytes(data))
    return message


@pytest.mark.parametrize("encoding", list(ENCODINGS))
@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("big_endian", [False, True])
def test_every_layout_is_read(encoding: str, padding: int, big_endian: bool) -> None:
    samples = _samples(encoding)
    read = image_to_array(_message(samples, encoding, padding, big_endian))
    assert read.dtype == samples.dtype
    assert read.dtype.isnative
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, samples)


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_round_trip_through_cdr(encoding: str) -> None:
    samples = _samples(encoding)
    message = array_to_image(samples, HEADER, encoding)
    received = deserialize_message(serialize_message(message), Image)
    assert received.encoding == encoding
    assert received.header == HEADER
    np.testing.assert_array_equal(image_to_array(received), samples)


def test_colour_out() -> None:
    samples = np.random.default_rng(1).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    message = array_to_image(samples, HEADER)
    assert (message.encoding, message.step) == ("rgb8", 18)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(4, 6, 3), samples)


def test_unpadded_native_image_is_not_copied() -> None:
    message = array_to_image(_samples("mono16"), HEADER)
    assert np.shares_memory(image_to_array(message), np.frombuffer(message.data, np.uint8))


def test_slices_and_foreign_order_are_written_right() -> None:
    samples = _samples("mono16", 6, 8)
    for view in (samples[::2, ::-1], samples.astype(">u2")):
        np.testing.assert_array_equal(image_to_array(array_to_image(view, HEADER)), view)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "rgb8"}, ["rgb8", "mono16", "32FC1"]),
        ({"encoding": ""}, ["''", "mono8"]),
        ({"step": 9}, ["step is 9", "needs at least 14"]),
        ({"height": 6}, ["70 bytes", "14 * 6 = 84"]),
        ({"width": 0}, ["0 x 5"]),
    ],
)
def test_unusable_images_are_refused_with_topic_and_value(change: dict, words: list[str]) -> None:
    message = array_to_image(_samples("mono16"), HEADER)
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(InputError) as error:
        image_to_array(message, "carm/image")
    for word in ["'carm/image'", *words]:
        assert word in str(error.value)


def test_arrays_that_are_no_image_are_refused() -> None:
    with pytest.raises(InputError, match="float64"):
        array_to_image(np.zeros((3, 3)), HEADER)
    with pytest.raises(InputError, match=r"\(2, 3, 4\)"):
        array_to_image(np.zeros((2, 3, 4), np.uint8), HEADER)
    with pytest.raises(InputError, match="mono8"):
        array_to_image(np.zeros((3, 3), np.uint16), HEADER, "mono8")


def test_camera_round_trip_through_cdr() -> None:
    k = np.array([[5000.0, 0.0, 260.5], [0.0, 5100.0, 190.25], [0.0, 0.0, 1.0]])
    camera = Camera(k, 512, 384, sdd_mm=1000.0)
    message = deserialize_message(serialize_message(camera_to_message(camera, HEADER)), CameraInfo)
    assert message.header == HEADER
    assert camera_from_message(message, image_size=(512, 384), sdd_mm=1000.0) == camera


def test_roi_and_binning_of_a_real_message() -> None:
    message = camera_to_message(Camera.from_detector(512, 512, 0.4, 1000.0), HEADER)
    message.roi = RegionOfInterest(x_offset=100, y_offset=60, width=256, height=128)
    message.binning_x = message.binning_y = 2
    camera = camera_from_message(message, image_size=(128, 64))
    assert (camera.width, camera.height) == (128, 64)
    assert camera.fx == pytest.approx(1250.0)
    # centre of a 2 x 2 block lies half a pixel from its first pixel
    assert camera.cx == pytest.approx((255.5 - 100 - 0.5) / 2)
    assert camera.cy == pytest.approx((255.5 - 60 - 0.5) / 2)


def _info() -> CameraInfo:
    return camera_to_message(Camera.from_detector(64, 48, 1.0, 1000.0), HEADER)


def test_bad_camera_info_names_the_topic_and_the_value() -> None:
    uncalibrated = _info()
    uncalibrated.k[0] = 0.0
    distorted = _info()
    distorted.d = [0.1, 0.0, 0.0, 0.0, 0.0]
    cases = [
        (uncalibrated, (64, 48), "uncalibrated"),
        (distorted, (64, 48), r"0\.1"),
        (_info(), (48, 64), "48x64"),
    ]
    for message, size, words in cases:
        with pytest.raises(InputError, match=words) as error:
            camera_from_message(message, image_size=size, topic="carm/camera_info")
        assert "carm/camera_info" in str(error.value)
