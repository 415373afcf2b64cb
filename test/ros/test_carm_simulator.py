"""The C-arm simulator: arc, images, truth, lock-step; and with the registration node."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.geometry.positioner import positioner_from_camera
from xray_registration.ros.carm_simulator import CArmSimulator
from xray_registration.ros.conversions import camera_from_message, image_to_array
from xray_registration.ros.pose_messages import matrix_from_pose, matrix_from_transform_message
from xray_registration.ros.qos import LATCHED
from xray_registration.ros.rendered_sweep import RenderedSweep, SweepPlan
from xray_registration.ros.shots import SweepShots
from xray_registration.ros.simulator_settings import Sweep


def test_arc_turns_about_the_isocentre_in_equal_steps() -> None:
    isocentre = np.array([5.0, -60.0, 130.0])
    poses = Sweep((-20.0, 10.0), (0.0, 6.0), 4, 700.0).poses(isocentre)
    angles = []
    for pose in poses:
        np.testing.assert_allclose(pose[:3, :3] @ isocentre + pose[:3, 3], [0, 0, 700], atol=1e-9)
        angles.append(positioner_from_camera(pose, 700.0))
    np.testing.assert_allclose([a.primary_deg for a in angles], [-20, -10, 0, 10], atol=1e-9)
    np.testing.assert_allclose([a.secondary_deg for a in angles], [0, 2, 4, 6], atol=1e-9)
    # LAO: the detector moves to the patient's left (+x in LPS); the camera looks at it.
    beam = poses[-1][2, :3]
    assert beam[0] > 0.1


def _plan(**changes: Any) -> SweepPlan:
    values: dict[str, Any] = {
        "poses": [np.eye(4), 2 * np.eye(4)],
        "camera": Camera.from_detector(8, 6, 1.0, 1000.0),
        "seed": 3,
        "patient": {"ct": "abc"},
    }
    return SweepPlan(**{**values, **changes})


def _wait(sweep: RenderedSweep) -> None:
    sweep._thread.join(60.0)


def test_sweep_is_rendered_once_and_kept_on_disk(tmp_path: Path) -> None:
    calls: list[int] = []

    def render(pose: np.ndarray, camera: Camera, seed: int) -> np.ndarray:
        calls.append(seed)
        return np.full((camera.height, camera.width), seed * pose[0, 0], np.uint16)

    for _ in range(2):
        sweep = RenderedSweep(_plan(), render, tmp_path / "cache")
        _wait(sweep)
        assert sweep.ready == len(sweep) == 2
        assert sweep.image(1).tolist() == np.full((6, 8), 8).tolist()
    assert calls == [3, 4]

    # Something that changes the pixels changes the key; a spoiled file is rendered again.
    for plan in (_plan(seed=4), _plan(patient={"ct": "abd"})):
        assert plan.key() != _plan().key()
    (tmp_path / "cache" / _plan().key() / "0001.npy").write_bytes(b"\x93NUMPY")
    sweep = RenderedSweep(_plan(), render, tmp_path / "cache")
    _wait(sweep)
    assert sweep.ready == 2
    assert calls == [3, 4, 4]


def test_sweep_hands_on_what_rendering_raised_and_stops() -> None:
    def fail(pose: np.ndarray, camera: Camera, seed: int) -> np.ndarray:
        raise InputError("no such ray")

    sweep = RenderedSweep(_plan(), fail)
    _wait(sweep)
    with pytest.raises(InputError, match="no such ray"):
        _ = sweep.ready

    started, go_on = threading.Event(), threading.Event()

    def slow(pose: np.ndarray, camera: Camera, seed: int) -> np.ndarray:
        started.set()
        go_on.wait(60.0)
        return np.zeros((6, 8), np.uint16)

    sweep = RenderedSweep(_plan(), slow)
    started.wait(60.0)
    sweep.stop(timeout_s=0.0)
    go_on.set()
    sweep.stop(timeout_s=60.0)
    assert sweep.ready == 1


def test_shots_of_two_views_come_in_pairs() -> None:
    def render(pose: np.ndarray, camera: Camera, seed: int) -> np.ndarray:
        return np.full((camera.height, camera.width), seed, np.uint16)

    poses = [factor * np.eye(4) for factor in (1.0, 2.0, 3.0, 4.0)]
    sweep = RenderedSweep(_plan(poses=poses), render)
    _wait(sweep)
    shots = SweepShots(sweep, poses, views=2, prerender=True, loop=False)
    assert shots.counts == {"frames_rendered": 2, "frames": 2}
    for seeds, factors in (((3, 4), (1.0, 2.0)), ((5, 6), (3.0, 4.0))):
        assert not shots.is_done
        assert shots.begin()
        shot = shots.take()
        assert shot is not None
        assert tuple(image[0, 0] for image in shot.images) == seeds
        assert tuple(pose[0, 0] for pose in shot.poses) == factors
        assert shot.stamp_ns is None
    assert shots.is_done
    assert not shots.begin()


@pytest.fixture
def make_simulator(scene: Any, peer: Any) -> Iterator[Callable[..., CArmSimulator]]:
    """Builds simulators of the scene, spun by the peer's executor."""
    made: list[CArmSimulator] = []

    def make(**changes: Any) -> CArmSimulator:
        values: dict[str, Any] = {
            "ct_path": str(scene.ct_path),
            "label_map_path": str(scene.label_path),
            "isocentre.labels": "vertebrae_T8",
            "camera.width": 96,
            "camera.height": 80,
            "camera.pixel_pitch_mm": [2.0, 2.0],
            "sweep.frames": 3,
            "rate_hz": 50.0,
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


class Listener:
    """Collects what the simulator publishes."""

    def __init__(self, peer: Any) -> None:
        self.images: list[Image] = []
        self.infos: list[CameraInfo] = []
        self.truths: list[PoseStamped] = []
        peer.node.create_subscription(Image, "image", self.images.append, 10)
        peer.node.create_subscription(CameraInfo, "camera_info", self.infos.append, 10)
        peer.node.create_subscription(PoseStamped, "ground_truth/pose", self.truths.append, LATCHED)

    def count(self) -> int:
        return min(len(self.images), len(self.infos), len(self.truths))


@pytest.mark.ros
def test_images_info_and_truth_belong_together(
    scene: Any, peer: Any, make_simulator: Callable[..., CArmSimulator]
) -> None:
    node = make_simulator(ct_axes="ras")
    # Nobody listens yet: nothing is sent, however long it takes.
    peer.spin_until(lambda: node._state == "waiting_for_subscribers", "rendered sweep")
    peer.spin_for(0.3)
    assert node._sent == 0
    listener = Listener(peer)
    peer.spin_until(lambda: listener.count() == 3 and node.is_done, "3 images")
    stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in listener.images]
    assert stamps == sorted(set(stamps))
    for messages in (listener.infos, listener.truths):
        assert [m.header for m in messages] == [m.header for m in listener.images]

    info, image = listener.infos[0], listener.images[0]
    assert image.encoding == "mono16"
    assert camera_from_message(info, image_size=(96, 80), sdd_mm=1020.0) == Camera.from_detector(
        96, 80, 2.0, 1020.0
    )
    # The truth is the truth: an independent projector sees the same picture from there, and a
    # less similar one from 5 mm beside it.
    true_pose = matrix_from_pose(listener.truths[0].pose, "ras", "truth")
    moved = true_pose.copy()
    moved[0, 3] += 5.0
    lines = -np.log(image_to_array(image).astype(float).clip(1) / 60000.0)
    right, wrong = (_correlation(scene, pose, lines) for pose in (true_pose, moved))
    assert right > 0.9
    assert right > wrong + 0.02


def _correlation(scene: Any, camera_from_ct: np.ndarray, lines: np.ndarray) -> float:
    import torch

    from xray_registration.imaging.volume import load_ct
    from xray_registration.rendering import AttenuationVolume, JosephProjector

    volume = AttenuationVolume.from_ct(load_ct(scene.ct_path))
    projector = JosephProjector(volume, scene.isocentre_lps_mm)
    camera = Camera.from_detector(96, 80, 2.0, 1020.0)
    with torch.no_grad():
        image = projector.image(torch.from_numpy(camera_from_ct)[None], camera)[0].numpy()
    gradients = [np.concatenate([g.ravel() for g in np.gradient(i)]) for i in (image, lines)]
    return float(np.corrcoef(*gradients)[0, 1])


@pytest.mark.ros
def test_lock_step_waits_for_the_report(
    peer: Any, make_simulator: Callable[..., CArmSimulator]
) -> None:
    listener = Listener(peer)
    node = make_simulator(lock_step=True, sweep__loop=True, sweep__frames=2)
    diagnostics = peer.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    peer.spin_until(lambda: listener.count() == 1, "the first image")
    peer.spin_for(0.5)
    assert len(listener.images) == 1

    def report(stamp: str) -> None:
        values = [KeyValue(key="image_stamp", value=stamp)]
        status = DiagnosticStatus(name="some node: registration", values=values)
        diagnostics.publish(DiagnosticArray(status=[status]))

    report("1.000000000")  # of another image
    peer.spin_for(0.3)
    assert len(listener.images) == 1
    stamp = listener.images[0].header.stamp
    report(f"{stamp.sec}.{stamp.nanosec:09d}")
    peer.spin_until(lambda: listener.count() == 2, "the second image")
    assert [node._shots.frame_index(n) for n in range(6)] == [0, 1, 0, 1, 0, 1]


@pytest.mark.ros
def test_lock_step_goes_on_after_its_timeout(
    peer: Any, make_simulator: Callable[..., CArmSimulator]
) -> None:
    listener = Listener(peer)
    node = make_simulator(lock_step=True, lock_step_timeout_s=0.2, sweep__frames=2)
    peer.spin_until(lambda: node.is_done, "the end of the sweep")
    peer.spin_until(lambda: listener.count() == 2, "2 images")


@pytest.mark.ros
def test_simulated_sweep_is_registered_frame_by_frame(
    scene: Any,
    peer: Any,
    make_simulator: Callable[..., CArmSimulator],
    make_node: Callable[..., Any],
) -> None:
    """Two nodes over DDS: every image registered, each within 2 mm of the true pose."""
    listener = Listener(peer)
    make_node(
        camera__sdd_mm=1020.0,
        image__i0=60000.0,
        start__source="carm",
        start__carm__primary_deg=-4.0,
        start__carm__secondary_deg=2.0,
        start__carm__source_isocentre_mm=705.0,
    )
    make_simulator(
        lock_step=True,
        camera__width=256,
        camera__height=256,
        camera__pixel_pitch_mm=[1.0, 1.0],
        sweep__primary_deg=[-6.0, 0.0],
    )
    peer.spin_until(lambda: len(peer.results) == 3, "3 registered images")
    peer.spin_until(lambda: listener.count() == 3, "3 true poses")
    assert [r["reason"] for r in peer.results] == ["accepted"] * 3
    peer.spin_until(lambda: len(peer.transforms) == 3, "3 transforms")
    points = np.c_[scene.targets_lps_mm, np.ones(len(scene.targets_lps_mm))]
    for edge, truth in zip(peer.transforms, listener.truths, strict=True):
        assert edge.header == truth.header
        found = matrix_from_transform_message(edge.transform, "lps", "/tf")
        true = matrix_from_pose(truth.pose, "lps", "truth")
        assert np.linalg.norm((points @ (found - true).T)[:, :3], axis=1).mean() < 2.0


@pytest.mark.ros
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ct_path": "/nowhere.nii"}, "/nowhere.nii"),
        ({"isocentre__labels": "vertebrae_X1"}, "vertebrae_X1"),
        ({"sweep__primary_deg": [0.0, 200.0]}, "200"),
        ({"camera__pixel_pitch_mm": [0.0, 1.0]}, "pixel_pitch_mm"),
        ({"xray__config_path": "/nowhere.yaml"}, "/nowhere.yaml"),
    ],
)
def test_unusable_parameters(
    make_simulator: Callable[..., CArmSimulator], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        make_simulator(**changes)
