"""Two views registered together, the rig given by parameters or found on /tf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from xray_registration.geometry.converters import transform_from_matrix
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.pose_messages import matrix_from_transform_message
from xray_registration.ros.registration_node import RegistrationNode

pytestmark = pytest.mark.ros
MakeNode = Callable[..., RegistrationNode]
FRAMES = ("carm_a_optical_frame", "carm_b_optical_frame")


@dataclass(frozen=True, eq=False)
class Biplane:
    """The scene's view and one from the side; ``b_from_a`` (4, 4) mm."""

    scene: Any
    lateral: np.ndarray
    b_from_a: np.ndarray


@pytest.fixture(scope="module")
def biplane(scene: Any) -> Biplane:
    from xray_registration.imaging.volume import load_ct
    from xray_registration.rendering import AttenuationVolume, JosephProjector

    pose = camera_from_positioner(PositionerPose(80.0, -3.0, 740.0, tuple(scene.isocentre_lps_mm)))
    projector = JosephProjector(
        AttenuationVolume.from_ct(load_ct(scene.ct_path)), scene.isocentre_lps_mm
    )
    with torch.no_grad():
        lines = projector.image(torch.from_numpy(pose)[None], scene.camera)[0].numpy()
    noise = np.random.default_rng(12)
    raw = np.clip(noise.poisson(40000.0 * np.exp(-lines)), 1, 65535).astype(np.uint16)
    return Biplane(scene, raw, pose @ np.linalg.inv(scene.camera_from_ct))


class Rig:
    """Publishes both views."""

    def __init__(self, peer: Any, biplane: Biplane) -> None:
        self.peer, self.biplane = peer, biplane
        self._publishers = [
            (
                peer.node.create_publisher(Image, f"view_{n}/image", 10),
                peer.node.create_publisher(CameraInfo, f"view_{n}/camera_info", 10),
            )
            for n in (0, 1)
        ]
        peer.spin_until(
            lambda: all(p.get_subscription_count() for pair in self._publishers for p in pair),
            "subscriptions to both views",
        )

    def send(self, later_ns: int = 0, views: tuple[int, ...] = (1, 0)) -> str:
        """The second view's stamp is ``later_ns`` after the first one's; its stamp as text."""
        scene = self.biplane.scene
        header = self.peer.header()
        for view in views:
            raw = (scene.raw, self.biplane.lateral)[view]
            nanosec = header.stamp.nanosec + later_ns * view
            own = type(header)(frame_id=FRAMES[view])
            own.stamp.sec, own.stamp.nanosec = header.stamp.sec, nanosec
            image, info = self._publishers[view]
            image.publish(array_to_image(raw, own))
            info.publish(camera_to_message(scene.camera, own))
        return f"{header.stamp.sec}.{header.stamp.nanosec:09d}"


def test_two_views_of_a_known_rig(biplane: Biplane, peer: Any, make_node: MakeNode) -> None:
    scene = biplane.scene
    rows = biplane.b_from_a.ravel().tolist()
    make_node(views="view_0, view_1", view_1__camera_from_rig=rows, sync__tolerance_s=0.002)
    overlays = [peer.hear(Image, f"/registration_node/view_{n}/overlay") for n in (0, 1)]
    rig = Rig(peer, biplane)
    peer.send_initialpose(scene.start(), frame=FRAMES[0])
    report = peer.wait_for_report(rig.send(later_ns=1_500_000))
    assert report["state"] == "registered", report
    similarities = [float(s) for s in report["view_similarities"].split(",")]
    assert len(similarities) == 2
    assert min(similarities) > 0.7
    edge = peer.spin_until(lambda: peer.transforms and peer.transforms[0], "a transform")
    assert edge.header.frame_id == FRAMES[0]
    # In depth too, which one view hardly sees.
    assert scene.mtre_mm(matrix_from_transform_message(edge.transform, "lps", "/tf")) < 0.5
    peer.spin_until(lambda: all(overlays), "both overlays")
    assert [o[0].header.frame_id for o in overlays] == list(FRAMES)
    assert not np.array_equal(overlays[0][0].data, overlays[1][0].data)

    # Stamps further apart than the tolerance are no pair.
    before = len(peer.results)
    rig.send(later_ns=2_500_000)
    peer.spin_for(0.5)
    assert len(peer.results) == before
    stamp = rig.send()
    assert peer.wait_for_report(stamp)["start_source"] == "previous"
    assert peer.values()["images_unpaired"] == "2"


def test_the_rig_comes_from_tf(biplane: Biplane, peer: Any, make_node: MakeNode) -> None:
    scene = biplane.scene
    make_node(views="view_0, view_1")
    rig = Rig(peer, biplane)
    peer.send_initialpose(scene.start(), frame=FRAMES[0])
    report = peer.wait_for_report(rig.send())
    assert report["state"] == "bad_input"
    assert f"no transform from '{FRAMES[0]}' to '{FRAMES[1]}'" in report["reason_text"]

    edge = TransformStamped(child_frame_id=FRAMES[1])
    edge.header.frame_id = FRAMES[0]
    translation, quaternion = transform_from_matrix(np.linalg.inv(biplane.b_from_a))
    for name, value in zip("xyz", translation, strict=True):
        setattr(edge.transform.translation, name, float(value))
    for name, value in zip("xyzw", quaternion, strict=True):
        setattr(edge.transform.rotation, name, float(value))
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = peer.node.create_publisher(TFMessage, "/tf_static", latched)
    publisher.publish(TFMessage(transforms=[edge]))
    peer.spin_until(publisher.get_subscription_count, "a listener to /tf_static")
    peer.spin_for(0.3)
    report = peer.wait_for_report(rig.send())
    assert report["state"] == "registered", report
    found = peer.spin_until(lambda: peer.transforms and peer.transforms[0], "a transform")
    assert scene.mtre_mm(matrix_from_transform_message(found.transform, "lps", "/tf")) < 0.5
