"""A small real scene and a peer node that talks to the nodes over real DDS."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xray_registration.geometry import Camera, se3
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner

LEVELS = ("vertebrae_T7", "vertebrae_T8", "vertebrae_T9")
FRAME = "carm_source_optical_frame"
TIMEOUT_S = 60.0


@dataclass(frozen=True, eq=False)
class Scene:
    """The example CT at half its in-plane resolution, in files, and a radiograph of it.

    ``camera_from_ct`` is the true pose, LPS mm.
    """

    ct_path: Path
    label_path: Path
    camera: Camera
    camera_from_ct: np.ndarray
    isocentre_lps_mm: np.ndarray
    targets_lps_mm: np.ndarray
    raw: np.ndarray

    def start(self, millimetres: float = 3.0, radians: float = 0.02) -> np.ndarray:
        """The true pose moved by about 5 mm and 2 degrees about the isocentre."""
        xi = torch.tensor([millimetres] * 3 + [radians] * 3, dtype=torch.float64)
        return se3.left_increment(
            torch.from_numpy(self.camera_from_ct), xi, torch.from_numpy(self.isocentre_lps_mm)
        ).numpy()

    def mtre_mm(self, camera_from_ct: np.ndarray) -> float:
        """Mean distance of the targets under a pose and the true one."""
        points = np.c_[self.targets_lps_mm, np.ones(len(self.targets_lps_mm))]
        difference = (points @ (camera_from_ct - self.camera_from_ct).T)[:, :3]
        return float(np.linalg.norm(difference, axis=1).mean())


@pytest.fixture(scope="session")
def scene(
    tmp_path_factory: pytest.TempPathFactory, example_ct_file: Path, example_label_file: Path
) -> Scene:
    """The example CT with every other column and row: real anatomy, loaded in half a second.

    Not a part cut out of it: a patient without sides is hard to tell from the air around him.
    """
    sitk = pytest.importorskip("SimpleITK")
    from xray_registration.imaging.labels import load_label_map
    from xray_registration.imaging.volume import load_ct
    from xray_registration.rendering import AttenuationVolume, JosephProjector

    folder = tmp_path_factory.mktemp("scene")
    paths = []
    for source in (example_ct_file, example_label_file):
        whole = sitk.ReadImage(str(source))
        paths.append(folder / source.name.removesuffix(".gz"))
        sitk.WriteImage(whole[::2, ::2, :], str(paths[-1]))
    ct = load_ct(paths[0])
    labels = load_label_map(paths[1], ct)
    centroids = labels.centroids_lps_mm()
    isocentre = np.mean([centroids[name] for name in LEVELS], axis=0)
    camera = Camera.from_detector(256, 256, 1.0, 1020.0)
    pose = camera_from_positioner(PositionerPose(10.0, 5.0, 720.0, tuple(isocentre)))
    projector = JosephProjector(AttenuationVolume.from_ct(ct), isocentre)
    with torch.no_grad():
        lines = projector.image(torch.from_numpy(pose)[None], camera)[0].numpy()
    noise = np.random.default_rng(11)
    raw = np.clip(noise.poisson(40000.0 * np.exp(-lines)), 1, 65535).astype(np.uint16)
    targets = np.array([centroids[name] for name in LEVELS])
    return Scene(paths[0], paths[1], camera, pose, isocentre, targets, raw)


@pytest.fixture(scope="session")
def ros() -> Iterator[None]:
    """RCL started once for all tests of this process."""
    rclpy = pytest.importorskip("rclpy")
    rclpy.init()
    yield
    rclpy.try_shutdown()


class Peer:
    """Publishes to and listens to a registration node; owns the executor that spins both."""

    def __init__(self, target: str = "/registration_node", overlay: bool = False) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseWithCovarianceStamped
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import CameraInfo, Image
        from std_msgs.msg import String
        from tf2_msgs.msg import TFMessage

        from xray_registration.ros.qos import LATCHED

        self.node = rclpy.create_node(f"peer_{time.monotonic_ns()}")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.target = target
        self.transforms: list[Any] = []
        self.poses: list[Any] = []
        self.results: list[dict[str, Any]] = []
        self.statuses: list[Any] = []
        self.stamps: list[Any] = []
        self.overlays: list[Any] = []
        self._stamp_s = 1000
        node = self.node
        self._image = node.create_publisher(Image, "image", 10)
        self._info = node.create_publisher(CameraInfo, "camera_info", 10)
        self._initialpose = node.create_publisher(PoseWithCovarianceStamped, "initialpose", 1)
        node.create_subscription(
            TFMessage, "/tf", lambda message: self.transforms.extend(message.transforms), 100
        )
        node.create_subscription(
            PoseWithCovarianceStamped, f"{target}/pose", self.poses.append, LATCHED
        )
        node.create_subscription(
            String, f"{target}/result", lambda m: self.results.append(json.loads(m.data)), 100
        )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        if overlay:
            node.create_subscription(Image, f"{target}/overlay", self.overlays.append, 10)

    def _on_diagnostics(self, message: Any) -> None:
        name = self.target.lstrip("/")
        self.stamps.append(message.header.stamp)
        self.statuses += [s for s in message.status if s.name == f"{name}: registration"]

    def spin_until(self, condition: Callable[[], Any], what: str) -> Any:
        """Spin until the condition holds; fail with ``what`` when it never does."""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            self.executor.spin_once(timeout_sec=0.02)
        last = self.statuses[-1] if self.statuses else None
        pytest.fail(f"{what} did not happen within {TIMEOUT_S:.0f} s; last status: {last}")

    def spin_for(self, seconds: float) -> None:
        """Spin, to see that something does not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def values(self) -> dict[str, str]:
        """Key-values of the last status."""
        return {v.key: v.value for v in self.statuses[-1].values} if self.statuses else {}

    def wait_for_state(self, state: str) -> dict[str, str]:
        """Until the last status says so."""
        self.spin_until(lambda: self.values().get("state") == state, f"state {state}")
        return self.values()

    def wait_for_subscribers(self, camera_info: bool = True) -> None:
        """Until the node listens to this peer."""
        publishers = [self._image, self._initialpose] + [self._info] * camera_info
        self.spin_until(
            lambda: all(p.get_subscription_count() > 0 for p in publishers), "subscriptions"
        )

    def header(self, frame: str = FRAME) -> Any:
        """A header with a new stamp."""
        from builtin_interfaces.msg import Time
        from std_msgs.msg import Header

        self._stamp_s += 1
        return Header(stamp=Time(sec=self._stamp_s, nanosec=123456789), frame_id=frame)

    def send_initialpose(self, camera_from_ct: np.ndarray, frame: str = FRAME) -> None:
        """Publish it; LPS."""
        from geometry_msgs.msg import PoseWithCovarianceStamped

        from xray_registration.ros.pose_messages import pose_stamped

        stamped = pose_stamped(camera_from_ct, self.header(frame), "lps")
        message = PoseWithCovarianceStamped(header=stamped.header)
        message.pose.pose = stamped.pose
        self._initialpose.publish(message)
        self.spin_for(0.2)

    def send(self, image: Any, info: Any | None) -> str:
        """Publish an image and its camera_info; returns the stamp as the node reports it."""
        self._image.publish(image)
        if info is not None:
            self._info.publish(info)
        stamp = image.header.stamp
        return f"{stamp.sec}.{stamp.nanosec:09d}"

    def send_scene(self, scene: Scene) -> str:
        """Publish the scene's radiograph with its camera_info."""
        return self.send_picture(scene.raw, scene.camera)

    def send_picture(self, raw: np.ndarray, camera: Camera) -> str:
        """Publish an image with its camera_info."""
        from xray_registration.ros.conversions import array_to_image, camera_to_message

        header = self.header()
        return self.send(array_to_image(raw, header), camera_to_message(camera, header))

    def wait_for_report(self, stamp: str) -> dict[str, str]:
        """Diagnostics values of the image with this stamp."""

        def find() -> dict[str, str] | None:
            for status in reversed(self.statuses):
                values = {v.key: v.value for v in status.values}
                if values.get("image_stamp") == stamp:
                    return values
            return None

        found: dict[str, str] = self.spin_until(find, f"a report of image {stamp}")
        return found

    def hear(self, kind: Any, topic: str, latched: bool = False) -> list[Any]:
        """Subscribe; the list fills as messages come."""
        from xray_registration.ros.qos import LATCHED

        heard: list[Any] = []
        self.node.create_subscription(kind, topic, heard.append, LATCHED if latched else 10)
        return heard

    def call(self, kind: Any, service: str, request: Any = None) -> Any:
        """Call a service of the target (``service`` relative to it) and wait for the answer."""
        client = self.node.create_client(kind, f"{self.target}/{service}")
        self.spin_until(client.service_is_ready, f"service {service}")
        future = client.call_async(kind.Request() if request is None else request)
        self.spin_until(future.done, f"an answer of {service}")
        self.node.destroy_client(client)
        return future.result()

    def trigger(self, service: str) -> tuple[bool, str]:
        """Call a std_srvs/Trigger of the target."""
        from std_srvs.srv import Trigger

        answer = self.call(Trigger, service)
        return answer.success, answer.message

    def close(self) -> None:
        """Take the node away."""
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def peer(ros: None) -> Iterator[Peer]:
    """A peer with an overlay subscription."""
    made = Peer(overlay=True)
    yield made
    made.close()


def overrides(scene: Scene, **changes: Any) -> list[Any]:
    """Parameters of a node for the scene; ``__`` in a keyword stands for a dot."""
    from rclpy.parameter import Parameter

    values: dict[str, Any] = {
        "ct_path": str(scene.ct_path),
        "label_map_path": str(scene.label_path),
        "isocentre.labels": ",".join(LEVELS),
        "camera.sdd_mm": scene.camera.sdd_mm,
        "image.i0": 40000.0,
        "diagnostics.period_s": 0.2,
        # tests of these say so; they take seconds
        "solver.process": False,
        "markers.surface": False,
        # the vertebrae of this coarse CT look more alike than those of a patient
        "gate.min_level_margin": 0.0,
        # no test may depend on how fast the machine is
        "stale_after_s": 0.0,
    }
    values.update({name.replace("__", "."): value for name, value in changes.items()})
    return [Parameter(name, value=value) for name, value in values.items()]


@pytest.fixture
def make_node(scene: Scene, peer: Peer) -> Iterator[Callable[..., Any]]:
    """Builds registration nodes in this process, spun by the peer's executor."""
    from xray_registration.ros.registration_node import RegistrationNode

    nodes: list[Any] = []

    def make(**changes: Any) -> Any:
        node = RegistrationNode(parameter_overrides=overrides(scene, **changes))
        nodes.append(node)
        peer.executor.add_node(node)
        return node

    yield make
    for node in nodes:
        peer.executor.remove_node(node)
        node.destroy_node()
    # rclpy's lifecycle state machine keeps its services until the node is collected.
    nodes.clear()
    gc.collect()


@pytest.fixture
def ros_environment() -> dict[str, str]:
    """For child processes: same private domain; the wheels' bootstrap runs again in them."""
    environment = dict(os.environ)
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    return environment
