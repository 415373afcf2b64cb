"""~/markers: published at activation and again when the C-arm or the patient has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from visualization_msgs.msg import MarkerArray

from xray_registration.ros.frame_report import FrameReport
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.markers import Beam, MarkerOrder
from xray_registration.ros.qos import LATCHED
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.solver import Solver


class MarkerOutput:
    """The latched publisher, and what its last message showed."""

    def __init__(self, node: Any, trajectories: tuple[Trajectory, ...]) -> None:
        """``node``: a lifecycle node; ``trajectories``: of the plan."""
        self._node = node
        self._trajectories = trajectories
        self._publisher = node.create_lifecycle_publisher(MarkerArray, "~/markers", LATCHED)
        self._shown: tuple[Any, ...] | None = None

    def order(
        self, settings: RegistrationSettings, report: FrameReport | None = None
    ) -> MarkerOrder | None:
        """What is to be shown, with the beams of ``report``; None when that is shown already."""
        beams: tuple[Beam, ...] = ()
        parent = ""
        if report is not None and report.case.cameras and report.case.camera_from_rig:
            parent = report.parent_frame_id
            beams = tuple(
                Beam(view.name, camera, np.asarray(np.linalg.inv(matrix), np.float64))
                for view, camera, matrix in zip(
                    settings.views,
                    report.case.cameras,
                    report.case.camera_from_rig,
                    strict=True,
                )
            )
        # a rig that jitters below a tenth of a millimetre is the same picture
        key = (parent, *((b.camera, b.rig_from_camera.round(1).tobytes()) for b in beams))
        if key == self._shown or (self._shown is not None and not beams):
            return None
        self._shown = key
        return MarkerOrder(
            ct_axes=settings.ct_axes,
            child_frame_id=settings.child_frame_id,
            label_patterns=settings.overlay_labels,
            trajectories=self._trajectories,
            parent_frame_id=parent,
            beams=beams,
        )

    def publish(self, solver: Solver, order: MarkerOrder | None) -> None:
        """Have the solver make the message, and publish it.

        Raises:
            XrayRegistrationError: it cannot be made.
        """
        if order is not None:
            self._publisher.publish(solver.markers(order))

    def activate(self) -> None:
        """Let the publisher speak."""
        self._publisher.on_activate(None)

    def destroy(self) -> None:
        """Take the publisher off the node."""
        self._node.destroy_lifecycle_publisher(self._publisher)
