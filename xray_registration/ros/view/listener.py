"""The view's node: subscribes to one registration node's topics, publishes nothing.

Pictures and markers are subscribed to only while a browser is looking: the registration node draws
its overlay for subscribers only, and large images take their toll on everybody's middleware.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from xray_registration.ros.qos import LATCHED, image_qos
from xray_registration.ros.tf import TF_QOS
from xray_registration.ros.view.heard import Heard
from xray_registration.ros.view.topics import Topics

_NEWEST = image_qos("reliable", 1)
_NEWEST_LOSSY = image_qos("best_effort", 1)
_SWITCH_PERIOD_S = 0.2


class Subscription:
    """A subscription that asks for the best QoS first, and for less when nobody offers that."""

    def __init__(
        self,
        node: Node,
        message_type: Any,
        topic: str,
        on_message: Callable[[Any], None],
        profiles: Sequence[QoSProfile],
    ) -> None:
        """``profiles``: from the most to the least that is asked for."""
        self._node = node
        self._arguments = (message_type, topic, on_message)
        self._profiles = profiles
        self._chosen = 0
        self._is_refused = False
        self._subscription = self._make()

    def relax(self) -> None:
        """Ask for less if a publisher could not give what was asked for."""
        if self._is_refused and self._chosen + 1 < len(self._profiles):
            self._chosen += 1
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._make()
        self._is_refused = False

    def destroy(self) -> None:
        """End it."""
        self._node.destroy_subscription(self._subscription)

    def _make(self) -> Any:
        callbacks = SubscriptionEventCallbacks(incompatible_qos=self._on_refused)
        return self._node.create_subscription(
            *self._arguments, self._profiles[self._chosen], event_callbacks=callbacks
        )

    def _on_refused(self, event: Any) -> None:
        # Not replaced here: the executor is working with it.
        self._is_refused = True


class Listener(Node):
    """Fills ``heard``."""

    def __init__(self, topics: Topics, heard: Heard, **kwargs: Any) -> None:
        """Subscribe to the small topics; ``kwargs`` go to rclpy's node."""
        from tf2_msgs.msg import TFMessage

        super().__init__(f"xray_view_{os.getpid()}", **kwargs)
        self._topics, self._heard = topics, heard
        self.is_watched = False
        """Set by the web server: a browser is looking."""
        self._watching: list[Subscription] = []
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_subscription(String, topics.private("result"), self._on_result, 10)
        self.create_subscription(
            PoseWithCovarianceStamped, topics.private("pose"), heard.add_pose, LATCHED
        )
        self.create_subscription(TFMessage, "/tf", self._on_tf, TF_QOS)
        # Wall time: the view goes on while a simulation's clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_SWITCH_PERIOD_S, self._switch, clock=steady)
        self.create_timer(1.0, self._count_publishers, clock=steady)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._topics.status_name:
                values = {value.key: value.value for value in status.values}
                level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
                clock_s = self.get_clock().now().nanoseconds * 1e-9
                self._heard.add_status(level, status.message, values, time.monotonic(), clock_s)

    def _on_result(self, message: String) -> None:
        try:
            record = json.loads(message.data)
        except ValueError:
            record = None
        if isinstance(record, dict):
            self._heard.add_result(record, time.monotonic())

    def _on_tf(self, message: Any) -> None:
        for edge in message.transforms:
            if edge.child_frame_id == self._heard.child_frame:
                self._heard.add_transform(edge, time.monotonic())

    def _on_image(self, name: str) -> Callable[[Image], None]:
        return lambda message: self._heard.add_image(name, message, time.monotonic())

    def _switch(self) -> None:
        """Begin or end listening to what only browsers need."""
        if self.is_watched and not self._watching:
            topics, images = self._topics, (_NEWEST, _NEWEST_LOSSY)
            pictures = {
                "xray": topics.full_image,
                "overlay": topics.picture("overlay"),
                "drr": topics.picture("drr"),
            }
            self._watching = [
                Subscription(self, Image, topic, self._on_image(name), images)
                for name, topic in pictures.items()
            ]
            camera, markers = topics.camera_info, topics.private("markers")
            self._watching += [
                Subscription(self, CameraInfo, camera, self._heard.add_camera, images),
                Subscription(
                    self, MarkerArray, markers, self._on_markers, (LATCHED, QoSProfile(depth=10))
                ),
            ]
        elif not self.is_watched and self._watching:
            for subscription in self._watching:
                subscription.destroy()
            self._watching = []
            self._heard.forget_pictures()
        for subscription in self._watching:
            subscription.relax()

    def _on_markers(self, message: MarkerArray) -> None:
        self._heard.markers.update(message.markers)

    def _count_publishers(self) -> None:
        self._heard.set_publishers(self.count_publishers(self._topics.private("result")))
