"""Area resampling with masks, and that image and camera shrink alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.pyramid import check_same_size, downsample
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.imaging.resampling import area_resample


def radiograph(image, mask=None):
    mask = np.ones(image.shape, bool) if mask is None else mask
    return Radiograph(image, mask, "attenuation")


def camera_for(width, height):
    return Camera.from_detector(width, height, 0.3, 1000.0, cx=0.45 * width, cy=0.55 * height)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_whole_ratio_is_the_block_mean(n):
    image = np.random.default_rng(0).normal(size=(12 * n, 16 * n)).astype(np.float32)
    small, mask = area_resample(image, np.ones(image.shape, bool), 16, 12)
    np.testing.assert_allclose(small, image.reshape(12, n, 16, n).mean(axis=(1, 3)), atol=1e-6)
    assert mask.all()


@pytest.mark.parametrize(("width", "height"), [(37, 29), (64, 50), (99, 77), (101, 79)])
def test_any_ratio_keeps_mean_and_linear_fields(width, height):
    y, x = np.mgrid[:80, :102].astype(np.float32)
    image = 3.0 * x - 2.0 * y + 7.0
    small, _ = area_resample(image, np.ones(image.shape, bool), width, height)
    assert small.mean() == pytest.approx(image.mean(), rel=1e-5)
    # Mean over a pixel of a linear field is its value at the centre, in the old coordinates.
    v, u = np.mgrid[:height, :width]
    expected = 3.0 * ((u + 0.5) * 102 / width - 0.5) - 2.0 * ((v + 0.5) * 80 / height - 0.5) + 7.0
    inner = np.s_[1:-1, 1:-1]
    # Source pixels are steps, so at a ratio near one the average may lag by a part of a pixel.
    np.testing.assert_allclose(small[inner], expected[inner], atol=1.3)


def test_masked_pixels_have_no_weight():
    image = np.full((8, 8), 2.0, np.float32)
    mask = np.ones((8, 8), bool)
    image[0, 0] = 1e6
    mask[0, 0] = False
    image[4:6, 4:6], mask[4:6, 4:6] = -1e6, False
    mask[6, 6] = mask[6, 7] = False  # half of its block is left: usable
    mask[0, 2:4], mask[1, 2] = False, False  # a quarter is left: not
    small, usable = area_resample(image, mask, 4, 4)
    np.testing.assert_allclose(small[usable], 2.0)
    expected = np.ones((4, 4), bool)
    expected[2, 2] = expected[0, 1] = False
    np.testing.assert_array_equal(usable, expected)
    assert np.isfinite(small).all()


@pytest.mark.parametrize("width", [320, 256, 161, 80, 40])
def test_image_and_camera_shrink_alike(width):
    """A blob stays where the smaller camera projects its point."""
    camera = camera_for(640, 480)
    point = np.array([22.0, -31.0, 900.0])
    u, v = camera.project(point)
    y, x = np.mgrid[:480, :640]
    blob = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 15.0**2)).astype(np.float32)
    small, smaller = downsample(radiograph(blob), camera, width)
    assert small.attenuation.shape == (smaller.height, smaller.width)
    assert smaller.width == width
    found_v, found_u = center_of_mass(small.attenuation.astype(np.float64))
    np.testing.assert_allclose([found_u, found_v], smaller.project(point), atol=0.01)


def test_not_wider_is_left_alone():
    image, camera = radiograph(np.eye(64, dtype=np.float32)), camera_for(64, 64)
    for width in (64, 100):
        assert downsample(image, camera, width) == (image, camera)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_binning_as_the_camera_bins(n):
    image = np.random.default_rng(1).normal(size=(64, 83)).astype(np.float32)
    small, camera = radiograph(image).binned(n), camera_for(83, 64).binned(n)
    assert (small.width, small.height) == (camera.width, camera.height)
    rows, columns = 64 // n, 83 // n
    blocks = image[: rows * n, : columns * n].reshape(rows, n, columns, n)
    np.testing.assert_allclose(small.attenuation, blocks.mean(axis=(1, 3)), atol=1e-6)


def test_size_mismatch_is_refused_with_both_sizes():
    image, camera = radiograph(np.eye(64, dtype=np.float32)), camera_for(128, 64)
    with pytest.raises(InputError, match=r"64x64.*128x64"):
        check_same_size(image, camera)
    with pytest.raises(InputError, match=r"64x64.*128x64"):
        downsample(image, camera, 32)


def test_sizes_that_make_no_sense():
    image, camera = radiograph(np.eye(64, dtype=np.float32)), camera_for(64, 64)
    with pytest.raises(InputError, match="width 0"):
        downsample(image, camera, 0)
    with pytest.raises(InputError, match="cannot shrink 64x64 to 65x64"):
        image.resized(65, 64)
    with pytest.raises(InputError, match="binning 65"):
        image.binned(65)
