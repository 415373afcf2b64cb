"""Where offline evaluation takes its images from: the frames of a bag."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.ros.bag_files import BagDamagedError, BagReader
from xray_registration.ros.diagnostics import stamp_text
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.pairing import ExactStampPairer
from xray_registration.ros.pose_messages import matrix_from_pose, matrix_from_transform_message
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.start_pose import StartPosePolicy
from xray_registration.ros.view_settings import ViewSettings

Matrix = npt.NDArray[np.float64]

IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
INITIALPOSE = "geometry_msgs/msg/PoseWithCovarianceStamped"
TRUTH_TYPES = (
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
    "tf2_msgs/msg/TFMessage",
)
# A truth this close to an image's stamp belongs to it; a C-arm moves slowly.
TRUTH_TOLERANCE_NS = 10_000_000
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class OfflineFrame:
    """One image with all that is known of it.

    Attributes:
        frame: as the node gets it.
        settings: for this image.
        time_ns: the bag's time, at which results of it are written.
        truth_camera_from_ct: (4, 4) LPS mm, None when unknown.
        name: for reports.
        moment: name of the joint registration that this view, registered alone, is compared with;
            empty otherwise. Its result is reported and not published.
        camera_from_rig: (4, 4) mm, of such a view.
    """

    frame: Frame
    settings: RegistrationSettings
    time_ns: int
    truth_camera_from_ct: Matrix | None
    name: str
    moment: str = ""
    camera_from_rig: Matrix | None = None


class OfflineSource(Protocol):
    """Something that has frames. ``problems`` is complete after the last frame."""

    problems: list[str]

    @property
    def views(self) -> tuple[ViewSettings, ...]:
        """As many as a frame of it has at the most; results have topics of their names."""

    def frames(self, starts: StartPosePolicy) -> Iterator[OfflineFrame]:
        """The images in order; poses that belong to them as starts are told to ``starts``."""


@dataclass(frozen=True)
class BagTopics:
    """Topics of a bag; empty ones are found by their type."""

    image: str = ""
    camera_info: str = ""
    initialpose: str = "/initialpose"
    truth: str = ""


@dataclass(eq=False)
class BagSource:
    """Image and CameraInfo of equal stamps, initialpose and truth of a bag.

    Attributes:
        path: the bag.
        settings: of all its images.
        topics: where its images are.
        problems: what was skipped and why.
    """

    path: Path
    settings: RegistrationSettings
    topics: BagTopics = field(default_factory=BagTopics)
    problems: list[str] = field(default_factory=list)

    @property
    def views(self) -> tuple[ViewSettings, ...]:
        """One."""
        return self.settings.views

    def frames(self, starts: StartPosePolicy) -> Iterator[OfflineFrame]:
        """In the order of the bag.

        Raises:
            InputError: no bag; topics missing, of another type or ambiguous; not one image.
        """
        with BagReader(self.path) as bag:
            topics = self._resolved(bag)
            truths = self._truths(bag, topics.truth)
            count = 0
            for frame, time_ns in self._paired(bag, topics, starts):
                count += 1
                truth = self._truth_of(frame.stamp_ns, truths) if topics.truth else None
                name = f"{topics.image} {stamp_text(frame.stamp_ns)}"
                yield OfflineFrame(frame, self.settings, time_ns, truth, name)
            if count == 0 and not self.problems:
                raise InputError(f"{self.path}: topic {topics.image} holds no images.")
            if count == 0:
                raise InputError(f"{self.path}: no image could be used. {' '.join(self.problems)}")

    def _resolved(self, bag: BagReader) -> BagTopics:
        image, info = self.topics.image, self.topics.camera_info
        if image:
            bag.need_topic(image, (IMAGE,), "images")
        else:
            image = bag.only_topic(IMAGE, "the X-ray", "--image-topic")
        if self.settings.use_camera_info and not info:
            beside = f"{image.rpartition('/')[0]}/camera_info"
            if bag.topics.get(beside) == CAMERA_INFO:
                info = beside
            else:
                info = bag.only_topic(
                    CAMERA_INFO,
                    f"the camera of {image}; without one give camera.sdd_mm, camera.pixel_pitch_mm "
                    "and use_camera_info: false in --params",
                    "--camera-info-topic",
                )
        if info:
            bag.need_topic(info, (CAMERA_INFO,), "camera_info")
        if self.topics.truth:
            bag.need_topic(self.topics.truth, TRUTH_TYPES, "truth")
        return BagTopics(image, info, self.topics.initialpose, self.topics.truth)

    def _paired(
        self, bag: BagReader, topics: BagTopics, starts: StartPosePolicy
    ) -> Iterator[tuple[Frame, int]]:
        # Offline nothing has to be given up for being late: a half waits until the end.
        pairer: ExactStampPairer[Any, Any] = ExactStampPairer(capacity=1 << 30)
        wanted = [t for t in (topics.image, topics.camera_info, topics.initialpose) if t]
        stamps: dict[str, list[int]] = {topics.image: [], topics.camera_info: []}
        messages = bag.messages(wanted)
        while True:
            try:
                topic, time_ns, message = next(messages)
            except StopIteration:
                break
            except BagDamagedError as damage:
                self.problems.append(str(damage))
                break
            if topic == topics.initialpose and topic not in (topics.image, topics.camera_info):
                self._hear(message, starts, bag.topics[topic])
                continue
            stamp = stamp_ns(message.header.stamp)
            stamps[topic].append(stamp)
            if not topics.camera_info:
                yield Frame.single(message, None, stamp, 0.0), time_ns
                continue
            add = pairer.add_first if topic == topics.image else pairer.add_second
            pair = add(stamp, message)
            if pair is not None:
                yield Frame.single(pair[0], pair[1], stamp, 0.0), time_ns
        if topics.camera_info:
            self._explain_unpaired(topics, stamps)

    def _hear(self, message: Any, starts: StartPosePolicy, kind: str) -> None:
        if kind != INITIALPOSE:
            self.problems.append(f"{self.topics.initialpose} has the type {kind}; it is ignored.")
            return
        try:
            matrix = matrix_from_pose(message.pose.pose, self.settings.ct_axes, "initialpose")
        except InputError as error:
            self.problems.append(str(error))
            return
        starts.set_initialpose(matrix, message.header.frame_id)

    def _explain_unpaired(self, topics: BagTopics, stamps: dict[str, list[int]]) -> None:
        images, infos = stamps[topics.image], sorted(stamps[topics.camera_info])
        known = set(infos)
        lonely = [stamp for stamp in images if stamp not in known]
        doubled = len(images) - len(set(images))
        if doubled:
            self.problems.append(
                f"{self.path}: {doubled} images on {topics.image} have the stamp of another one "
                "(is the stamp never set?); only one of them pairs with a camera_info."
            )
        if not lonely:
            return
        if not infos:
            nearest = "it has no messages"
        else:
            gap = min(abs(_nearest(infos, stamp) - stamp) for stamp in lonely)
            nearest = f"the nearest is {gap * 1e-6:.3f} ms away"
        first = stamp_text(lonely[0])
        self.problems.append(
            f"{self.path}: {len(lonely)} of {len(images)} images on {topics.image} have no message "
            f"on {topics.camera_info} with exactly their stamp (the first at {first}; {nearest}). "
            "Image and CameraInfo of one shot must carry the same stamp."
        )

    def _truths(self, bag: BagReader, topic: str) -> dict[int, Matrix]:
        truths: dict[int, Matrix] = {}
        if not topic:
            return truths
        messages = bag.messages([topic])
        while True:
            try:
                _, _, message = next(messages)
            except (StopIteration, BagDamagedError):
                break  # damage is told when the images meet it
            try:
                truths.update(_truths_in(message, self.settings, topic))
            except InputError as error:
                self.problems.append(str(error))
        if not truths:
            child = self.settings.child_frame_id
            self.problems.append(
                f"{self.path}: topic {topic} holds no truth (of TF messages, edges to the child "
                f"frame '{child}' count)."
            )
        return dict(sorted(truths.items()))

    def _truth_of(self, stamp: int, truths: dict[int, Matrix]) -> Matrix | None:
        if stamp in truths:
            return truths[stamp]
        if not truths:
            return None
        nearest = _nearest(list(truths), stamp)
        return truths[nearest] if abs(nearest - stamp) <= TRUTH_TOLERANCE_NS else None


def stamp_ns(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * _NANOSECONDS + int(stamp.nanosec)


def _nearest(ordered: list[int], value: int) -> int:
    place = bisect.bisect_left(ordered, value)
    return min(ordered[max(0, place - 1) : place + 1], key=lambda item: abs(item - value))


def _truths_in(message: Any, settings: RegistrationSettings, topic: str) -> dict[int, Matrix]:
    """Stamp to camera_from_ct (LPS mm); wire axes as ``ct_axes``."""
    axes = settings.ct_axes
    if hasattr(message, "transforms"):
        return {
            stamp_ns(edge.header.stamp): matrix_from_transform_message(edge.transform, axes, topic)
            for edge in message.transforms
            if edge.child_frame_id == settings.child_frame_id
        }
    if hasattr(message, "transform"):
        matrix = matrix_from_transform_message(message.transform, axes, topic)
    else:
        pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
        matrix = matrix_from_pose(pose, axes, topic)
    return {stamp_ns(message.header.stamp): matrix}
