"""The registration node's publishers and what goes out of them."""

from __future__ import annotations

import json
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from xray_registration.ros.conversions import array_to_image
from xray_registration.ros.frame_report import FrameReport
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.pose_messages import pose_with_covariance_stamped, transform_stamped
from xray_registration.ros.qos import LATCHED
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.solver import PatientFacts, PictureOrder, Solver
from xray_registration.ros.tf import TransformSender

Drawn = list[tuple[Any, Image]]


class Outputs:
    """Made at configure; the topics are silent unless the node is active."""

    def __init__(
        self,
        node: Any,
        broadcaster: TransformSender,
        settings: RegistrationSettings,
        with_drr: bool = True,
    ) -> None:
        """``node``: a lifecycle node, or a bag that stands for one."""
        self._node = node
        self._broadcaster = broadcaster
        self._pose = node.create_lifecycle_publisher(PoseWithCovarianceStamped, "~/pose", LATCHED)
        self._result = node.create_lifecycle_publisher(String, "~/result", 10)
        self._overlays = self._of_views(settings, "overlay")
        self._drrs = self._of_views(settings, "drr") if with_drr else []

    def publish_pose(self, report: FrameReport, settings: RegistrationSettings) -> None:
        """TF and ~/pose of an accepted image, with the image's stamp; nothing for any other."""
        rig_from_ct, result = report.rig_from_ct, report.result
        if rig_from_ct is None or result is None:
            return
        header, axes = _header(report), settings.ct_axes
        if settings.tf_broadcast:
            self._broadcaster.sendTransform(
                transform_stamped(rig_from_ct, header, settings.child_frame_id, axes)
            )
        self._pose.publish(
            pose_with_covariance_stamped(
                rig_from_ct, result.covariance, result.isocentre_lps_mm, header, axes
            )
        )

    def forget_pose(self) -> None:
        """Take the latched pose away: a subscriber that comes now hears none."""
        was_active = self._pose.is_activated
        self._node.destroy_lifecycle_publisher(self._pose)
        self._pose = self._node.create_lifecycle_publisher(
            PoseWithCovarianceStamped, "~/pose", LATCHED
        )
        if was_active:
            self._pose.on_activate(None)

    def publish_result(
        self, report: FrameReport, settings: RegistrationSettings, facts: PatientFacts
    ) -> None:
        """~/result of every image, as JSON."""
        record = {
            **report.to_dict(settings.ct_axes, facts.ct_path, facts.ct_sha256),
            "child_frame_id": settings.child_frame_id,
        }
        self._result.publish(String(data=json.dumps(record, allow_nan=False)))

    def draw(
        self,
        report: FrameReport,
        solver: Solver,
        settings: RegistrationSettings,
        trajectories: tuple[Trajectory, ...] = (),
    ) -> Drawn:
        """The pictures of a decoded image that somebody wants, to be handed to ``publish``."""
        wants_overlay = settings.overlay_always or _is_heard(self._overlays)
        wants_drr = report.result is not None and _is_heard(self._drrs)
        if not report.case.cameras or not (wants_overlay or wants_drr):
            return []
        result = report.result
        pictures = solver.draw(
            PictureOrder(
                settings=settings,
                camera_from_rig=report.case.camera_from_rig,
                rig_from_ct=None if result is None else result.rig_from_ct,
                accepted=report.rig_from_ct is not None,
                caption=_caption(report),
                trajectories=trajectories,
                overlay=wants_overlay,
                drr=wants_drr,
            )
        )
        headers = _headers(report)
        drawn = [
            (publisher, array_to_image(picture, header, "rgb8"))
            for publisher, picture, header in zip(
                self._overlays, pictures.overlays, headers, strict=False
            )
        ]
        drawn += [
            (publisher, array_to_image(picture, header, "mono8"))
            for publisher, picture, header in zip(self._drrs, pictures.drrs, headers, strict=False)
        ]
        return drawn

    @staticmethod
    def publish(drawn: Drawn) -> None:
        """~/overlay and ~/drr."""
        for publisher, image in drawn:
            publisher.publish(image)

    def activate(self) -> None:
        """Let the publishers speak."""
        for publisher in (self._pose, self._result, *self._overlays, *self._drrs):
            publisher.on_activate(None)

    def destroy(self) -> None:
        """Take all publishers off the node."""
        for publisher in (self._pose, self._result, *self._overlays, *self._drrs):
            self._node.destroy_lifecycle_publisher(publisher)

    def _of_views(self, settings: RegistrationSettings, topic: str) -> list[Any]:
        return [
            self._node.create_lifecycle_publisher(Image, f"~/{view.topic(topic)}", 1)
            for view in settings.views
        ]


def _is_heard(publishers: list[Any]) -> bool:
    return any(publisher.get_subscription_count() > 0 for publisher in publishers)


def _header(report: FrameReport) -> Header:
    return Header(stamp=report.frame.image.header.stamp, frame_id=report.parent_frame_id)


def _headers(report: FrameReport) -> list[Header]:
    """Of the pictures: the frame of each view's image; one view: of the pose."""
    views = report.frame.views
    if len(views) == 1:
        return [_header(report)]
    return [view.image.header for view in views]


def _caption(report: FrameReport) -> str:
    if report.guard.is_error:
        return report.guard.text
    if report.result is None:
        return report.reason
    return f"{report.reason}  similarity {report.result.similarity:.3f}"
