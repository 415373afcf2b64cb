"""The demo's third process: a client that reads /tf, and writes down all that it hears.

It knows neither the registration nor the simulator, only their topics. For each message it prints
one line of JSON to stdout; images are kept as .npy files in ``image_dir``:

    {"event": "ready"}
    {"event": "simulator", "state", "frames_rendered", "images_sent"}
    {"event": "image", "stamp", "heard_s", "file", "encoding", "width", "height"}
    {"event": "camera", "stamp", "frame_id", "width", "height", "K"}
    {"event": "truth" | "tf", "stamp", "heard_s", "parent", "child", "parent_from_child": 4x4 mm}
    {"event": "result", "stamp", "heard_s", "record": what registration_node says on ~/result}

``stamp`` is the header's, as text; ``heard_s`` is of the monotonic clock that all processes share.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.files import write_atomically
from xray_registration.ros.conversions import image_to_array
from xray_registration.ros.diagnostics import stamp_text
from xray_registration.ros.parameters import ParameterSpec, When, declare
from xray_registration.ros.pose_messages import matrix_from_pose, matrix_from_transform_message
from xray_registration.ros.qos import image_qos
from xray_registration.ros.spinning import spin_until
from xray_registration.ros.tf import TF_QOS

SPECS = (
    ParameterSpec("image_dir", "", "Folder in which images are kept as .npy.", When.START),
    ParameterSpec("child_frame_id", "patient", "The /tf edges to write down.", When.START),
    ParameterSpec(
        "result_topic", "/registration_node/result", "Of the registration node.", When.START
    ),
)


class DemoClient(Node):
    """Subscribes and prints; publishes nothing."""

    def __init__(self, **kwargs: Any) -> None:
        """Subscribe.

        Raises:
            InputError: ``image_dir`` is not a folder.
        """
        super().__init__("demo_client", **kwargs)
        from tf2_msgs.msg import TFMessage

        values = declare(self, SPECS)
        self._image_dir = Path(str(values["image_dir"]))
        self._child = str(values["child_frame_id"])
        if not values["image_dir"] or not self._image_dir.is_dir():
            raise InputError(
                f"parameter 'image_dir' is '{values['image_dir']}'; expected an existing folder"
            )
        images = image_qos("reliable", 10)
        kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(TFMessage, "/tf", self._on_tf, TF_QOS)
        self.create_subscription(Image, "image", self._on_image, images)
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, images)
        self.create_subscription(PoseStamped, "ground_truth/pose", self._on_truth, kept)
        self.create_subscription(String, str(values["result_topic"]), self._on_result, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        self._simulator: dict[str, Any] = {}
        _say(event="ready")

    def _on_tf(self, message: Any) -> None:
        heard = time.monotonic()
        for edge in message.transforms:
            if edge.child_frame_id == self._child:
                matrix = matrix_from_transform_message(edge.transform, "lps", "/tf")
                self._say_pose("tf", edge.header, heard, edge.child_frame_id, matrix)

    def _on_truth(self, message: PoseStamped) -> None:
        matrix = matrix_from_pose(message.pose, "lps", "ground_truth/pose")
        self._say_pose("truth", message.header, time.monotonic(), self._child, matrix)

    def _on_image(self, message: Image) -> None:
        heard, stamp = time.monotonic(), _stamp(message.header)
        content = io.BytesIO()
        np.save(content, image_to_array(message), allow_pickle=False)
        path = self._image_dir / f"{stamp}.npy"
        write_atomically(path, content.getvalue())
        _say(
            event="image",
            stamp=stamp,
            heard_s=heard,
            file=path.name,
            encoding=message.encoding,
            width=message.width,
            height=message.height,
        )

    def _on_camera_info(self, message: CameraInfo) -> None:
        _say(
            event="camera",
            stamp=_stamp(message.header),
            frame_id=message.header.frame_id,
            width=message.width,
            height=message.height,
            K=np.reshape(message.k, (3, 3)).tolist(),
        )

    def _on_result(self, message: String) -> None:
        record = json.loads(message.data)
        _say(event="result", stamp=record["image_stamp"], heard_s=time.monotonic(), record=record)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if not status.name.endswith(": sweep"):
                continue
            values = {value.key: value.value for value in status.values}
            state = {
                "state": values.get("state", ""),
                "frames_rendered": int(values.get("frames_rendered", 0)),
                "images_sent": int(values.get("images_sent", 0)),
            }
            if state != self._simulator:
                self._simulator = state
                _say(event="simulator", **state)

    def _say_pose(
        self, event: str, header: Header, heard_s: float, child: str, matrix: Any
    ) -> None:
        _say(
            event=event,
            stamp=_stamp(header),
            heard_s=heard_s,
            parent=header.frame_id,
            child=child,
            parent_from_child=matrix.tolist(),
        )


def _stamp(header: Header) -> str:
    return stamp_text(Time.from_msg(header.stamp).nanoseconds)


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def main(args: list[str] | None = None) -> int:
    """Console entry: 0 on a normal end, 2 on parameters that cannot be used."""
    node: DemoClient | None = None
    try:
        rclpy.init(args=args)
        node = DemoClient()
        spin_until(node, lambda made: False)
    except (KeyboardInterrupt, ExternalShutdownException, BrokenPipeError):
        pass
    except (XrayRegistrationError, ParameterException) as error:
        print(f"demo_client: {error}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
