"""A bag or folder through the very code of registration_node, into a result bag and figures.

Images are handled by ``ImageFlow`` and published by ``Outputs``, as in the node; only what stands
for the node here writes into a bag. Time is the bag's: no clock is read, no image is dropped, and
how long a registration took is in the figures but not in the bag, so the same bag gives the same
result bag.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.evaluation.aggregate import error_summary
from xray_registration.evaluation.metrics import PoseErrors, mpe_mm, pose_errors
from xray_registration.evaluation.targets import (
    TargetSet,
    bone_surface_targets,
    centroid_targets,
    landmark_targets,
)
from xray_registration.files import write_atomically
from xray_registration.geometry.json_files import write_json
from xray_registration.registration.tracker import Mode
from xray_registration.ros.bag_files import BagWriter, type_name
from xray_registration.ros.diagnostics import Monitor, State, stamp_text
from xray_registration.ros.frame_processor import FrameProcessor
from xray_registration.ros.frame_report import Case, FrameReport, failed
from xray_registration.ros.image_flow import ImageFlow
from xray_registration.ros.offline_source import OfflineFrame, OfflineSource
from xray_registration.ros.outputs import Outputs
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.solver import LocalSolver
from xray_registration.ros.start_pose import StartPosePolicy
from xray_registration.ros.tf import PlainTransformBroadcaster
from xray_registration.ros.view_consistency import Disagreement, PosedView, disagreements

Matrix = npt.NDArray[np.float64]

NODE = "/registration_node"
DIAGNOSTICS = "/diagnostics"
# A wrong pose that the gate let pass, in a report's count.
FALSE_ACCEPT_MM = 2.0
_BONE_HU, _BONE_TARGETS = 250.0, 500

_log = logging.getLogger(__name__)


class BagNode:
    """Stands for the node: what is published on it goes into a bag, at the time set last."""

    def __init__(self, writer: BagWriter) -> None:
        self._writer = writer
        self.time_ns = 0

    def create_publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> BagPublisher:
        """As rclpy's."""
        name = topic.replace("~", NODE, 1) if topic.startswith("~") else topic
        latched = isinstance(qos, QoSProfile) and qos.durability is DurabilityPolicy.TRANSIENT_LOCAL
        self._writer.add_topic(name, type_name(kind), latched)
        return BagPublisher(self, name)

    create_lifecycle_publisher = create_publisher

    def write(self, topic: str, message: Any) -> None:
        """Append a message."""
        self._writer.write(topic, message, self.time_ns)


class BagPublisher:
    """A publisher whose only subscriber is the bag."""

    def __init__(self, node: BagNode, topic: str) -> None:
        self._node = node
        self._topic = topic

    def publish(self, message: Any) -> None:
        """Into the bag."""
        self._node.write(self._topic, message)

    def get_subscription_count(self) -> int:
        """The bag; whether overlays are wanted is said by ``overlay.always``."""
        return 0


@dataclass(frozen=True)
class ImageRecord:
    """What became of one image, or of the views of one moment.

    Errors need a truth and a pose, accepted or not. ``moment``: see `OfflineFrame`.
    """

    name: str
    stamp: str
    state: str
    accepted: bool
    reason: str
    message: str
    start_source: str | None
    tracking: str | None
    similarity: float | None
    seconds: float | None
    has_truth: bool
    errors: PoseErrors | None = None
    mpe_mm: float | None = None
    camera_from_ct_lps: list[list[float]] | None = None
    moment: str = ""

    def row(self) -> dict[str, Any]:
        """Flat, for CSV and JSON."""
        row = asdict(self)
        errors = row.pop("errors") or {}
        return {**row, **errors}


@dataclass(eq=False)
class OfflineEvaluation:
    """The images of a source, one after the other.

    Attributes:
        settings: of the node.
        processor: of the patient.
        landmarks_lps_mm: targets of the errors; None: the structures of isocentre.labels, else
            those of overlay.labels, else points of the bone's surface.
    """

    settings: RegistrationSettings
    processor: FrameProcessor
    landmarks_lps_mm: dict[str, Matrix] | None = None
    records: list[ImageRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    view_consistency: list[Disagreement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.targets = self._targets()
        self._last_joint: tuple[str, PosedView] = ("", PosedView("", False, np.eye(4), np.eye(4)))

    def run(self, source: OfflineSource, writer: BagWriter) -> None:
        """Register every image of the source and write what the node would have published.

        ``records`` and the bag hold what was done also when this raises.

        Raises:
            InputError: what ``source`` raises. A damaged rest is no error but a problem.
        """
        node = BagNode(writer)
        as_node = cast(LifecycleNode, node)
        broadcaster = PlainTransformBroadcaster(as_node)
        settings = replace(self.settings, views=source.views)
        outputs = Outputs(as_node, broadcaster, settings, with_drr=False)
        writer.add_topic(DIAGNOSTICS, "diagnostic_msgs/msg/DiagnosticArray")
        monitor = Monitor(NODE)
        starts = StartPosePolicy()
        solver = LocalSolver(self.settings, self.processor)
        flow = ImageFlow(solver, starts, self._problem, self._problem)
        try:
            for item in source.frames(starts):
                monitor.count(received=1)
                report = self._report(flow, item)
                self.records.append(self._record(item, report))
                self._compare(item, report)
                if item.moment:
                    continue
                node.time_ns = item.time_ns
                self._publish(node, outputs, monitor, solver, _timeless(report), item)
        finally:
            self.problems += [text for text in source.problems if text not in self.problems]

    def _compare(self, item: OfflineFrame, report: FrameReport) -> None:
        """Keep a joint pose; a view alone is compared with that of its moment."""
        if report.result is None:
            return
        rig = np.eye(4) if item.camera_from_rig is None else item.camera_from_rig
        name = item.name.partition(" ")[0] if item.moment else ""
        posed = PosedView(name, report.rig_from_ct is not None, report.result.rig_from_ct, rig)
        if not item.moment:
            self._last_joint = (item.name, posed)
        elif self._last_joint[0] == item.moment:
            self.view_consistency += disagreements(
                item.moment,
                self._last_joint[1],
                [posed],
                self.targets.points_lps_mm,
                self.processor.isocentre_lps_mm,
            )

    def _report(self, flow: ImageFlow, item: OfflineFrame) -> FrameReport:
        try:
            return flow.process(item.frame, item.settings)
        except Exception as error:  # as in the node: a defect costs one image
            _log.error("%s: %s", item.name, "".join(traceback.format_exception(error)))
            parent = item.settings.parent_frame_id or item.frame.image.header.frame_id
            return failed(Case(item.frame, parent), error)

    def _publish(
        self,
        node: BagNode,
        outputs: Outputs,
        monitor: Monitor,
        solver: LocalSolver,
        report: FrameReport,
        item: OfflineFrame,
    ) -> None:
        settings = item.settings
        outputs.publish_pose(report, settings)
        monitor.count(**{report.counter: 1})
        monitor.set_image(report.state, report.message, report.values())
        outputs.publish_result(report, settings, solver.facts)
        stamp = Time(sec=item.time_ns // 10**9, nanosec=item.time_ns % 10**9)
        node.write(DIAGNOSTICS, monitor.message(Header(stamp=stamp)))
        try:
            outputs.publish(outputs.draw(report, solver, settings))
        except Exception as error:  # a picture must not cost the figures
            self._problem(f"{item.name}: overlay: {error}")

    def _record(self, item: OfflineFrame, report: FrameReport) -> ImageRecord:
        result, truth = report.result, item.truth_camera_from_ct
        errors, projection = None, None
        if truth is not None and result is not None and report.case.cameras:
            # in the axes of the (first) camera, where depth and plane have a meaning
            first, camera = report.case.camera_from_rig[0], report.case.cameras[0]
            pose, truth = first @ result.rig_from_ct, first @ truth
            points = self.targets.points_lps_mm
            errors = pose_errors(pose, truth, points, self.processor.isocentre_lps_mm)
            if camera.sdd_mm is not None:
                try:
                    projection = mpe_mm(pose, truth, camera, points)
                except InputError as error:  # a target behind the source has no projection
                    self._problem(f"{item.name}: {error}")
        return ImageRecord(
            name=item.name,
            stamp=stamp_text(item.frame.stamp_ns),
            state=report.state.value,
            accepted=report.rig_from_ct is not None,
            reason=report.reason,
            message=report.message,
            start_source=None if report.start_source is None else report.start_source.value,
            tracking=None if report.tracked is None else report.tracked.mode.value,
            similarity=None if result is None else _known(result.similarity),
            seconds=None if result is None else _known(result.seconds),
            has_truth=truth is not None,
            errors=errors,
            mpe_mm=projection,
            camera_from_ct_lps=None if result is None else result.rig_from_ct.tolist(),
            moment=item.moment,
        )

    def _targets(self) -> TargetSet:
        if self.landmarks_lps_mm:
            return landmark_targets(self.landmarks_lps_mm, "--landmarks")
        labels = self.processor.labels
        if labels is not None:
            wanted = (self.settings.patient.isocentre_labels, self.settings.overlay_labels)
            for patterns in wanted:
                # a pattern may be of structures that this patient has nothing of
                names = [n for n in labels.names.values() if _matches(n, patterns)]
                if names:
                    return centroid_targets(labels, names)
        return bone_surface_targets(self.processor.ct, _BONE_HU, _BONE_TARGETS)

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    # --- figures -------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """Counts, errors, times; JSON-ready, unknown figures are null."""
        # a view alone, beside all of its moment together, is a comparison and no image more
        records = [record for record in self.records if not record.moment]
        accepted = [record for record in records if record.accepted]
        scored = [record for record in records if record.has_truth]
        summary: dict[str, Any] = {
            "images": len(records),
            "accepted": len(accepted),
            "states": {
                state.value: number
                for state in State
                if (number := sum(record.state == state.value for record in records))
            },
            "tracking": {
                mode.value: number
                for mode in Mode
                if (number := sum(record.tracking == mode.value for record in records))
            },
            "images_with_truth": len(scored),
            "targets": self.targets.description,
            "seconds_median": _median([r.seconds for r in records]),
            "problems": self.problems,
        }
        if self.view_consistency:
            summary["view_consistency"] = [d.to_dict() for d in self.view_consistency]
        if scored:
            # an image without an accepted pose has failed, whatever its rejected pose was
            everything = [r.errors.mtre_mm if r.accepted and r.errors else math.inf for r in scored]
            kept = [r.errors.mtre_mm for r in scored if r.accepted and r.errors]
            summary["mtre_all"] = _finite(error_summary(everything))
            summary["mtre_accepted"] = _finite(error_summary(kept))
            summary["false_accepts"] = sum(error > FALSE_ACCEPT_MM for error in kept)
        return summary

    def write(self, folder: Path, about: dict[str, Any]) -> None:
        """evaluation.json and images.csv."""
        rows = [record.row() for record in self.records]
        content = {**about, "summary": self.summary(), "images": rows}
        write_json(folder / "evaluation.json", _finite(content))
        write_atomically(folder / "images.csv", _csv(rows).encode())


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _timeless(report: FrameReport) -> FrameReport:
    """Without the duration, which is the one thing that differs from run to run."""
    if report.result is None:
        return report
    return replace(report, result=replace(report.result, seconds=math.nan))


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    names = list(
        dict.fromkeys(name for row in rows for name in row if name != "camera_from_ct_lps")
    )
    writer = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
