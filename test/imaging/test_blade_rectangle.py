"""The open rectangle among straight edges: from corner to corner, and not beyond."""

from __future__ import annotations

import numpy as np

from xray_registration.imaging.blade_lines import LightPicture, straight_edges
from xray_registration.imaging.blade_rectangle import open_rectangle

SIZE = 200


def picture(light: np.ndarray) -> LightPicture:
    noisy = light + np.random.default_rng(3).normal(0.0, 0.01, light.shape)
    found = LightPicture.of(noisy, 1, counts=False)
    assert found is not None
    return found


def rectangle_of(light: np.ndarray) -> list[np.ndarray]:
    seen = picture(light)
    return open_rectangle(seen, straight_edges(seen, 20))


def turned() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIZE, :SIZE].astype(float) - SIZE / 2
    angle = np.radians(20.0)
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def test_four_sides_are_told_from_parallel_edges_in_the_field() -> None:
    u, v = turned()
    field = (np.abs(u) < 50) & (np.abs(v) < 60)
    light = field * (0.6 + 0.4 * (u < 20))  # lighter on the one side of a straight edge
    planes = rectangle_of(light)
    assert len(planes) == 4
    inside = np.all([p[:2] @ np.moveaxis(indices(), 0, -2) + p[2] <= 0 for p in planes], axis=0)
    assert np.mean(inside != field) < 0.02


def test_a_light_band_across_the_picture_has_no_corners() -> None:
    u, v = turned()
    assert rectangle_of(1.0 * (np.abs(u) < 50)) == []
    # nor is it made of bands that cross
    assert rectangle_of(1.0 * (np.abs(u) < 30) + 1.0 * (np.abs(v) < 30)) == []


def test_a_darker_rectangle_is_no_open_field() -> None:
    u, v = turned()
    assert rectangle_of(1.0 - ((np.abs(u) < 50) & (np.abs(v) < 60))) == []


def indices() -> np.ndarray:
    """(2, H, W) x and y of the pixels."""
    return np.mgrid[:SIZE, :SIZE][::-1].astype(float)
