"""Undistortion against the distortion formula written out here."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.undistort import undistort

CAMERA = Camera.from_detector(320, 240, 0.8, 400.0, cx=150.0, cy=125.0)
PLUMB_BOB = [-0.25, 0.08, 0.002, -0.003, 0.01]
RATIONAL = [0.9, 0.05, -0.002, 0.001, 0.01, 0.5, 0.1, 0.02]


def distorted_pixel(point, d):
    """Brown-Conrady / rational model as in the documentation of sensor_msgs/CameraInfo."""
    k1, k2, p1, p2, k3, k4, k5, k6 = [*d, 0, 0, 0, 0][:8]
    x, y = point[0] / point[2], point[1] / point[2]
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return CAMERA.fx * xd + CAMERA.cx, CAMERA.fy * yd + CAMERA.cy


def blob(u, v):
    y, x = np.mgrid[:240, :320]
    return 60_000 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 3.0**2))


@pytest.mark.parametrize(
    ("model", "d"), [("plumb_bob", PLUMB_BOB), ("rational_polynomial", RATIONAL)]
)
@pytest.mark.parametrize("point", [(60.0, 35.0, 400.0), (-80.0, 40.0, 400.0), (5.0, -60.0, 400.0)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_points_come_back_to_their_pinhole_projection(model, d, point, dtype):
    raw = blob(*distorted_pixel(point, d)).astype(dtype)
    image, camera, mask = undistort(raw, CAMERA, d, model)
    assert camera == CAMERA
    weights = image.astype(np.float64) * mask
    y, x = np.mgrid[:240, :320]
    found = [(weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()]
    # A blob is itself stretched a little: its centroid moves by a fraction of a pixel.
    np.testing.assert_allclose(found, CAMERA.project(np.array(point)), atol=0.1)
    assert np.hypot(*np.subtract(distorted_pixel(point, d), found)) > 0.4


def test_dtype_and_unknown_border():
    raw = np.full((240, 320), 500, np.uint16)
    image, _, mask = undistort(raw, CAMERA, [0.4, 0.0, 0.0, 0.0])
    assert image.dtype == np.uint16
    assert np.all(image[mask] == 500)
    assert not mask[0, 0]
    assert mask[120, 160]


def test_no_distortion_changes_nothing():
    raw = np.arange(240 * 320, dtype=np.uint16).reshape(240, 320)
    image, _, mask = undistort(raw, CAMERA, [0.0] * 5)
    np.testing.assert_array_equal(image, raw)
    assert mask.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "equidistant"}, "'equidistant'; accepted: plumb_bob, rational_polynomial"),
        ({"distortion": [0.1, 0.2]}, "2 coefficients for plumb_bob; expected 4 or 5"),
        ({"distortion": [0.1, 0.2, np.nan, 0.0]}, "not all finite"),
        ({"image": np.zeros((10, 10))}, r"shape \(10, 10\).*\(240, 320\)"),
        ({"camera": Camera(CAMERA.K + np.eye(3, k=1) * [0, 2, 0], 320, 240)}, "skew 2"),
    ],
)
def test_bad_input(options, message):
    arguments = {"image": np.zeros((240, 320)), "camera": CAMERA, "distortion": PLUMB_BOB}
    with pytest.raises(InputError, match=message):
        undistort(**(arguments | options))
