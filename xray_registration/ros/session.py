"""One patient at the node: the solver that knows the CT, and the topics that speak of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xray_registration.errors import XrayRegistrationError
from xray_registration.ros.frame_report import FrameReport
from xray_registration.ros.guidance import Guidance
from xray_registration.ros.image_flow import ImageFlow
from xray_registration.ros.marker_output import MarkerOutput
from xray_registration.ros.outputs import Outputs
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.remote_solver import RemoteSolver
from xray_registration.ros.solver import LocalSolver, Solver
from xray_registration.ros.start_pose import StartPosePolicy
from xray_registration.ros.tf import TransformSender
from xray_registration.ros.tf_lookup import TransformLookup, make_lookup


class Session:
    """Made at configure and by ~/load_ct; ``close`` gives everything back."""

    def __init__(
        self,
        node: Any,
        settings: RegistrationSettings,
        current: Callable[[], RegistrationSettings],
        starts: StartPosePolicy,
        broadcaster: TransformSender,
    ) -> None:
        """Load the patient and create the publishers.

        Args:
            node: the lifecycle node.
            settings: of this session.
            current: the settings as they are now, for what may change while it lasts.
            starts: start poses, shared with whoever hears initialpose.
            broadcaster: of /tf.

        Raises:
            XrayRegistrationError: the patient cannot be used.
        """
        logger = node.get_logger()
        self._logger = logger
        self.solver: Solver
        if settings.solver_process:
            self.solver = RemoteSolver(settings, lambda: current().solver_timeout_s)
        else:
            self.solver = LocalSolver(settings)
        self._lookup: TransformLookup | None = make_lookup(node) if _needs_tf(settings) else None
        say = (logger.warning, logger.error)
        self.flow = ImageFlow(self.solver, starts, *say, self._lookup)
        self.outputs = Outputs(node, broadcaster, settings)
        self.guidance = Guidance(node, settings.guidance.trajectories, self._lookup)
        self._markers = MarkerOutput(node, settings.guidance.trajectories)

    def activate(self) -> None:
        """Let the publishers speak, where the node's transition has not done so."""
        for part in (self.outputs, self.guidance, self._markers):
            part.activate()

    def show_markers(
        self, settings: RegistrationSettings, report: FrameReport | None = None
    ) -> None:
        """Publish ~/markers when what they show has changed; a failure costs only them."""
        try:
            self._markers.publish(self.solver, self._markers.order(settings, report))
        except XrayRegistrationError as error:
            self._logger.error(f"markers: {error}", throttle_duration_sec=10.0)

    def close(self) -> None:
        """Take everything off the node."""
        self.solver.close()
        for part in (self.outputs, self.guidance, self._markers):
            part.destroy()
        if self._lookup is not None:
            self._lookup.destroy()
            self._lookup = None


def _needs_tf(settings: RegistrationSettings) -> bool:
    """Whether anything may be looked up on /tf; otherwise it is not listened to."""
    from_views = any(view.camera_from_rig is None for view in settings.views)
    return from_views or bool(settings.guidance.trajectories)
