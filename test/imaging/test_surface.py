"""The surface of bone: closed, in its place, turned outside, no larger than allowed."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.surface import Surface, bone_surface
from xray_registration.imaging.volume import CTVolume

pytest.importorskip("skimage")

CENTRE, RADIUS = np.array([10.0, -20.0, 30.0]), 30.0
AXES = {
    "LPS": np.diag([1.0, 1.0, 2.0, 1.0]),
    "LAS": np.diag([1.0, -1.0, 2.0, 1.0]),
    "RAS": np.diag([-1.0, -1.0, 2.0, 1.0]),
}


def _ball(axes: str) -> CTVolume:
    """A ball of bone in a box of soft tissue, 100 mm wide, about CENTRE."""
    affine = AXES[axes].copy()
    affine[:3, 3] = CENTRE - affine[:3, :3] @ [49.5, 49.5, 24.5]
    kji = np.indices((50, 100, 100)).reshape(3, -1)
    points = kji[::-1].T @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(points - CENTRE, axis=1) < RADIUS
    hu = np.where(inside, 700, 40).reshape(50, 100, 100).astype(np.int16)
    return CTVolume(hu, affine)


def _volume_ml(surface: Surface) -> float:
    a, b, c = surface.vertices_lps_mm[surface.triangles.T]
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6000.0)


@pytest.mark.parametrize("axes", list(AXES))
def test_a_ball(axes: str) -> None:
    surface = bone_surface(_ball(axes), 300.0, 20000)
    radii = np.linalg.norm(surface.vertices_lps_mm - CENTRE, axis=1)
    assert abs(radii.mean() - RADIUS) < 0.7
    assert radii.std() < 0.6
    # Positive: the triangles turn counter-clockwise as seen from outside.
    assert _volume_ml(surface) == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.07)
    # Closed: every edge belongs to two triangles, once in each direction.
    edges = np.concatenate([surface.triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    forth = {tuple(edge) for edge in edges.tolist()}
    assert len(forth) == len(edges)
    assert {(b, a) for a, b in forth} == forth


def test_coarsened_until_the_triangles_suffice() -> None:
    surface = bone_surface(_ball("LPS"), 300.0, 500)
    assert 100 < len(surface.triangles) <= 500
    assert _volume_ml(surface) == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.3)


def test_named_structures_are_the_bone() -> None:
    """Contrast medium as bright as bone is not shown; a label without a name counts for nothing."""
    ct = _ball("LPS")
    labels = np.zeros(ct.hu.shape, np.uint8)
    labels[20:30, 40:60, 40:60] = 1
    labels[2:6, 2:6, 2:6] = 2
    surface = bone_surface(ct, 300.0, 20000, LabelMap(labels, ct.lps_from_index, {1: "cube"}))
    low, high = surface.vertices_lps_mm.min(0), surface.vertices_lps_mm.max(0)
    np.testing.assert_allclose((low + high) / 2, CENTRE, atol=0.2)
    np.testing.assert_allclose(high - low, 20.0, atol=1.5)
    unnamed = LabelMap(labels, ct.lps_from_index, {})
    assert _volume_ml(bone_surface(ct, 300.0, 20000, unnamed)) > 100


def test_no_bone() -> None:
    ct = CTVolume(np.zeros((10, 10, 10), np.int16), np.eye(4))
    with pytest.raises(InputError, match="300 HU"):
        bone_surface(ct, 300.0, 1000)
