"""Small phantoms and views of the X-ray model's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from xray_registration.geometry.camera import Camera
from xray_registration.imaging.volume import CTVolume

Matrix = NDArray[np.float64]


@pytest.fixture
def make_ct() -> Callable[..., CTVolume]:
    """A CT from (D, H, W) HU, axis-aligned in LPS, its middle at the origin."""

    def build(hu: NDArray[np.generic], spacing_mm: tuple[float, float, float]) -> CTVolume:
        affine = np.diag([*spacing_mm, 1.0])
        affine[:3, 3] = -0.5 * (np.array(hu.shape[::-1]) - 1.0) * spacing_mm
        return CTVolume(hu.astype(np.int16), affine)

    return build


@pytest.fixture
def look() -> Callable[..., Matrix]:
    """camera_from_ct looking along an LPS direction at a point ``depth_mm`` away, feet below."""

    def build(
        direction: tuple[float, float, float] = (0.0, 1.0, 0.0),
        depth_mm: float = 650.0,
        target: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Matrix:
        z = np.array(direction) / np.linalg.norm(direction)
        y = np.array([0.0, 0.0, -1.0])
        y = y - (y @ z) * z
        y /= np.linalg.norm(y)
        rotation = np.stack((np.cross(y, z), y, z))
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = np.array([0.0, 0.0, depth_mm]) - rotation @ np.array(target)
        return pose

    return build


@pytest.fixture
def camera() -> Camera:
    """65 x 49 pixels of 2 mm, 1020 mm from the source."""
    return Camera.from_detector(65, 49, 2.0, 1020.0)


@pytest.fixture
def water_cube(make_ct: Callable[..., CTVolume]) -> CTVolume:
    """100 mm of water, no air around it."""
    return make_ct(np.zeros((25, 50, 50)), (2.0, 2.0, 4.0))
