"""Planned trajectories as poses in the robot's frame: only while a registration stands.

For every trajectory ``~/guidance/<name>/entry`` and ``.../target``: poses whose +z is the way of
the instrument, with the registration's covariance carried to that very point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import PoseWithCovarianceStamped
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.ros.frame_report import FrameReport
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.output_settings import GuidanceSettings
from xray_registration.ros.pose_messages import covariance_about, set_pose
from xray_registration.ros.tf_lookup import TransformLookup

Matrix = npt.NDArray[np.float64]

ENDS = ("entry", "target")


def pose_of(
    trajectory: Trajectory, end: str, report: FrameReport, frame_from_carm: Matrix, header: Header
) -> PoseWithCovarianceStamped:
    """Pose of one end of a trajectory in ``header.frame_id``, of an accepted report.

    ``frame_from_carm`` (4, 4) mm, taken for exact.
    """
    carm_from_ct, result = report.rig_from_ct, report.result
    assert carm_from_ct is not None
    assert result is not None
    ct_from_end = trajectory.ct_from_entry if end == "entry" else trajectory.ct_from_target
    message = PoseWithCovarianceStamped(header=header)
    set_pose(message.pose.pose, frame_from_carm @ carm_from_ct @ ct_from_end)
    message.pose.covariance = covariance_about(
        result.covariance,
        carm_from_ct,
        result.isocentre_lps_mm,
        ct_from_end[:3, 3],
        frame_from_carm[:3, :3],
    ).reshape(36)
    return message


class Guidance:
    """The publishers of one plan."""

    def __init__(
        self, node: Any, trajectories: tuple[Trajectory, ...], lookup: TransformLookup | None
    ) -> None:
        """``node``: a lifecycle node; ``lookup``: /tf, for a frame without a given transform."""
        self._node = node
        self._lookup = lookup
        self.trajectories = trajectories
        self._failure = "nothing has been published"
        self._publishers = {
            (trajectory.name, end): node.create_lifecycle_publisher(
                PoseWithCovarianceStamped, f"~/guidance/{trajectory.name}/{end}", 10
            )
            for trajectory in trajectories
            for end in ENDS
        }

    def publish(self, report: FrameReport, settings: GuidanceSettings, refusal: str) -> bool:
        """Publish all trajectories of an accepted report, unless ``refusal`` says why not."""
        self._failure = ""
        if refusal or not self.trajectories or report.rig_from_ct is None:
            return False
        try:
            frame_id, matrix = self._frame(report, settings)
        except InputError as error:
            self._failure = str(error)
            return False
        header = Header(stamp=report.frame.image.header.stamp, frame_id=frame_id)
        for trajectory in self.trajectories:
            for end in ENDS:
                message = pose_of(trajectory, end, report, matrix, header)
                self._publishers[trajectory.name, end].publish(message)
        return True

    def values(self, refusal: str) -> dict[str, Any]:
        """Key-values of the diagnostics; ``refusal``: why no registration stands, if none does."""
        if not self.trajectories:
            return {"guidance": "off"}
        text = refusal or self._failure
        if text:
            return {"guidance": "refused", "guidance_text": text}
        return {"guidance": "published"}

    def activate(self) -> None:
        """Let the publishers speak."""
        for publisher in self._publishers.values():
            publisher.on_activate(None)

    def destroy(self) -> None:
        """Take all publishers off the node."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}

    def _frame(self, report: FrameReport, settings: GuidanceSettings) -> tuple[str, Matrix]:
        parent = report.parent_frame_id
        if settings.frame_id in ("", parent):
            return parent, np.eye(4)
        if settings.frame_from_carm is not None:
            return settings.frame_id, settings.frame_from_carm
        if self._lookup is None:
            raise InputError("parameter 'guidance.frame_from_carm' is not given, and no /tf here")
        stamp_ns = report.frame.stamp_ns
        matrix = self._lookup.lookup(settings.frame_id.lstrip("/"), parent.lstrip("/"), stamp_ns)
        return settings.frame_id, matrix
