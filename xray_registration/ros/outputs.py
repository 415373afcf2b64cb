"""The registration node's publishers and what goes out of them."""

from __future__ import annotations

import json

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from xray_registration.imaging.volume import CTVolume
from xray_registration.ros.conversions import array_to_image
from xray_registration.ros.frame_processor import FrameProcessor
from xray_registration.ros.frame_report import FrameReport
from xray_registration.ros.pose_messages import pose_with_covariance_stamped, transform_stamped
from xray_registration.ros.qos import LATCHED
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.tf import TransformSender


class Outputs:
    """Made at configure; the pose topics are silent unless the node is active."""

    def __init__(self, node: LifecycleNode, broadcaster: TransformSender) -> None:
        self._node = node
        self._pose = node.create_lifecycle_publisher(PoseWithCovarianceStamped, "~/pose", LATCHED)
        self._result = node.create_lifecycle_publisher(String, "~/result", 10)
        self._overlay = node.create_lifecycle_publisher(Image, "~/overlay", 1)
        self._broadcaster = broadcaster

    def publish_pose(self, report: FrameReport, settings: RegistrationSettings) -> None:
        """TF and ~/pose of an accepted image, with the image's stamp; nothing for any other."""
        camera_from_ct, result = report.camera_from_ct, report.result
        if camera_from_ct is None or result is None:
            return
        header, axes = _header(report), settings.ct_axes
        if settings.tf_broadcast:
            self._broadcaster.sendTransform(
                transform_stamped(camera_from_ct, header, settings.child_frame_id, axes)
            )
        self._pose.publish(
            pose_with_covariance_stamped(
                camera_from_ct, result.covariance, result.isocentre_lps_mm, header, axes
            )
        )

    def publish_result(
        self, report: FrameReport, settings: RegistrationSettings, ct: CTVolume
    ) -> None:
        """~/result of every image, as JSON."""
        record = {
            **report.to_dict(settings.ct_axes, ct),
            "child_frame_id": settings.child_frame_id,
        }
        self._result.publish(String(data=json.dumps(record, allow_nan=False)))

    def draw_overlay(
        self, report: FrameReport, processor: FrameProcessor, settings: RegistrationSettings
    ) -> Image | None:
        """The overlay of a decoded image; None when nobody wants it or no picture."""
        wanted = settings.overlay_always or self._overlay.get_subscription_count() > 0
        if not wanted or report.shot is None:
            return None
        result, shot = report.result, report.shot
        canvas = processor.overlay(
            shot,
            None if result is None else result.rig_from_ct,
            accepted=report.camera_from_ct is not None,
            caption=_caption(report),
        )
        return array_to_image(canvas, _header(report), "rgb8")

    def publish_overlay(self, overlay: Image) -> None:
        """~/overlay."""
        self._overlay.publish(overlay)

    def destroy(self) -> None:
        """Take all publishers off the node."""
        for publisher in (self._pose, self._result, self._overlay):
            self._node.destroy_lifecycle_publisher(publisher)


def _header(report: FrameReport) -> Header:
    return Header(stamp=report.frame.image.header.stamp, frame_id=report.parent_frame_id)


def _caption(report: FrameReport) -> str:
    if report.result is None:
        return report.reason
    return f"{report.reason}  similarity {report.result.similarity:.3f}"
