from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.camera_info import camera_from_info, info_fields

K = [5200.0, 0.0, 500.0, 0.0, 5100.0, 520.0, 0.0, 0.0, 1.0]


def info(**changes: Any) -> SimpleNamespace:
    """A message with the fields of sensor_msgs/CameraInfo and its defaults."""
    roi = {"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, "do_rectify": False}
    roi.update(changes.pop("roi", {}))
    fields: dict[str, Any] = {
        "width": 1024,
        "height": 1040,
        "distortion_model": "plumb_bob",
        "d": [],
        "k": np.array(K),
        "r": np.eye(3).ravel(),
        "p": np.zeros(12),
        "binning_x": 0,
        "binning_y": 0,
    }
    return SimpleNamespace(**{**fields, **changes}, roi=SimpleNamespace(**roi))


def test_plain() -> None:
    camera = camera_from_info(info(), image_size=(1024, 1040))
    assert camera == Camera(np.reshape(K, (3, 3)), 1024, 1040)
    assert camera.sdd_mm is None


@pytest.mark.parametrize("binning", [0, 1])
def test_zero_and_one_are_no_binning(binning: int) -> None:
    message = info(binning_x=binning, binning_y=binning)
    assert camera_from_info(message) == camera_from_info(info())


def test_whole_sensor_given_as_roi() -> None:
    message = info(roi={"width": 1024, "height": 1040})
    assert camera_from_info(message) == camera_from_info(info())


def test_zero_distortion_of_any_length() -> None:
    for n in (4, 5, 8, 12):
        assert camera_from_info(info(d=[0.0] * n)) == camera_from_info(info())


def test_roi_then_binning() -> None:
    """What a driver does: cut the region out of the sensor, then average bins of it."""
    message = info(
        roi={"x_offset": 100, "y_offset": 40, "width": 602, "height": 900}, binning_x=4, binning_y=3
    )
    camera = camera_from_info(message, image_size=(150, 300))
    u, v = np.meshgrid(np.arange(1024.0), np.arange(1040.0))
    sensor = np.stack([u, v], -1)
    region = sensor[40:940, 100:702]
    published = region[:, :600].reshape(300, 3, 150, 4, 2).mean((1, 3))
    homogeneous = np.concatenate([published, np.ones_like(published[..., :1])], -1)
    points = homogeneous @ np.linalg.inv(np.reshape(K, (3, 3))).T
    u, v = np.meshgrid(np.arange(150.0), np.arange(300.0))
    np.testing.assert_allclose(camera.project(points), np.stack([u, v], -1), atol=1e-9)


def test_distance_from_pitch_of_the_unbinned_detector() -> None:
    message = info(binning_x=2, binning_y=2)
    camera = camera_from_info(message, pixel_pitch_mm=(0.2, 0.2 * 5200 / 5100))
    assert camera.sdd_mm == pytest.approx(1040.0)
    assert camera.pixel_pitch_mm[0] == pytest.approx(0.4)
    square = info(k=[5200.0, 0.0, 500.0, 0.0, 5200.0, 520.0, 0.0, 0.0, 1.0])
    assert camera_from_info(square, pixel_pitch_mm=0.2).sdd_mm == pytest.approx(1040.0)
    # both given and within 1 %: the distance is taken
    assert camera_from_info(square, sdd_mm=1041.0, pixel_pitch_mm=0.2).sdd_mm == 1041.0


def test_round_trip() -> None:
    camera = Camera(np.array([[5200, 3.0, 501.25], [0, 5100, 77.0], [0, 0, 1]]), 640, 480, 1020.0)
    message = info(**info_fields(camera))
    assert camera_from_info(message, sdd_mm=1020.0, image_size=(640, 480)) == camera
    assert camera_from_info(message, sdd_mm=1020.0, rectified=True) == camera


def test_round_trip_through_a_real_message() -> None:
    messages = pytest.importorskip("sensor_msgs.msg", reason="the ROS wheels are not installed")
    camera = Camera.from_detector(640, 480, (0.2, 0.21), 1020.0, cx=300.5)
    message = messages.CameraInfo(**info_fields(camera))
    assert camera_from_info(message, sdd_mm=1020.0, image_size=(640, 480)) == camera
    message.roi.x_offset, message.roi.width, message.roi.height = 40, 400, 480
    message.binning_x = message.binning_y = 2
    expected = camera.cropped(40, 0, 400, 480).binned(2)
    assert camera_from_info(message, sdd_mm=1020.0) == expected
    with pytest.raises(InputError, match="uncalibrated"):
        camera_from_info(messages.CameraInfo(width=640, height=480))


def test_rectified_image_uses_p() -> None:
    p = np.array([[5000.0, 0, 510, 0], [0, 5000, 515, 0], [0, 0, 1, 0]])
    message = info(d=[0.1, 0, 0, 0, 0], p=p.ravel())
    camera = camera_from_info(message, rectified=True)
    np.testing.assert_array_equal(camera.K, p[:, :3])
    p[0, 3] = -80.0
    with pytest.raises(InputError, match="not a stereo pair"):
        camera_from_info(info(p=p.ravel()), rectified=True)


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        (info(k=np.zeros(9)), {}, r"K\[0\] is 0, so the camera is uncalibrated"),
        (info(), {"rectified": True}, r"P\[0\] is 0, so the camera is uncalibrated"),
        (info(d=[0.1, 0, 0, 0, 0]), {}, r"D = \[0\.1.*plumb_bob.*imaging\.undistort"),
        (info(d=[float("nan")] * 5), {}, "D = .*not 0"),
        (info(k=[*K[:4], float("nan"), *K[5:]]), {}, "not finite"),
        (info(width=0, height=0), {}, "0x0; expected the size of the sensor"),
        (info(), {"image_size": (1040, 1024)}, "image of 1024x1040 .* but the image is 1040x1024"),
        (
            info(binning_x=2, binning_y=2),
            {"image_size": (1024, 1040)},
            "image of 512x520 .*sensor 1024x1040 after ROI and binning.* image is 1024x1040",
        ),
        (info(roi={"x_offset": 1000, "width": 100, "height": 100}), {}, "roi.*leaves the image"),
        (info(roi={"x_offset": 10}), {}, r"roi has offset \(10, 0\) and size 0x0"),
        (info(binning_x=2000), {}, "binning 2000x1 is larger"),
        (info(), {"sdd_mm": -1.0}, "sdd_mm is -1"),
        (info(), {"pixel_pitch_mm": (0.2, 0.25)}, "contradict"),
        (info(), {"sdd_mm": 900.0, "pixel_pitch_mm": (0.2, 0.204)}, "sdd_mm 900.*1040"),
    ],
)
def test_refused(message: SimpleNamespace, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        camera_from_info(message, topic="/carm/camera_info", **arguments)
    assert "/carm/camera_info" in str(caught.value)
