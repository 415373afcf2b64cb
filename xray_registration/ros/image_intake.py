"""Images and CameraInfo in: paired, brought together over the views, handed on as frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image

from xray_registration.ros.diagnostics import Monitor
from xray_registration.ros.frame_processor import Frame, ViewMessages
from xray_registration.ros.pairing import ExactStampPairer
from xray_registration.ros.qos import image_qos
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.view_sync import ViewSync


class ImageIntake:
    """The subscriptions of an active node. All callbacks are quick and in one callback group."""

    def __init__(
        self,
        node: Node,
        settings: RegistrationSettings,
        monitor: Monitor,
        on_frame: Callable[[Frame], None],
    ) -> None:
        """Subscribe; ``on_frame`` gets every complete frame in the executor's thread."""
        self._node = node
        self._monitor = monitor
        self._on_frame = on_frame
        self._with_info = settings.use_camera_info
        count = len(settings.views)
        self._pairers: list[ExactStampPairer[Image, CameraInfo]] = [
            ExactStampPairer() for _ in range(count)
        ]
        self._sync: ViewSync[ViewMessages] = ViewSync(count, settings.sync_tolerance_ns)
        qos = image_qos(settings.qos_reliability, settings.qos_depth)
        self._subscriptions: list[Any] = []
        for index, view in enumerate(settings.views):
            wanted = [(Image, "image", self._on_image)]
            if self._with_info:
                wanted.append((CameraInfo, "camera_info", self._on_info))
            self._subscriptions += [
                node.create_subscription(kind, view.topic(name), partial(callback, index), qos)
                for kind, name, callback in wanted
            ]

    @property
    def lacks_camera_info(self) -> bool:
        """Images wait for a camera_info of their stamp."""
        return any(pairer.waiting_firsts for pairer in self._pairers)

    def destroy(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _on_image(self, view: int, message: Image) -> None:
        if view == 0:  # of several views one counts: the counters are of frames
            self._monitor.count(received=1)
        if not self._with_info:
            self._add(view, message, None)
            return
        pair = self._pairers[view].add_first(_stamp_ns(message), message)
        self._take(view, pair)

    def _on_info(self, view: int, message: CameraInfo) -> None:
        self._take(view, self._pairers[view].add_second(_stamp_ns(message), message))

    def _take(self, view: int, pair: tuple[Image, CameraInfo] | None) -> None:
        if pair is not None:
            self._add(view, *pair)
        self._count_unpaired()

    def _add(self, view: int, image: Image, info: CameraInfo | None) -> None:
        found = self._sync.add(view, _stamp_ns(image), ViewMessages(image, info))
        if found is not None:
            self._on_frame(Frame(found, _stamp_ns(found[0].image), time.monotonic()))
        elif len(self._pairers) > 1:
            self._count_unpaired()

    def _count_unpaired(self) -> None:
        halves = sum(pairer.unpaired_firsts for pairer in self._pairers)
        self._monitor.set_unpaired(halves + self._sync.unmatched)


def _stamp_ns(message: Image | CameraInfo) -> int:
    return int(Time.from_msg(message.header.stamp).nanoseconds)
