"""The topics of the simulated views: image and camera_info, in a namespace when there are two."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from xray_registration.geometry.camera import Camera
from xray_registration.geometry.carm_kinematics import Edge
from xray_registration.ros.arm_tf import publish_fixed
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.qos import image_qos
from xray_registration.ros.simulator_settings import SimulatorSettings

#: kept for late subscribers: an evaluation may start at any time
TRUTH_QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class SimulatedView:
    """Publishes the pictures of one view."""

    def __init__(
        self, node: Node, namespace: str, frame_id: str, camera: Camera, qos: QoSProfile
    ) -> None:
        """Topics ``<namespace>image`` and ``<namespace>camera_info``, relative."""
        self._image = node.create_publisher(Image, f"{namespace}image", qos)
        self._info = node.create_publisher(CameraInfo, f"{namespace}camera_info", qos)
        self._frame_id = frame_id
        self._camera = camera

    @property
    def subscribers(self) -> int:
        """Of the topic that has fewer."""
        return min(p.get_subscription_count() for p in (self._image, self._info))

    def send(self, image: npt.NDArray[Any], stamp: Any) -> None:
        """Publish camera_info and the picture (H, W) with one stamp."""
        header = Header(stamp=stamp, frame_id=self._frame_id)
        self._info.publish(camera_to_message(self._camera, header))
        self._image.publish(array_to_image(image, header))


def make_views(node: Node, settings: SimulatorSettings) -> list[SimulatedView]:
    """One view without a namespace; or ``view_0/`` and ``view_1/``, the latter's place on TF."""
    qos = image_qos(settings.qos_reliability, settings.qos_depth)
    frames = settings.frame_ids
    if len(frames) > 1:
        fixed = [
            Edge(frames[0], frame, np.asarray(np.linalg.inv(camera_from_rig)), True)
            for frame, camera_from_rig in zip(frames[1:], settings.views[1:], strict=True)
        ]
        publish_fixed(node, fixed)
    names = [""] if len(frames) == 1 else [f"view_{n}/" for n in range(len(frames))]
    return [
        SimulatedView(node, name, frame, settings.camera, qos)
        for name, frame in zip(names, frames, strict=True)
    ]
