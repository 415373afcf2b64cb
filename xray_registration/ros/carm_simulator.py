"""carm_simulator: a C-arm that takes X-ray images of a CT along an arc.

Publishes ``image`` and ``camera_info`` with the same stamp, and the true pose of the patient in the
image's optical frame on ``ground_truth/pose``, which no registration node reads.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from xray_registration.errors import XrayRegistrationError
from xray_registration.geometry.camera import Camera
from xray_registration.rendering.xray_model import XrayModel
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.diagnostics import IMAGE_STAMP_KEY, stamp_text
from xray_registration.ros.parameters import declare
from xray_registration.ros.patient import given_isocentre_lps_mm, load_patient
from xray_registration.ros.pose_messages import pose_stamped
from xray_registration.ros.qos import image_qos
from xray_registration.ros.rendered_sweep import RenderedSweep, SweepPlan
from xray_registration.ros.simulator_parameters import SPECS
from xray_registration.ros.simulator_settings import SimulatorSettings, build_settings

_TICK_S = 0.02
# After discovery the other side may need a moment before it takes what it is sent.
_SETTLE_S = 0.5


class CArmSimulator(Node):
    """See the README for topics and parameters."""

    def __init__(self, **kwargs: Any) -> None:
        """Load the CT and start rendering; ``kwargs`` go to rclpy's node.

        Raises:
            InputError: parameters or files that cannot be used.
        """
        # Before the base class: rclpy destroys a node also when its constructor has failed.
        self._sweep: RenderedSweep | None = None
        super().__init__("carm_simulator", **kwargs)
        self._settings: SimulatorSettings = build_settings(declare(self, SPECS))
        settings = self._settings
        qos = image_qos(settings.qos_reliability, settings.qos_depth)
        self._image = self.create_publisher(Image, "image", qos)
        self._info = self.create_publisher(CameraInfo, "camera_info", qos)
        # Kept for late subscribers: an evaluation may start at any time.
        truth_qos = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._truth = self.create_publisher(PoseStamped, "ground_truth/pose", truth_qos)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        if settings.lock_step:
            self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)

        ct, labels = load_patient(settings.patient)
        isocentre = given_isocentre_lps_mm(settings.patient, labels)
        if isocentre is None:
            isocentre = ct.bone_box_lps().mean(axis=0)
        self._poses = settings.sweep.poses(isocentre)
        patient = {
            "ct": ct.sha256,
            "labels": labels and hashlib.sha256(labels.labels.tobytes()).hexdigest(),
            "xray": settings.xray.to_dict(),
        }
        plan = SweepPlan(self._poses, settings.camera, settings.seed, patient)
        self._model: XrayModel | None = None

        def render(
            camera_from_ct: npt.NDArray[np.float64], camera: Camera, seed: int
        ) -> npt.NDArray[Any]:
            # Made by the first frame that is not in the cache, in the rendering thread.
            if self._model is None:
                self._model = XrayModel(ct, settings.xray, labels)
            return self._model.render(camera_from_ct, camera, seed).image

        cache_dir = Path(settings.cache_dir) if settings.cache_dir else None
        self._sweep = RenderedSweep(plan, render, cache_dir)
        self.get_logger().info(
            f"CT {ct.path}; isocentre (LPS mm) {np.round(isocentre, 1).tolist()}; "
            f"{len(self._poses)} images of {settings.camera.width} x {settings.camera.height}"
        )

        self._state = "rendering"
        self._sent = 0
        self._last_stamp = ""
        self._last_sent_s = self._subscribed_s = 0.0
        self._is_answered = True
        self.is_done = False
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_TICK_S, self._tick, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)

    def stop_rendering(self, timeout_s: float = 0.5) -> bool:
        """Render no further frame; True when none is being rendered any more."""
        return self._sweep is None or self._sweep.stop(timeout_s)

    def destroy_node(self) -> None:
        """Stop rendering first."""
        self.stop_rendering()
        super().destroy_node()

    def frame_index(self, number: int) -> int | None:
        """Frame of the sweep that the image ``number`` shows; None after the end.

        A loop goes back and forth, so that the C-arm never jumps.
        """
        frames = len(self._poses)
        if number < frames:
            return number
        if not self._settings.loop:
            return None
        if frames == 1:
            return 0
        place = number % (2 * (frames - 1))
        return place if place < frames else 2 * (frames - 1) - place

    def _tick(self) -> None:
        if self._sweep is None or self.is_done:
            return
        index = self.frame_index(self._sent)
        if index is None:
            if self._is_answered_or_late():
                self.is_done = True
                self._set_state("done")
            return
        needed = len(self._sweep) if self._settings.prerender else index + 1
        if self._sweep.ready < needed:
            self._set_state("rendering")
            return
        if self._sent == 0 and not self._has_subscribers():
            self._set_state("waiting_for_subscribers")
            return
        now = time.monotonic()
        if now - self._last_sent_s < self._settings.period_s or not self._is_answered_or_late():
            return
        self._set_state("sending")
        self._send(index)

    def _has_subscribers(self) -> bool:
        wanted = self._settings.wait_for_subscribers
        counts = [p.get_subscription_count() for p in (self._image, self._info)]
        if min(counts) < wanted:
            self._subscribed_s = 0.0
            return False
        self._subscribed_s = self._subscribed_s or time.monotonic()
        return wanted == 0 or time.monotonic() - self._subscribed_s >= _SETTLE_S

    def _is_answered_or_late(self) -> bool:
        if not self._settings.lock_step or self._is_answered:
            return True
        waited = time.monotonic() - self._last_sent_s
        if waited < self._settings.lock_step_timeout_s:
            return False
        self.get_logger().warning(
            f"no registration node has reported image {self._last_stamp} on /diagnostics within "
            f"{waited:.1f} s; going on"
        )
        self._is_answered = True
        return True

    def _send(self, index: int) -> None:
        assert self._sweep is not None
        settings = self._settings
        stamp = self.get_clock().now().to_msg()
        header = Header(stamp=stamp, frame_id=settings.frame_id)
        self._last_stamp = stamp_text(Time.from_msg(stamp).nanoseconds)
        self._is_answered = False
        self._truth.publish(pose_stamped(self._poses[index], header, settings.ct_axes))
        self._info.publish(camera_to_message(settings.camera, header))
        self._image.publish(array_to_image(self._sweep.image(index), header))
        self._last_sent_s = time.monotonic()
        self._sent += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if any(v.key == IMAGE_STAMP_KEY and v.value == self._last_stamp for v in status.values):
                self._is_answered = True

    def _set_state(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self.get_logger().info(f"{state.replace('_', ' ')} ({self._sent} images sent)")
            self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        name = self.get_fully_qualified_name().lstrip("/")
        status = DiagnosticStatus(level=DiagnosticStatus.OK, name=f"{name}: sweep")
        status.message = self._state.replace("_", " ")
        status.hardware_id = self._settings.frame_id
        values = {
            "state": self._state,
            "images_sent": self._sent,
            "frames_rendered": 0 if self._sweep is None else self._sweep.ready,
            "frames": len(self._poses),
        }
        status.values = [KeyValue(key=k, value=str(v)) for k, v in values.items()]
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(DiagnosticArray(header=Header(stamp=stamp), status=[status]))


def main(args: list[str] | None = None) -> int:
    """Console entry: 0 on a normal end, 2 on parameters or files that cannot be used."""
    node: CArmSimulator | None = None
    is_rendering = False
    try:
        rclpy.init(args=args)
        node = CArmSimulator()
        while rclpy.ok() and not (node.is_done and node._settings.exit_when_done):
            rclpy.spin_once(node, timeout_sec=0.1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (XrayRegistrationError, ParameterException) as error:
        print(f"carm_simulator: {error}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            is_rendering = not node.stop_rendering()
            node.destroy_node()
        rclpy.try_shutdown()
    if is_rendering:
        # Python waits at its end for the renderer's thread pool, seconds that nobody has after
        # Ctrl-C. Nothing is lost: frames are written atomically.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
