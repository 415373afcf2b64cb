"""truth_monitor: how far registration_node's poses are from the simulator's true ones.

It pairs ``registration_node/pose`` with ``ground_truth/pose`` of the same stamp, writes the error
of every image to the log, and a summary to /diagnostics and, at the end, to the log.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from std_msgs.msg import Header, String

from xray_registration.errors import XrayRegistrationError
from xray_registration.ros.diagnostics import stamp_text
from xray_registration.ros.parameters import NOT_GIVEN, ParameterSpec, When, declare, number
from xray_registration.ros.patient import load_patient
from xray_registration.ros.pose_messages import matrix_from_pose
from xray_registration.ros.registration_settings import patient_settings
from xray_registration.ros.spinning import spin_until, uninterrupted

_START = When.START
# Registrations take seconds; a truth that is older than so many images is no longer needed.
_TRUTHS = 200

SPECS: tuple[ParameterSpec, ...] = (
    ParameterSpec("ct_path", "example", "The CT, as for registration_node.", _START),
    ParameterSpec("label_map_path", "", "Label map on the CT's grid; empty = none.", _START),
    ParameterSpec("ct_axes", "lps", "Of the poses.", _START, choices=("lps", "ras")),
    ParameterSpec(
        "isocentre.labels",
        "",
        "Names in the label map, comma-separated: errors are measured at their centroids. Empty = "
        "at the corners of the box around the bone.",
        _START,
    ),
    ParameterSpec(
        "max_error_mm",
        2.0,
        "A pose with a larger error is reported as an error.",
        _START,
        minimum=0.0,
        maximum=1000.0,
    ),
)


class TruthMonitor(Node):
    """See docs/ros.md for topics and parameters."""

    def __init__(self, **kwargs: Any) -> None:
        """Load the CT; ``kwargs`` go to rclpy's node.

        Raises:
            InputError: parameters or files that cannot be used.
        """
        super().__init__("truth_monitor", **kwargs)
        values = declare(self, SPECS)
        self._ct_axes = str(values["ct_axes"])
        self._max_error_mm = number(values, "max_error_mm")
        settings = patient_settings({**values, "isocentre.point_mm": NOT_GIVEN}, self._ct_axes)
        ct, labels = load_patient(settings)
        if labels is not None and settings.isocentre_labels:
            centroids = labels.centroids_lps_mm()
            points = np.array([centroids[name] for name in settings.isocentre_labels])
        else:
            low, high = ct.bone_box_lps()
            corners = np.stack(np.meshgrid(*np.stack([low, high]).T), axis=-1)
            points = corners.reshape(-1, 3)
        self._points = np.c_[points, np.ones(len(points))]
        self._truths: dict[int, npt.NDArray[np.float64]] = {}
        self._errors_mm: list[float] = []
        self._images = 0
        kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(PoseStamped, "ground_truth/pose", self._on_truth, kept)
        self.create_subscription(
            PoseWithCovarianceStamped, "registration_node/pose", self._on_pose, 100
        )
        self.create_subscription(String, "registration_node/result", self._on_result, 100)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def summary(self) -> str:
        """One line."""
        if not self._errors_mm:
            return f"{self._images} images, no pose"
        return (
            f"{self._images} images, {len(self._errors_mm)} poses: true mTRE median "
            f"{np.median(self._errors_mm):.2f} mm, largest {max(self._errors_mm):.2f} mm"
        )

    def _on_truth(self, message: PoseStamped) -> None:
        self._truths[_nanoseconds(message)] = matrix_from_pose(
            message.pose, self._ct_axes, "ground_truth/pose"
        )
        while len(self._truths) > _TRUTHS:
            self._truths.pop(next(iter(self._truths)))

    def _on_result(self, message: String) -> None:
        self._images += 1

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        stamp_ns = _nanoseconds(message)
        true = self._truths.get(stamp_ns)
        if true is None:
            return
        found = matrix_from_pose(message.pose.pose, self._ct_axes, "registration_node/pose")
        offsets = (self._points @ (found - true).T)[:, :3]
        error_mm = float(np.linalg.norm(offsets, axis=1).mean())
        self._errors_mm.append(error_mm)
        text = f"image {stamp_text(stamp_ns)}: true mTRE {error_mm:.2f} mm"
        is_wrong = error_mm > self._max_error_mm
        logger = self.get_logger()
        if is_wrong:
            logger.error(f"{text}, more than {self._max_error_mm:g} mm")
        else:
            logger.info(text)
        self._publish(error_mm, is_wrong)

    def _publish(self, error_mm: float, is_wrong: bool) -> None:
        name = self.get_fully_qualified_name().lstrip("/")
        level = DiagnosticStatus.ERROR if is_wrong else DiagnosticStatus.OK
        status = DiagnosticStatus(level=level, name=f"{name}: truth", message=self.summary())
        values = {
            "mtre_mm": error_mm,
            "mtre_median_mm": float(np.median(self._errors_mm)),
            "mtre_max_mm": max(self._errors_mm),
            "poses": len(self._errors_mm),
        }
        status.values = [KeyValue(key=k, value=f"{v:.6g}") for k, v in values.items()]
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=[status]))


def _nanoseconds(message: PoseStamped | PoseWithCovarianceStamped) -> int:
    return int(Time.from_msg(message.header.stamp).nanoseconds)


def main(args: list[str] | None = None) -> int:
    """Console entry: 0 on a normal end, 2 on parameters or files that cannot be used."""
    node: TruthMonitor | None = None
    try:
        rclpy.init(args=args)
        node = TruthMonitor()
        spin_until(node, lambda made: False)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (XrayRegistrationError, ParameterException) as error:
        print(f"truth_monitor: {error}", file=sys.stderr)
        return 2
    finally:
        with uninterrupted():
            if node is not None:
                # Not through the logger: the context may be shut down already.
                print(f"truth_monitor: {node.summary()}", flush=True)
                node.destroy_node()
            rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
