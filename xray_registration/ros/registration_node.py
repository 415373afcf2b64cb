"""registration_node: X-ray images and CT in, patient-to-C-arm transform on /tf out.

A lifecycle node. It knows topics, parameters and threads; what a pose is, how it is found and
whether it may be trusted is the library's business.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.ros.diagnostics import Monitor, State
from xray_registration.ros.frame_processor import Frame, FrameProcessor
from xray_registration.ros.frame_report import FrameReport, failed
from xray_registration.ros.image_flow import ImageFlow
from xray_registration.ros.outputs import Outputs
from xray_registration.ros.pairing import ExactStampPairer
from xray_registration.ros.parameters import ParameterGuard, declare
from xray_registration.ros.pose_messages import matrix_from_pose
from xray_registration.ros.qos import image_qos
from xray_registration.ros.registration_parameters import SPECS
from xray_registration.ros.registration_settings import RegistrationSettings, build_settings
from xray_registration.ros.start_pose import StartPosePolicy
from xray_registration.ros.tf import make_broadcaster
from xray_registration.ros.worker import NewestItemWorker

# How long a transition or the end of the process waits for a registration in progress. Its result
# is not published in any case.
_STOP_TIMEOUT_S = 20.0


class RegistrationNode(LifecycleNode):
    """See the README for topics and parameters."""

    def __init__(self, **kwargs: Any) -> None:
        """Declare the parameters; ``kwargs`` go to rclpy's node.

        Raises:
            InputError: parameters that cannot be used.
            MissingDependencyError: no tf2_msgs.
        """
        # Before the base class: rclpy destroys a node also when its constructor has failed.
        self._processor: FrameProcessor | None = None
        self._flow: ImageFlow | None = None
        self._outputs: Outputs | None = None
        self._worker: NewestItemWorker[Frame] | None = None
        self._pairer: ExactStampPairer[Image, CameraInfo] = ExactStampPairer()
        self._starts = StartPosePolicy()
        self._subscriptions_of_images: list[Any] = []
        self._initialpose_subscription: Any = None
        self._last_logged: tuple[str, float] = ("", 0.0)
        # Held while publishing: after on_deactivate nothing of an image in progress gets out.
        self._publish_lock = threading.Lock()
        self._is_active = False

        super().__init__("registration_node", **kwargs)
        values = declare(self, SPECS)
        self._settings: RegistrationSettings = build_settings(values)
        self._guard = ParameterGuard(
            SPECS, values, build_settings, lambda: self._processor is not None, self._take_settings
        )
        self.add_on_set_parameters_callback(self._guard)

        self._broadcaster = make_broadcaster(self)
        self._monitor = Monitor(self.get_fully_qualified_name())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Wall time: diagnostics go on while a simulation's clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer = self.create_timer(
            self._settings.diagnostics_period_s, self._report_state, clock=steady
        )
        self._autostart_timer = self.create_timer(0.01, self._autostart, clock=steady)

    # --- lifecycle -----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the patient, build the registrar, create the publishers."""
        settings = self._settings
        try:
            started = time.monotonic()
            self._processor = FrameProcessor(settings)
            logger = self.get_logger()
            self._flow = ImageFlow(self._processor, self._starts, logger.warning, logger.error)
            self._outputs = Outputs(self, self._broadcaster)
        except Exception as error:  # rclpy would swallow it and say nothing
            self._processor = self._flow = None
            text = f"cannot configure: {error}"
            if not isinstance(error, XrayRegistrationError):
                text += f"\n{traceback.format_exc()}"
            self._monitor.set_state(State.ERROR, f"cannot configure: {error}")
            self.get_logger().error(text)
            self._publish_diagnostics()
            return TransitionCallbackReturn.FAILURE
        self._initialpose_subscription = self.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_initialpose, 1
        )
        ct = self._processor.ct
        self.get_logger().info(
            f"CT {ct.path}: {' x '.join(map(str, ct.shape_ijk))} voxels, isocentre (LPS mm) "
            f"{self._processor.isocentre_lps_mm.round(1).tolist()}, device {settings.device}; "
            f"configured in {time.monotonic() - started:.1f} s"
        )
        self._monitor.set_state(State.INACTIVE, "configured, not active")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to images."""
        settings = self._settings
        self._monitor.restart()
        self._monitor.set_state(State.WAITING_FOR_IMAGE, "no image received yet")
        self._pairer = ExactStampPairer()
        self._worker = NewestItemWorker(self._process, self._on_worker_error, "registration")
        qos = image_qos(settings.qos_reliability, settings.qos_depth)
        self._subscriptions_of_images = [
            self.create_subscription(Image, "image", self._on_image, qos)
        ]
        if settings.use_camera_info:
            self._subscriptions_of_images.append(
                self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos)
            )
        self._is_active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; what is in progress is thrown away and the last pose forgotten."""
        self._stop_processing()
        self._monitor.set_state(State.INACTIVE, "configured, not active")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give CT and publishers back."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and give everything back, from any state."""
        self._stop_processing()
        self._release()
        return super().on_shutdown(state)

    def destroy_node(self) -> None:
        """Stop the worker before the publishers go."""
        self._stop_processing()
        if self._worker is not None:
            self._worker.stop(_STOP_TIMEOUT_S)
        super().destroy_node()

    def _stop_processing(self) -> None:
        with self._publish_lock:
            self._is_active = False
        for subscription in self._subscriptions_of_images:
            self.destroy_subscription(subscription)
        self._subscriptions_of_images = []
        if self._worker is not None:
            self._worker.stop()
        self._starts.reset()

    def _release(self) -> None:
        if self._worker is not None and not self._worker.stop(_STOP_TIMEOUT_S):
            self.get_logger().error(
                f"the registration in progress has not ended within {_STOP_TIMEOUT_S:.0f} s"
            )
        self._worker = None
        if self._outputs is not None:
            self._outputs.destroy()
        if self._initialpose_subscription is not None:
            self.destroy_subscription(self._initialpose_subscription)
        self._outputs = self._initialpose_subscription = self._processor = self._flow = None
        self._monitor.set_state(State.UNCONFIGURED, "not configured")

    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if not self._settings.autostart:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _take_settings(self, settings: RegistrationSettings) -> None:
        self._settings = settings

    # --- topics in (executor's thread) ---------------------------------------------------------

    def _on_image(self, message: Image) -> None:
        self._monitor.count(received=1)
        if self._settings.use_camera_info:
            self._submit(self._pairer.add_first(_stamp_ns(message), message))
            self._monitor.set_unpaired(self._pairer.unpaired_firsts)
        else:
            self._submit((message, None))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._submit(self._pairer.add_second(_stamp_ns(message), message))

    def _submit(self, pair: tuple[Image, CameraInfo | None] | None) -> None:
        if pair is None or self._worker is None:
            return
        image, info = pair
        frame = Frame(image, info, _stamp_ns(image), time.monotonic())
        if self._worker.submit(frame) is not None:
            self._monitor.count(dropped=1)

    def _on_initialpose(self, message: PoseWithCovarianceStamped) -> None:
        try:
            matrix = matrix_from_pose(message.pose.pose, self._settings.ct_axes, "initialpose")
        except InputError as error:
            self.get_logger().error(str(error))
            return
        self._starts.set_initialpose(matrix, message.header.frame_id)
        self.get_logger().info("initialpose received")

    # --- one image (worker's thread) -----------------------------------------------------------

    def _process(self, frame: Frame) -> None:
        flow = self._flow
        if flow is not None:
            self._finish(flow.process(frame, self._settings))

    def _finish(self, report: FrameReport) -> None:
        """Publish what became of an image, unless the node was deactivated meanwhile."""
        settings = self._settings
        with self._publish_lock:
            outputs, processor = self._outputs, self._processor
            if not self._is_active or outputs is None or processor is None:
                return
            outputs.publish_pose(report, settings)
            latency_s = time.monotonic() - report.frame.received_s
            age_s = (self.get_clock().now().nanoseconds - report.frame.stamp_ns) * 1e-9
            self._monitor.count(**{report.counter: 1})
            self._monitor.set_image(
                report.state,
                report.message,
                {**report.values(), "latency_s": latency_s, "image_age_s": age_s},
            )
            outputs.publish_result(report, settings, processor.ct)
            self._publish_diagnostics()
        self._log(report)
        try:
            overlay = outputs.draw_overlay(report, processor, settings)
        except Exception as error:  # a picture for people must not cost the next registration
            self.get_logger().error(f"overlay: {error}", throttle_duration_sec=10.0)
            return
        if overlay is not None:
            with self._publish_lock:
                if self._is_active:
                    outputs.publish_overlay(overlay)

    def _on_worker_error(self, frame: Frame, error: Exception) -> None:
        """A defect, not bad input: say everything and go on with the next image."""
        trace = "".join(traceback.format_exception(error))
        self.get_logger().error(f"registration failed: {error}\n{trace}")
        parent = self._settings.parent_frame_id or frame.image.header.frame_id
        self._finish(failed(frame, parent, error))

    # --- diagnostics ---------------------------------------------------------------------------

    def _report_state(self) -> None:
        if self._is_active and self._pairer.waiting_firsts and not self._is_busy():
            newest = "images arrive, but no camera_info with the stamp of an image"
            if self._monitor.state is State.WAITING_FOR_IMAGE:
                self._monitor.set_state(State.WAITING_FOR_CAMERA_INFO, newest)
        self._publish_diagnostics()

    def _is_busy(self) -> bool:
        return self._worker is not None and self._worker.busy

    def _publish_diagnostics(self) -> None:
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(self._monitor.message(Header(stamp=stamp)))

    def _log(self, report: FrameReport) -> None:
        """Each new problem once, a lasting one every five seconds."""
        logger = self.get_logger()
        text = report.message
        if report.state is State.REGISTERED:
            logger.debug(text)
            self._last_logged = ("", 0.0)
            return
        now = time.monotonic()
        if text == self._last_logged[0] and now - self._last_logged[1] < 5.0:
            return
        self._last_logged = (text, now)
        if report.state in (State.BAD_INPUT, State.ERROR):
            logger.error(text)
        else:
            logger.warning(text)


def _stamp_ns(message: Image | CameraInfo) -> int:
    return int(Time.from_msg(message.header.stamp).nanoseconds)


def main(args: list[str] | None = None) -> int:
    """Console entry: 0 on a normal end, 2 on parameters that cannot be used."""
    node: RegistrationNode | None = None
    try:
        rclpy.init(args=args)
        node = RegistrationNode()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (XrayRegistrationError, ParameterException) as error:
        print(f"registration_node: {error}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
