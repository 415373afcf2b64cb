from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from xray_registration.errors import InputError
from xray_registration.geometry import converters
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.converters import DetectorGeometry

Array = NDArray[np.float64]


def poses(n: int = 20) -> list[Array]:
    generator = np.random.default_rng(11)
    result = []
    for rotation in Rotation.random(n, random_state=12):
        matrix = np.eye(4)
        matrix[:3, :3] = rotation.as_matrix()
        matrix[:3, 3] = generator.normal(0, 500, 3)
        result.append(matrix)
    return result


def test_rt_round_trip() -> None:
    for pose in poses():
        rotation, translation = converters.rt_from_matrix(pose)
        np.testing.assert_allclose(converters.matrix_from_rt(rotation, translation), pose)
        rvec = Rotation.from_matrix(rotation).as_rotvec()[:, None]  # OpenCV's columns
        again = converters.matrix_from_rt(rvec, translation[:, None])
        np.testing.assert_allclose(again, pose, atol=1e-12)


def test_opencv_round_trip() -> None:
    camera = Camera(
        np.array([[6167.0, 0.5, 803.7], [0, 6165, 865.7], [0, 0, 1]]), 1760, 1700, 990.0
    )
    for pose in poses():
        k, rotation, translation = converters.opencv_from_camera(camera, pose)
        again, pose_again = converters.camera_from_opencv(
            k, rotation, translation, (1760, 1700), 990.0
        )
        assert again == camera
        np.testing.assert_allclose(pose_again, pose, atol=1e-12)


def test_opencv_projects_as_opencv() -> None:
    camera, camera_from_world = converters.camera_from_opencv(
        [[100, 0, 10], [0, 200, 20], [0, 0, 1]], np.eye(3), [1.0, 2.0, 10.0], (50, 60)
    )
    point = camera_from_world @ [4.0, 3.0, 0.0, 1.0]
    np.testing.assert_allclose(camera.project(point[:3]), [100 * 0.5 + 10, 200 * 0.5 + 20])


def test_real_calibration(shared_data: Path) -> None:
    """Two calibrated cameras of a biplane laboratory."""
    for number in (1, 2):
        text = (shared_data / "wrist" / f"xr_calib_wrist_cam0{number}.txt").read_text()
        numbers = [
            [float(x) for x in line.split(",")]
            for line in text.splitlines()
            if line[:1] in "-0123456789" and line
        ]
        size, k, rotation, translation = numbers[0], numbers[1:4], numbers[4:7], numbers[7:10]
        camera, camera_from_world = converters.camera_from_opencv(
            k, rotation, np.array(translation), (int(size[0]), int(size[1]))
        )
        np.testing.assert_allclose(camera_from_world[:3, :3], rotation, atol=1e-9)
        assert (camera.width, camera.height) == (1760, 1760)


# --- source and detector -------------------------------------------------------------------------


def test_detector_round_trip() -> None:
    camera = Camera.from_detector(640, 480, (0.2, 0.31), 1020.0, cx=310.25, cy=-12.0)
    for pose in poses():
        geometry = converters.detector_from_camera(camera, pose)
        again, pose_again = converters.camera_from_detector(geometry)
        np.testing.assert_allclose(again.K, camera.K, rtol=1e-10)
        assert again.sdd_mm == pytest.approx(1020.0, rel=1e-12)
        assert (again.width, again.height) == (640, 480)
        np.testing.assert_allclose(pose_again, pose, atol=1e-9)


def test_detector_pixels_are_where_they_are_said_to_be() -> None:
    """Pixel (u, v) lies at origin + u pitch u_axis + v pitch v_axis: project it and find (u, v)."""
    axes = Rotation.from_rotvec([0.4, 1.0, -0.3]).as_matrix()
    geometry = DetectorGeometry(
        source_world=np.array([100.0, -700.0, 20.0]),
        origin_world=np.array([100.0, -700.0, 20.0]) + axes @ [-30.0, -40.0, 990.0],
        u_axis_world=axes[:, 0],
        v_axis_world=axes[:, 1],
        pixel_pitch_mm=(0.3, 0.4),
        width=200,
        height=100,
    )
    camera, camera_from_world = converters.camera_from_detector(geometry)
    for u, v in [(0, 0), (199, 0), (0, 99), (17, 55)]:
        pixel = (
            geometry.origin_world
            + u * 0.3 * geometry.u_axis_world
            + v * 0.4 * geometry.v_axis_world
        )
        halfway = 0.5 * (pixel + geometry.source_world)
        for point in (pixel, halfway):
            in_camera = camera_from_world[:3, :3] @ point + camera_from_world[:3, 3]
            np.testing.assert_allclose(camera.project(in_camera), [u, v], atol=1e-9)
    assert camera.sdd_mm == pytest.approx(990.0)
    assert (camera.cx, camera.cy) == pytest.approx((100.0, 100.0))


GEOMETRY = DetectorGeometry(
    source_world=np.array([0.0, 0.0, -1000.0]),
    origin_world=np.array([-100.0, -100.0, 0.0]),
    u_axis_world=np.array([1.0, 0.0, 0.0]),
    v_axis_world=np.array([0.0, 1.0, 0.0]),
    pixel_pitch_mm=(0.5, 0.5),
    width=400,
    height=400,
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u_axis_world": np.array([-1.0, 0, 0])}, "from behind the detector.*flip_horizontal"),
        ({"u_axis_world": np.array([0.5, 0, 0])}, "has length 0.5; expected a unit vector"),
        ({"u_axis_world": np.array([0.6, 0.8, 0])}, "not perpendicular"),
        ({"source_world": np.array([0.0, 0.0, 0.0])}, "in the plane of the detector"),
        ({"source_world": np.array([0.0, np.nan, 0.0])}, "source_world.*finite"),
        ({"origin_world": np.array([0.0, 0.0])}, "origin_world: shape"),
        ({"pixel_pitch_mm": (0.5, 0.0)}, "pixel_pitch_mm"),
        ({"width": 0}, "width"),
    ],
)
def test_bad_detectors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        converters.camera_from_detector(replace(GEOMETRY, **change))


def test_detector_needs_distance_and_no_skew() -> None:
    with pytest.raises(InputError, match="no sdd_mm"):
        converters.detector_from_camera(Camera(np.diag([9.0, 9, 1]), 4, 4), np.eye(4))
    k = np.array([[9.0, 1.0, 0], [0, 9, 0], [0, 0, 1]])
    with pytest.raises(InputError, match="skew 1"):
        converters.detector_from_camera(Camera(k, 4, 4, 1000.0), np.eye(4))


# --- quaternions ---------------------------------------------------------------------------------


def test_quaternion_order_is_xyzw() -> None:
    np.testing.assert_allclose(converters.quaternion_from_rotation(np.eye(3)), [0, 0, 0, 1])
    quarter = np.sqrt(0.5)
    rotation = converters.rotation_from_quaternion([0, 0, quarter, quarter])
    np.testing.assert_allclose(rotation @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_quaternion_round_trip() -> None:
    for pose in poses():
        q = converters.quaternion_from_rotation(pose[:3, :3])
        assert q[3] >= 0
        np.testing.assert_allclose(converters.rotation_from_quaternion(q), pose[:3, :3], atol=1e-14)
        np.testing.assert_allclose(
            converters.rotation_from_quaternion(-q), pose[:3, :3], atol=1e-14
        )


def test_transform_round_trip_is_in_metres() -> None:
    for pose in poses():
        translation_m, q = converters.transform_from_matrix(pose)
        np.testing.assert_allclose(translation_m * 1000, pose[:3, 3])
        np.testing.assert_allclose(converters.matrix_from_transform(translation_m, q), pose)


@pytest.mark.parametrize(
    ("quaternion", "message"),
    [
        (
            [0, 0, 0, 0],
            r"length 0; expected a unit quaternion \(x, y, z, w\); it was probably never",
        ),
        ([0, 0, 0, 2], "length 2"),
        ([0, 0, np.nan, 1], "finite"),
        ([0, 0, 1], r"shape \(3,\); expected 4 numbers x, y, z, w"),
        ("abcd", "not numeric"),
    ],
)
def test_bad_quaternions(quaternion: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        converters.matrix_from_transform([0, 0, 0], quaternion, "/initialpose")
    assert str(caught.value).startswith("/initialpose: rotation")


def test_bad_poses_are_named() -> None:
    with pytest.raises(InputError, match=r"initial: .*mirrored"):
        converters.matrix_from_rt(np.diag([1, 1, -1]), [0, 0, 0], "initial")
    with pytest.raises(InputError, match=r"initial: translation.*finite"):
        converters.matrix_from_rt(np.eye(3), [0, np.inf, 0], "initial")
    with pytest.raises(InputError, match=r"initial: translation has shape \(2,\)"):
        converters.matrix_from_rt(np.eye(3), [0, 0], "initial")
    with pytest.raises(InputError, match=r"initial: rotation has shape \(2, 2\)"):
        converters.matrix_from_rt(np.eye(2), [0, 0, 0], "initial")
    with pytest.raises(InputError, match=r"/initialpose: translation: .*finite"):
        converters.matrix_from_transform([np.nan, 0, 0], [0, 0, 0, 1], "/initialpose")
