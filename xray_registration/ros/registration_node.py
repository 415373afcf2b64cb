"""registration_node: X-ray images and CT in, patient-to-C-arm transform on /tf out.

A lifecycle node. It knows topics, parameters and threads; what a pose is, how it is found and
whether it may be trusted is the library's business.

Threads: callbacks that are quick (images, parameters, timers) are in the node's default group;
transitions and ~/load_ct, which may take seconds, in a second one; ~/register_now, which waits, in
a third. A worker thread has the newest frame solved, by default in another process.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState
from rclpy.lifecycle.node import TransitionCallbackReturn
from rclpy.node import Node

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.memory import leave_out_of_collections
from xray_registration.ros.diagnostics import State
from xray_registration.ros.image_bridge import image_bridge
from xray_registration.ros.image_intake import ImageIntake
from xray_registration.ros.node_services import Answer, Services, answer_during_transitions
from xray_registration.ros.node_status import NodeStatus
from xray_registration.ros.parameters import ParameterGuard, Value, declare
from xray_registration.ros.pose_messages import matrix_from_pose
from xray_registration.ros.processing import Processing
from xray_registration.ros.registration_parameters import SPECS
from xray_registration.ros.registration_settings import RegistrationSettings, build_settings
from xray_registration.ros.session import Session
from xray_registration.ros.spinning import ManyThreads, spin_on
from xray_registration.ros.start_pose import StartPosePolicy
from xray_registration.ros.tf import make_broadcaster
from xray_registration.ros.view_settings import specs_of_views, view_names

# How long a transition or the end of the process waits for a registration in progress. Its result
# is not published in any case.
_STOP_TIMEOUT_S = 20.0
# Quick callbacks, transitions, ~/register_now, and one that the executor itself keeps busy.
_THREADS = 4


class RegistrationNode(LifecycleNodeMixin, Node):
    """See docs/ros.md for topics, services and parameters."""

    def __init__(self, **kwargs: Any) -> None:
        """Declare the parameters; ``kwargs`` go to rclpy's node.

        Raises:
            InputError: parameters that cannot be used.
            MissingDependencyError: no tf2_msgs.
        """
        # Before the base class: rclpy destroys a node also when its constructor has failed.
        self._session: Session | None = None
        self._intake: ImageIntake | None = None
        self._starts = StartPosePolicy()
        self._initialpose_subscription: Any = None
        self._processing: Processing = None  # type: ignore[assignment]
        self._is_configured = False

        # Not LifecycleNode: that one puts the transitions where they hold up all else.
        self._slow = MutuallyExclusiveCallbackGroup()
        Node.__init__(self, "registration_node", **kwargs)
        LifecycleNodeMixin.__init__(self, callback_group=self._slow)
        answer_during_transitions(self)
        values = declare(self, SPECS)
        specs = (*SPECS, *specs_of_views(view_names(values)))
        values.update(declare(self, specs[len(SPECS) :]))
        self._settings: RegistrationSettings = build_settings(values)
        self._guard = ParameterGuard(
            specs, values, self._build_settings, lambda: self._is_configured, self._take_settings
        )
        self.add_on_set_parameters_callback(self._guard)

        self._broadcaster = make_broadcaster(self)
        self._status = NodeStatus(self)
        self._processing = Processing(self.get_logger(), self._status, lambda: self._settings)
        Services(self, self._slow, self._reset, self._processing.register_now, self._load_ct)
        # Wall time: diagnostics go on while a simulation's clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer = self.create_timer(
            self._settings.diagnostics_period_s, self._report_state, clock=steady
        )
        self._autostart_timer = self.create_timer(
            0.01, self._autostart, clock=steady, callback_group=self._slow
        )

    # --- lifecycle -----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the patient, start the solver, create the publishers."""
        self._is_configured = True  # from here on, so that no parameter changes under it
        if problem := self._load():
            self._is_configured = False
            self._status.set_state(State.ERROR, f"cannot configure: {problem}")
            self._publish_status()
            return TransitionCallbackReturn.FAILURE
        self._initialpose_subscription = self.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_initialpose, 1
        )
        self._status.set_state(State.INACTIVE, "configured, not active")
        return LifecycleNodeMixin.on_configure(self, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to images."""
        done = LifecycleNodeMixin.on_activate(self, state)
        self._status.monitor.restart()
        self._start_processing()
        self._intake = ImageIntake(
            self, self._settings, self._status.monitor, self._processing.take
        )
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; what is in progress is thrown away and the last pose forgotten."""
        self._unsubscribe()
        self._stop_processing("the node was deactivated")
        if self._session is not None:
            self._session.outputs.forget_pose()
        self._status.set_state(State.INACTIVE, "configured, not active")
        return LifecycleNodeMixin.on_deactivate(self, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give CT and publishers back."""
        self._release()
        return LifecycleNodeMixin.on_cleanup(self, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and give everything back, from any state."""
        self._unsubscribe()
        self._stop_processing("the node was shut down")
        self._release()
        return LifecycleNodeMixin.on_shutdown(self, state)

    def destroy_node(self) -> None:
        """Stop worker and solver before the publishers go."""
        if self._processing is not None:
            self._processing.stop("the node has ended")
            if self._session is not None:
                self._session.solver.close()
            self._processing.join(_STOP_TIMEOUT_S)
        super().destroy_node()

    def _load(self) -> str:
        """A session of the patient that the parameters name; the problem, if there is one."""
        settings, started = self._settings, time.monotonic()
        try:
            session = Session(
                self, settings, lambda: self._settings, self._starts, self._broadcaster
            )
        except Exception as error:  # rclpy would swallow it and say nothing
            trace = "" if isinstance(error, XrayRegistrationError) else traceback.format_exc()
            self.get_logger().error(f"cannot load the patient: {error}\n{trace}".rstrip())
            return str(error)
        facts = session.solver.facts
        self.get_logger().info(
            f"CT {facts.ct_path}: {' x '.join(map(str, facts.shape_ijk))} voxels, isocentre (LPS "
            f"mm) {facts.isocentre_lps_mm.round(1).tolist()}, device {settings.device}; "
            f"loaded in {time.monotonic() - started:.1f} s"
        )
        self._session = session
        return ""

    def _start_processing(self) -> None:
        if self._session is None:
            self._status.set_state(State.ERROR, "no CT is loaded: call ~/load_ct")
            return
        self._status.set_state(State.WAITING_FOR_IMAGE, "no image received yet")
        self._processing.start(self._session)

    def _stop_processing(self, why: str) -> None:
        self._processing.stop(why)
        self._starts.reset()
        self._status.forget()

    def _unsubscribe(self) -> None:
        if self._intake is not None:
            self._intake.destroy()
        self._intake = None

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
        if not self._processing.join(_STOP_TIMEOUT_S):
            self.get_logger().error(
                f"the registration in progress has not ended within {_STOP_TIMEOUT_S:.0f} s"
            )

    def _release(self) -> None:
        self._close_session()
        if self._initialpose_subscription is not None:
            self.destroy_subscription(self._initialpose_subscription)
        self._initialpose_subscription = None
        self._is_configured = False
        self._status.set_state(State.UNCONFIGURED, "not configured")

    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if not self._settings.autostart:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    # --- parameters ----------------------------------------------------------------------------

    def _build_settings(self, values: Mapping[str, Value]) -> RegistrationSettings:
        settings = build_settings(values)
        session = self._session
        if session is not None:
            session.solver.facts.check_planned(settings.guard.planned_levels)
        return settings

    def _take_settings(self, settings: RegistrationSettings) -> None:
        self._settings = settings

    # --- services ------------------------------------------------------------------------------

    def _reset(self) -> Answer:
        """Forget every pose: nothing stands, and the next image needs a start."""
        with self._processing.publish_lock:
            self._processing.forget()
            self._starts.reset()
            self._status.forget()
            if self._session is not None:
                self._session.outputs.forget_pose()
            if self._processing.session is not None:
                self._status.set_state(State.WAITING_FOR_IMAGE, "reset: no image since")
            self._publish_status()
        return True, "all poses are forgotten"

    def _load_ct(self) -> Answer:
        """Load the patient that the parameters name now, in place of the present one."""
        if not self._is_configured:
            return False, "the node is not configured: configuring loads the CT"
        was_active = self._intake is not None
        self._stop_processing("another CT is being loaded")
        self._status.set_state(State.LOADING, "loading a CT")
        self._publish_status()
        self._close_session()
        if problem := self._load():
            # Not the old one again: it is not the patient that the parameters name.
            self._status.set_state(State.ERROR, f"no CT is loaded: {problem}")
            self._publish_status()
            return False, problem
        session = self._session
        assert session is not None
        if was_active:
            session.activate()
            self._start_processing()
        else:
            self._status.set_state(State.INACTIVE, "configured, not active")
        self._publish_status()
        return True, f"loaded {session.solver.facts.ct_path}"

    # --- topics in (executor's thread) ---------------------------------------------------------

    def _on_initialpose(self, message: PoseWithCovarianceStamped) -> None:
        try:
            matrix = matrix_from_pose(message.pose.pose, self._settings.ct_axes, "initialpose")
        except InputError as error:
            self.get_logger().error(str(error))
            return
        self._starts.set_initialpose(matrix, message.header.frame_id)
        self.get_logger().info("initialpose received")

    # --- diagnostics ---------------------------------------------------------------------------

    def _report_state(self) -> None:
        intake = self._intake
        if intake is not None and intake.lacks_camera_info and not self._is_busy():
            newest = "images arrive, but no camera_info with the stamp of an image"
            if self._status.state is State.WAITING_FOR_IMAGE:
                self._status.set_state(State.WAITING_FOR_CAMERA_INFO, newest)
        self._publish_status()

    def _is_busy(self) -> bool:
        return self._processing.is_busy

    def _publish_status(self) -> None:
        # Not while a frame is being published: half of what is said would be of the one before.
        with self._processing.publish_lock:
            session = self._processing.session
            self._status.publish(self._settings, None if session is None else session.guidance)


def main(args: list[str] | None = None) -> int:
    """Console entry: 0 on a normal end, 2 on parameters that cannot be used."""
    node: RegistrationNode | None = None
    try:
        rclpy.init(args=args)
        image_bridge()  # now, not with the first image
        node = RegistrationNode()
        leave_out_of_collections()
        executor = ManyThreads(_THREADS)
        executor.add_node(node)
        spin_on(executor)
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
