"""The soak's other side: sends images at a fixed rate, hears what comes, and calls services."""

from __future__ import annotations

import json
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
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
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
    """What was measured, each with the time (s since the start) at which it was.

    Attributes:
        latencies: from an image's sending to its transform on /tf.
        services: which one, and how long it took; one not answered in time counts with that time.
        sent: images.
        pictures: overlays that came.
        results: states on ~/result, of every image that was dealt with.
        counters: what the node says of images on /diagnostics.
        refused: service calls whose answer was no.
    """

    latencies: list[tuple[float, float]] = field(default_factory=list)
    services: list[tuple[float, str, float]] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    pictures: list[float] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def unaccounted(self) -> int:
        """Images that came to the node and are not in another of its counters."""
        return 2 * self.counters.get("images_received", 0) - sum(self.counters.values())


class SoakClient(Node):
    """Spun by one thread; ``step`` sends what is due."""

    def __init__(self, target: str, film: Film, rate_hz: float, with_overlay: bool) -> None:
        super().__init__("soak_client")
        self.tally = Tally()
        self._film, self._period_s, self._target = film, 1.0 / rate_hz, target
        self._sent_at: dict[tuple[int, int], float] = {}
        self._begin = self._next_image = self._next_call = time.monotonic()
        self._image = self.create_publisher(Image, "image", image_qos("reliable", 4))
        self._info = self.create_publisher(CameraInfo, "camera_info", image_qos("reliable", 4))
        self.create_subscription(TFMessage, "/tf", self._on_tf, TF_QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_subscription(String, f"{target}/result", self._on_result, 100)
        if with_overlay:  # raw: nobody looks at it here
            self.create_subscription(Image, f"{target}/overlay", self._on_overlay, 1, raw=True)
        self._service_clients = {
            name: self.create_client(kind, f"{target}/{name}") for name, (kind, _) in _CALLS.items()
        }
        self._pending: _Call | None = None
        self._turn = 0

    @property
    def elapsed_s(self) -> float:
        """Since ``begin``."""
        return time.monotonic() - self._begin

    @property
    def idle_s(self) -> float:
        """Until something is due."""
        due = self._next_image if self._pending else min(self._next_image, self._next_call)
        return min(max(due - time.monotonic(), 0.0), 0.1)

    @property
    def is_calling(self) -> bool:
        """A service has been called and has not answered."""
        return self._pending is not None

    def is_connected(self) -> bool:
        """The node listens and its services are there."""
        hears = all(p.get_subscription_count() > 0 for p in (self._image, self._info))
        return hears and all(client.service_is_ready() for client in self._service_clients.values())

    def is_settled(self) -> bool:
        """Every image that came to the node is accounted for, and the last call answered."""
        return self.tally.unaccounted == 0 and self._pending is None

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
        self.give_up_calls()
        if self._pending is None and now >= self._next_call:
            self._call()

    def give_up_calls(self) -> None:
        """Count a call that has had no answer for too long."""
        call = self._pending
        if call is not None and time.monotonic() - call.at > _GIVE_UP_S:
            self._service_clients[call.name].remove_pending_request(call.future)
            self._settle(call)

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

    def _on_result(self, message: String) -> None:
        self.tally.results.append(str(json.loads(message.data)["state"]))

    def _on_overlay(self, _: bytes) -> None:
        self.tally.pictures.append(self.elapsed_s)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self._target.lstrip('/')}: registration":
                pairs = {pair.key: pair.value for pair in status.values}
                self.tally.counters = {
                    key: int(value) for key, value in pairs.items() if key.startswith("images_")
                }

    def _call(self) -> None:
        name = _TURNS[self._turn % len(_TURNS)]
        self._turn += 1
        now = time.monotonic()
        self._next_call = now + _CALL_PERIOD_S
        self._pending = call = _Call(
            name, now, self._service_clients[name].call_async(_CALLS[name][1])
        )
        call.future.add_done_callback(lambda _: self._settle(call))

    def _settle(self, call: _Call) -> None:
        if call is not self._pending:  # given up before
            return
        self._pending = None
        took_s = time.monotonic() - call.at
        self.tally.services.append((self.elapsed_s, call.name, took_s))
        if took_s > _SLOW_CALL_S:
            print(f"{self.elapsed_s:.1f} s: {call.name} took {1000 * took_s:.0f} ms", flush=True)
        answer = call.future.result() if call.future.done() else None
        if not _is_yes(answer):
            self.tally.refused.append(f"{call.name}: {answer}")


@dataclass(frozen=True, eq=False)
class _Call:
    name: str
    at: float
    future: Any


def _is_yes(answer: Any) -> bool:
    """The answer came and does not say that the request has failed."""
    if isinstance(answer, SetParameters.Response):
        return all(result.successful for result in answer.results)
    return answer is not None and bool(getattr(answer, "success", True))


def _integer(name: str, value: int) -> Parameter:
    kind = ParameterType.PARAMETER_INTEGER
    return Parameter(name=name, value=ParameterValue(type=kind, integer_value=value))


_SLOW_CALL_S = 0.1
_CALL_PERIOD_S, _GIVE_UP_S = 0.2, 5.0
_CALLS: dict[str, tuple[Any, Any]] = {
    "get_parameters": (GetParameters, GetParameters.Request(names=["image.kind"])),
    "set_parameters": (
        SetParameters,
        SetParameters.Request(parameters=[_integer("start.max_rejects", 5)]),
    ),
    "get_state": (GetState, GetState.Request()),
    "list_parameters": (ListParameters, ListParameters.Request()),
    "describe_parameters": (DescribeParameters, DescribeParameters.Request(names=["image.kind"])),
    "reset": (Trigger, Trigger.Request()),
}
# ~/reset takes the pose away, so it comes once in 20 s only.
_TURNS = (*([name for name in _CALLS if name != "reset"] * 20), "reset")
