"""The messages of ~/markers, without a node."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from visualization_msgs.msg import Marker, MarkerArray

from xray_registration.geometry import Camera
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.markers import Beam, MarkerOrder, Scene
from xray_registration.ros.output_settings import MarkerSettings


@pytest.fixture
def patient() -> Any:
    """Two blocks of bone in a box of air."""
    hu = np.full((40, 40, 40), -1000, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    labels[5:15, 10:30, 10:30], labels[22:32, 10:30, 10:30] = 1, 2
    hu[labels > 0] = 600
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-40.0, 10.0, -300.0]
    names = {1: "vertebrae_T9", 2: "vertebrae_T8"}
    return SimpleNamespace(ct=CTVolume(hu, affine), labels=LabelMap(labels, affine, names))


def _markers(scene: Scene, order: MarkerOrder) -> list[Marker]:
    return deserialize_message(scene.markers(order), MarkerArray).markers


def _xyz(points: Any) -> np.ndarray:
    return np.array([[p.x, p.y, p.z] for p in points])


def test_everything_in_its_place_and_axes(patient: Any) -> None:
    pytest.importorskip("skimage")
    scene = Scene(patient, MarkerSettings(True, 200.0, 20000))
    plan = Trajectory("left", np.array([10.0, 60.0, -260.0]), np.array([5.0, 30.0, -262.0]))
    camera = Camera.from_detector(100, 50, 1.0, 1000.0)
    rig_from_camera = np.eye(4)
    rig_from_camera[:3, 3] = [0.0, 0.0, 200.0]
    beam = Beam("view_0", camera, rig_from_camera)
    orders = {
        axes: MarkerOrder(axes, "patient", ("*",), (plan,), "carm", (beam,))
        for axes in ("lps", "ras")
    }
    found = {axes: _markers(scene, order) for axes, order in orders.items()}
    for axes, sign in (("lps", 1.0), ("ras", -1.0)):
        by_space = {m.ns: m for m in found[axes]}
        bone = _xyz(by_space["bone"].points)
        # A block's faces lie half a voxel outside its outermost centres.
        low, high = np.array([-21.0, 29.0, -291.0]), np.array([19.0, 69.0, -237.0])
        expected = np.sort([sign * low[:2], sign * high[:2]], axis=0)
        np.testing.assert_allclose(bone.min(0)[:2], 1e-3 * expected[0], atol=1.5e-3)
        np.testing.assert_allclose(bone.max(0)[:2], 1e-3 * expected[1], atol=1.5e-3)
        np.testing.assert_allclose(
            [bone[:, 2].min(), bone[:, 2].max()], [-0.291, -0.237], atol=2e-3
        )
        names = {m.text: m for m in found[axes] if m.ns == "names"}
        assert set(names) == {"T8", "T9"}
        centre = _xyz([names["T8"].pose.position])[0]
        np.testing.assert_allclose(centre, [-sign * 0.001, sign * 0.049, -0.247], atol=1e-6)
        arrow = _xyz(by_space["plan"].points)
        np.testing.assert_allclose(arrow[1], [sign * 0.005, sign * 0.03, -0.262], atol=1e-9)
        assert by_space["plan names"].text == "left"
        edges = by_space["carm/view_0"]
        assert edges.header.frame_id == "carm"
    corners = _xyz(next(m for m in found["lps"] if m.ns == "carm/view_0").points)
    np.testing.assert_allclose(corners.min(0), [-0.05, -0.025, 0.2], atol=1e-9)
    np.testing.assert_allclose(corners.max(0), [0.05, 0.025, 1.2], atol=1e-9)
    # Every marker is another one to RViz.
    keys = [(m.ns, m.id) for m in found["lps"]]
    assert len(set(keys)) == len(keys)


def test_without_scikit_image_the_rest_is_shown(
    patient: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    scene = Scene(patient, MarkerSettings(True, 200.0, 20000))
    order = MarkerOrder("lps", "patient", ("vertebrae_*",), ())
    for _ in range(2):
        assert {m.ns for m in _markers(scene, order)} == {"names"}
    assert len(caplog.records) == 1
    assert "scikit-image" in caplog.text
