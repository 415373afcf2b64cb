"""The simulated C-arm follows joint_states: over real DDS, a moved joint is another picture."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.geometry.carm_kinematics import (
    CArmKinematics,
    root_from_patient,
    second_view_from_first,
)
from xray_registration.geometry.positioner import positioner_from_camera
from xray_registration.ros.carm_description import carm_description
from xray_registration.ros.carm_simulator import CArmSimulator
from xray_registration.ros.conversions import image_to_array
from xray_registration.ros.joint_shots import JointShots
from xray_registration.ros.pose_messages import matrix_from_pose, matrix_from_transform_message
from xray_registration.ros.simulated_views import TRUTH_QOS

pytest.importorskip("pytransform3d")
pytest.importorskip("xacro")

CAMERA = Camera.from_detector(8, 6, 2.0, 1020.0)


@pytest.fixture(scope="module")
def arm() -> CArmKinematics:
    return CArmKinematics(carm_description({}))


class Exposure:
    """A renderer that tells where it is asked to shoot, and waits until it may."""

    def __init__(self) -> None:
        self.poses: list[np.ndarray] = []
        self.may = threading.Event()
        self.began = threading.Event()

    def __call__(self, pose: np.ndarray, camera: Camera, seed: int) -> np.ndarray:
        self.poses.append(pose)
        self.began.set()
        assert self.may.wait(60.0)
        return np.full((camera.height, camera.width), seed, np.uint16)


def make_shots(arm: CArmKinematics, render: Any, **changes: Any) -> JointShots:
    values: dict[str, Any] = {
        "arm": arm,
        "root_from_ct": root_from_patient(arm.isocentre_mm(), (1.0, 2.0, 3.0)),
        "views": (np.eye(4),),
        "camera": CAMERA,
        "render": render,
        "seed": 7,
        "continuous": True,
    }
    return JointShots(**{**values, **changes})


def finished(shots: JointShots) -> Any:
    while shots._worker.busy:
        time.sleep(0.001)
    return shots.take()


def test_the_newest_joint_state_wins_and_none_queues_up(arm: CArmKinematics) -> None:
    exposure = Exposure()
    shots = make_shots(arm, exposure)
    assert shots.waiting_for == "waiting_for_joint_states"
    assert not shots.move({"robot_elbow_joint": 1.0}, 5)
    assert shots.waiting_for == "waiting_for_joint_states"
    assert shots.move({"carm_orbital_joint": 0.1}, 10)
    assert shots.begin()
    assert exposure.began.wait(60.0)
    # While that picture is being rendered the arm moves on a hundred times.
    for step in range(100):
        shots.move({"carm_orbital_joint": 0.1 + 0.001 * step}, 11 + step)
        assert not shots.begin()
    assert shots.take() is None
    exposure.may.set()
    assert finished(shots).stamp_ns == 10
    assert shots.begin()
    last = finished(shots)
    assert last.stamp_ns == 110
    assert last.images[0][0, 0] == 8  # noise of its own
    angles = [positioner_from_camera(pose, 700.0).primary_deg for pose in exposure.poses]
    np.testing.assert_allclose(np.radians(angles), [0.1, 0.199], atol=1e-9)
    assert shots.stop(60.0)


def test_only_after_a_movement(arm: CArmKinematics) -> None:
    exposure = Exposure()
    exposure.may.set()
    shots = make_shots(arm, exposure, continuous=False)
    shots.move({"carm_lift_joint": 0.1}, 1)
    assert shots.waiting_for == ""
    assert shots.begin()
    assert finished(shots) is not None
    shots.move({"carm_lift_joint": 0.1}, 2)
    assert shots.waiting_for == "waiting_for_movement"
    shots.move({"carm_lift_joint": 0.1, "carm_wigwag_joint": 0.01}, 3)
    assert shots.waiting_for == ""
    assert shots.stop(60.0)


def test_an_impossible_state_leaves_the_arm_where_it_was(arm: CArmKinematics) -> None:
    def fail(pose: np.ndarray, camera: Camera, seed: int) -> np.ndarray:
        raise InputError("the source is inside of the patient")

    shots = make_shots(arm, fail)
    shots.move({"carm_orbital_joint": 0.3}, 1)
    with pytest.raises(InputError, match="carm_orbital_joint"):
        shots.move({"carm_orbital_joint": 9.0, "carm_lift_joint": 0.2}, 2)
    assert shots.positions == {"carm_orbital_joint": 0.3}
    shots.begin()
    assert finished(shots) is None
    assert shots.problem == "the source is inside of the patient"
    assert shots.stop(60.0)


@pytest.fixture
def make_simulator(scene: Any, peer: Any) -> Iterator[Callable[..., CArmSimulator]]:
    made: list[CArmSimulator] = []

    def make(**changes: Any) -> CArmSimulator:
        values: dict[str, Any] = {
            "ct_path": str(scene.ct_path),
            "label_map_path": str(scene.label_path),
            "isocentre.labels": "vertebrae_T8",
            "camera.width": 96,
            "camera.height": 80,
            "camera.pixel_pitch_mm": [2.0, 2.0],
            "mode": "joint_states",
            "rate_hz": 50.0,
            "arm.continuous": False,
            "arm.publish_tf": True,
        }
        values.update({name.replace("__", "."): value for name, value in changes.items()})
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        node = CArmSimulator(parameter_overrides=overrides)
        made.append(node)
        peer.executor.add_node(node)
        return node

    yield make
    for node in made:
        peer.executor.remove_node(node)
        node.destroy_node()
    made.clear()
    gc.collect()


class Room:
    """Moves the arm over DDS and collects what the simulator and its arm publish."""

    def __init__(self, peer: Any, views: tuple[str, ...] = ("",)) -> None:
        from tf2_msgs.msg import TFMessage

        self.peer = peer
        self.images: dict[str, list[Image]] = {view: [] for view in views}
        self.infos: dict[str, list[CameraInfo]] = {view: [] for view in views}
        self.truths: list[Any] = []
        self.fixed: list[Any] = []
        self.descriptions: list[String] = []
        node, latched = peer.node, QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for view in views:
            node.create_subscription(Image, f"{view}image", self.images[view].append, 10)
            node.create_subscription(CameraInfo, f"{view}camera_info", self.infos[view].append, 10)
        from geometry_msgs.msg import PoseStamped

        node.create_subscription(PoseStamped, "ground_truth/pose", self.truths.append, TRUTH_QOS)
        node.create_subscription(
            TFMessage, "/tf_static", lambda m: self.fixed.extend(m.transforms), latched
        )
        node.create_subscription(String, "robot_description", self.descriptions.append, latched)
        self._joints = node.create_publisher(JointState, "joint_states", 10)

    def move(self, stamp_s: int, **positions: float) -> None:
        """Publish one joint state with this stamp."""
        from builtin_interfaces.msg import Time

        self.peer.spin_until(lambda: self._joints.get_subscription_count() > 0, "the simulator")
        message = JointState(name=list(positions), position=list(positions.values()))
        message.header.stamp = Time(sec=stamp_s)
        self._joints.publish(message)

    def shots(self) -> int:
        """Complete shots so far."""
        return min(map(len, (*self.images.values(), *self.infos.values(), self.truths)))


@pytest.mark.ros
def test_moving_a_joint_moves_the_picture(
    peer: Any, make_simulator: Callable[..., CArmSimulator], arm: CArmKinematics
) -> None:
    room = Room(peer)
    node = make_simulator()
    room.move(2000, carm_orbital_joint=0.0)
    peer.spin_until(lambda: room.shots() == 1, "the first picture")
    # Lateral, and 40 mm up: by hand, the isocentre is 40 mm below the beam's middle.
    room.move(2001, carm_orbital_joint=np.pi / 2, carm_lift_joint=0.04, somebody_elses_joint=5.0)
    peer.spin_until(lambda: room.shots() == 2, "the second picture")
    room.move(2002, carm_orbital_joint=0.0, carm_lift_joint=0.0)
    peer.spin_until(lambda: room.shots() == 3, "the third picture")

    # The stamp says when the arm stood so.
    images = room.images[""]
    assert [image.header.stamp.sec for image in images] == [2000, 2001, 2002]
    assert [truth.header for truth in room.truths] == [image.header for image in images]
    assert {image.header.frame_id for image in images} == {"carm_source_optical_frame"}
    pictures = [np.log(image_to_array(image).astype(float) + 1.0).ravel() for image in images]
    ap, lateral, again = pictures
    assert np.corrcoef(ap, again)[0, 1] > 0.98
    assert np.corrcoef(ap, lateral)[0, 1] < 0.9

    poses = [matrix_from_pose(truth.pose, "lps", "truth") for truth in room.truths]
    isocentre = positioner_from_camera(poses[0], 700.0).isocentre_lps_mm
    angles = positioner_from_camera(poses[1], 700.0)
    assert angles.primary_deg == pytest.approx(90.0, abs=1e-6)
    assert angles.roll_deg == pytest.approx(0.0, abs=1e-6)
    # Rows grow towards the feet, columns upwards (anterior): 40 mm lower is at smaller x.
    camera = (poses[1] @ np.array([*isocentre, 1.0]))[:3]
    np.testing.assert_allclose(camera, [-40.0, 0.0, 700.0], atol=1e-6)
    assert node._joints is not None
    assert node._joints.problem == ""


@pytest.mark.ros
def test_an_orbit_is_registered_from_pose_to_pose(
    scene: Any,
    peer: Any,
    make_simulator: Callable[..., CArmSimulator],
    make_node: Callable[..., Any],
) -> None:
    """Joints move the arm; every picture starts from the pose of the one before."""
    room = Room(peer)
    make_node(
        camera__sdd_mm=1020.0,
        image__i0=60000.0,
        start__source="carm",
        start__carm__primary_deg=-10.0,
        start__carm__secondary_deg=2.0,
        start__carm__source_isocentre_mm=705.0,
    )
    make_simulator(
        camera__width=256,
        camera__height=256,
        camera__pixel_pitch_mm=[1.0, 1.0],
        arm__publish_tf=False,
    )
    for number in range(4):
        positions = {
            "carm_orbital_joint": np.radians(-12.0 + 5.0 * number),
            "carm_angular_joint": np.radians(2.0 * number),
            "carm_lift_joint": 0.005 * number,
        }
        room.move(2000 + number, **positions)
        peer.spin_until(lambda n=number: len(peer.results) > n, f"result {number}")
        peer.spin_until(lambda n=number: len(peer.transforms) > n, f"transform {number}")
    assert [r["start_source"] for r in peer.results] == ["parameter", *["previous"] * 3]
    assert [r["reason"] for r in peer.results] == ["accepted"] * 4
    points = np.c_[scene.targets_lps_mm, np.ones(len(scene.targets_lps_mm))]
    for edge, truth in zip(peer.transforms, room.truths, strict=True):
        assert edge.header == truth.header
        found = matrix_from_transform_message(edge.transform, "lps", "/tf")
        true = matrix_from_pose(truth.pose, "lps", "truth")
        assert np.linalg.norm((points @ (found - true).T)[:, :3], axis=1).mean() < 2.0


@pytest.mark.ros
def test_the_arm_is_on_tf_and_says_what_it_is(
    peer: Any, make_simulator: Callable[..., CArmSimulator], arm: CArmKinematics
) -> None:
    room = Room(peer)
    make_simulator()
    peer.spin_until(lambda: room.fixed and room.descriptions, "the arm's description")
    positions = {"carm_orbital_joint": 0.5, "carm_angular_joint": -0.2, "carm_lift_joint": 0.1}
    room.move(2000, **positions)
    peer.spin_until(lambda: len(peer.transforms) >= 5, "the arm's moving links")
    edges = {t.child_frame_id: t for t in (*room.fixed, *peer.transforms)}
    assert {t.header.stamp.sec for t in peer.transforms} == {2000}
    frame, chain = "carm_source_optical_frame", np.eye(4)
    while frame in edges:
        edge = matrix_from_transform_message(edges[frame].transform, "lps", "/tf")
        chain = edge @ chain
        frame = edges[frame].header.frame_id
    assert frame == "world"
    np.testing.assert_allclose(chain, arm.root_from(arm.optical_frame, positions), atol=1e-6)
    heard = CArmKinematics(room.descriptions[0].data)
    assert heard.joints == arm.joints


@pytest.mark.ros
def test_a_wrong_joint_state_is_reported(
    peer: Any, make_simulator: Callable[..., CArmSimulator]
) -> None:
    room = Room(peer)
    node = make_simulator()
    listener = node._joints
    assert listener is not None
    for positions, words in (
        ({"carm_orbital_joint": 5.0}, "carm_orbital_joint' is at 5 rad"),
        ({"carm_lift_joint": float("nan")}, "carm_lift_joint' is at nan"),
    ):
        room.move(2000, **positions)
        peer.spin_until(lambda words=words: words in listener.problem, words)
    assert room.shots() == 0
    room.move(2001, carm_orbital_joint=0.5)
    peer.spin_until(lambda: room.shots() == 1, "a picture")
    assert listener.problem == ""


@pytest.mark.ros
def test_two_views_at_one_moment(peer: Any, make_simulator: Callable[..., CArmSimulator]) -> None:
    room = Room(peer, ("view_0/", "view_1/"))
    make_simulator(biplane__angle_deg=80.0, arm__publish_tf=False)
    room.move(2000, carm_orbital_joint=-0.2)
    peer.spin_until(lambda: room.shots() == 1, "both pictures")
    first, second = (room.images[view][0] for view in ("view_0/", "view_1/"))
    assert first.header.stamp == second.header.stamp == room.truths[0].header.stamp
    assert first.header.frame_id == "carm_source_optical_frame"
    assert second.header.frame_id == "carm_view_1_optical_frame"
    assert room.infos["view_1/"][0].header == second.header
    assert first.data != second.data
    # The second camera's place is on /tf_static.
    peer.spin_until(lambda: room.fixed, "fixed links")
    (edge,) = [t for t in room.fixed if t.child_frame_id == "carm_view_1_optical_frame"]
    first_from_second = matrix_from_transform_message(edge.transform, "lps", "/tf_static")
    expected = np.linalg.inv(second_view_from_first(80.0, 700.0))
    np.testing.assert_allclose(first_from_second, expected, atol=1e-6)


@pytest.mark.ros
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camera__source_isocentre_mm": 650.0, "robot_description": "shipped"}, "650.*700"),
        ({"camera__sdd_mm": 1000.0, "robot_description": "shipped"}, "1000.*1020"),
        ({"frame_id": "camera"}, "'camera'.*carm_source_optical_frame"),
        ({"arm__prefix": "left_", "robot_description": "shipped"}, "left_source_optical_frame"),
        ({"patient__position_m": [1.0]}, "patient.position_m"),
        ({"biplane__angle_deg": 90.0, "biplane__frame_id": "carm_source_optical_frame"}, "two"),
    ],
)
def test_unusable_parameters(
    make_simulator: Callable[..., CArmSimulator], changes: dict[str, Any], words: str
) -> None:
    if changes.get("robot_description") == "shipped":
        changes = {**changes, "robot_description": carm_description({})}
    with pytest.raises(InputError, match=words):
        make_simulator(**changes)
