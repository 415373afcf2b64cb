"""What a browser gets of an image message."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("cv2")

import cv2
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.ros.conversions import array_to_image
from xray_registration.ros.view.pictures import LONGEST_SIDE, jpeg


def _decoded(message: Image) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg(message, "image"), np.uint8), cv2.IMREAD_UNCHANGED)


def test_sixteen_bits_are_shown_from_dark_to_bright_and_not_larger_than_a_screen() -> None:
    ramp = np.linspace(3000, 50000, 2000).astype(np.uint16)
    picture = _decoded(array_to_image(np.tile(ramp, (400, 1)), Header()))
    assert picture.shape == (round(400 * LONGEST_SIDE / 2000), LONGEST_SIDE)
    assert picture[:, :8].max() < 8
    assert picture[:, -8:].min() > 247
    assert (np.diff(picture.mean(axis=0)) > -1.5).all()


def test_colours_stay_what_they_are() -> None:
    green = np.zeros((32, 48, 3), np.uint8)
    green[..., 1] = 200
    for encoding in ("rgb8", "bgr8"):
        picture = _decoded(array_to_image(green, Header(), encoding))
        assert np.abs(picture.astype(int) - [0, 200, 0]).max() < 12
    red = np.zeros((32, 48, 3), np.uint8)
    red[..., 0] = 200
    assert _decoded(array_to_image(red, Header(), "rgb8"))[0, 0, 2] > 180


def test_numbers_that_are_none_are_black() -> None:
    samples = np.linspace(0, 1, 64 * 64).reshape(64, 64).astype(np.float32)
    samples[:8, :8] = np.nan
    samples[8:16, :8] = np.inf
    picture = _decoded(array_to_image(samples, Header()))
    assert picture[2:6, 2:6].max() < 30
    nothing = array_to_image(np.full((16, 16), np.nan, np.float32), Header())
    assert _decoded(nothing).max() == 0
    constant = array_to_image(np.full((16, 16), 7, np.uint16), Header())
    assert _decoded(constant).shape == (16, 16)


def test_what_cannot_be_shown_is_an_input_error() -> None:
    with pytest.raises(InputError, match="yuv422"):
        jpeg(Image(encoding="yuv422", height=2, width=2, step=4), "xray")
    with pytest.raises(InputError, match="topic 'overlay'"):
        jpeg(Image(encoding="rgb8", height=2, width=2, step=6), "overlay")
