"""The soak's other side: sends images at a fixed rate, hears /tf, and calls services meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from xray_registration.geometry import Camera
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner
from xray_registration.imaging.example import example_ct_path, example_label_path
from xray_registration.imaging.labels import load_label_map
from xray_registration.imaging.volume import load_ct
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.qos import image_qos
from xray_registration.ros.tf import TF_QOS

LEVELS = ("vertebrae_T7", "vertebrae_T8", "vertebrae_T9")
I0 = 40000.0
FRAME = "carm_source_optical_frame"
_SDD_MM, _FIELD_MM = 1020.0, 297.0


@dataclass(frozen=True, eq=False)
class Film:
    """Pictures of a C-arm that swings to and fro; ``first_pose``: camera_from_ct, LPS mm."""

    camera: Camera
    pictures: list[np.ndarray]
    first_pose: np.ndarray

    def picture(self, number: int) -> np.ndarray:
        """Of the film played forth and back without end."""
        last = len(self.pictures) - 1
        return self.pictures[last - abs(number % (2 * last) - last)]


def make_film(width: int, pictures: int = 6) -> Film:
    """The example CT's spine from angles half a degree apart, with photon noise."""
    ct = load_ct(example_ct_path())
    centroids = load_label_map(example_label_path(), ct).centroids_lps_mm()
    isocentre = np.mean([centroids[name] for name in LEVELS], axis=0)
    camera = Camera.from_detector(width, width, _FIELD_MM / width, _SDD_MM)
    projector = JosephProjector(AttenuationVolume.from_ct(ct, isolate_patient=True), isocentre)
    noise = np.random.default_rng(5)
    poses = [
        camera_from_positioner(PositionerPose(0.5 * n, 0.0, 700.0, tuple(isocentre)))
        for n in range(pictures)
    ]
    taken = []
    for pose in poses:
        with torch.no_grad():
            lines = projector.image(torch.from_numpy(pose)[None], camera)[0].numpy()
        counts = noise.poisson(I0 * np.exp(-lines))
        taken.append(np.clip(counts, 1, 65535).astype(np.uint16))
    return Film(camera, taken, poses[0])


@dataclass(eq=False)
class Tally:
    """What was measured, each with the time (s since the start) at which it was."""

    latencies: list[tuple[float, float]] = field(default_factory=list)
    services: list[tuple[float, str, float]] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    counters: dict[str, str] = field(default_factory=dict)


class SoakClient(Node):
    """Spun by one thread; ``step`` sends what is due."""

    def __init__(self, target: str, film: Film, rate_hz: float) -> None:
        super().__init__("soak_client")
        self.tally = Tally()
        self._film, self._period_s, self._target = film, 1.0 / rate_hz, target
        self._sent_at: dict[tuple[int, int], float] = {}
        self._begin = self._next_image = self._next_call = time.monotonic()
        self._image = self.create_publisher(Image, "image", image_qos("reliable", 4))
        self._info = self.create_publisher(CameraInfo, "camera_info", image_qos("reliable", 4))
        self.create_subscription(TFMessage, "/tf", self._on_tf, TF_QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._calls = self._make_calls()
        self._pending: Any = None
        self._turn = 0

    @property
    def elapsed_s(self) -> float:
        """Since ``begin``."""
        return time.monotonic() - self._begin

    def is_connected(self) -> bool:
        """The node listens."""
        return self._image.get_subscription_count() > 0 and self._info.get_subscription_count() > 0

    def is_settled(self) -> bool:
        """Every image that came to the node is accounted for on /diagnostics."""
        counted = {k: int(v) for k, v in self.tally.counters.items() if k.startswith("images_")}
        received = counted.pop("images_received", 0)
        return received == sum(counted.values())

    def begin(self) -> None:
        """Start the clock."""
        self._begin = self._next_image = self._next_call = time.monotonic()

    def step(self) -> None:
        """Send the image and the service call that are due."""
        now = time.monotonic()
        if now >= self._next_image:
            # what is late is not caught up on: a C-arm does not either
            self._next_image = max(self._next_image + self._period_s, now)
            self._send()
        if self._pending is None and now >= self._next_call:
            self._call()

    def _send(self) -> None:
        ns = time.time_ns()
        stamp = Time(sec=ns // 10**9, nanosec=ns % 10**9)
        header = Header(stamp=stamp, frame_id=FRAME)
        picture = self._film.picture(len(self.tally.sent))
        image = array_to_image(picture, header)
        self._sent_at[stamp.sec, stamp.nanosec] = time.monotonic()
        self.tally.sent.append(self.elapsed_s)
        self._image.publish(image)
        self._info.publish(camera_to_message(self._film.camera, header))

    def _on_tf(self, message: TFMessage) -> None:
        for edge in message.transforms:
            stamp = (edge.header.stamp.sec, edge.header.stamp.nanosec)
            sent = self._sent_at.pop(stamp, None)
            if sent is not None:
                self.tally.latencies.append((self.elapsed_s, time.monotonic() - sent))
                # those before it were dropped
                self._sent_at = {k: v for k, v in self._sent_at.items() if v > sent}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self._target.lstrip('/')}: registration":
                self.tally.counters = {pair.key: pair.value for pair in status.values}

    def _make_calls(self) -> list[tuple[str, Any, Any]]:
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=5)
        changed = Parameter(name="start.max_rejects", value=value)
        requests = [
            (GetParameters, "get_parameters", GetParameters.Request(names=["image.kind"])),
            (SetParameters, "set_parameters", SetParameters.Request(parameters=[changed])),
            (GetState, "get_state", GetState.Request()),
            (ListParameters, "list_parameters", ListParameters.Request()),
            (
                DescribeParameters,
                "describe_parameters",
                DescribeParameters.Request(names=["image.kind"]),
            ),
        ]
        return [
            (name, self.create_client(kind, f"{self._target}/{name}"), request)
            for kind, name, request in requests
        ]

    def _call(self) -> None:
        name, client, request = self._calls[self._turn % len(self._calls)]
        self._turn += 1
        called = time.monotonic()
        self._next_call = called + 0.2
        if not client.service_is_ready():
            return
        self._pending = client.call_async(request)

        def answered(_: Any) -> None:
            self._pending = None
            self.tally.services.append((self.elapsed_s, name, time.monotonic() - called))

        self._pending.add_done_callback(answered)
