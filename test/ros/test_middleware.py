"""The ROS 2 under us: wire types, large images through the shipped profile, a foreign DDS peer.

The test process is the subscriber; a child process publishes and never imports this package.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")
pytestmark = pytest.mark.ros

# As `ros2 topic info --verbose /tf` prints it for the tf2_msgs of a ROS 2 installation.
TF_TYPE_HASH = "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"
IMAGES = 20
SIZE = 1024
PATIENCE_S = 60.0

IMAGE_PUBLISHER = f"""
import array, rclpy, sys, time
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("image_source")
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
publisher = node.create_publisher(Image, "middleware_test/image", qos)
while publisher.get_subscription_count() == 0:
    time.sleep(0.05)
time.sleep(0.5)
message = Image(height={SIZE}, width={SIZE}, encoding="mono16", step=2 * {SIZE})
message.data = array.array("B", bytes(2 * {SIZE} * {SIZE}))
for index in range({IMAGES}):
    message.header.frame_id = str(index)
    publisher.publish(message)
    time.sleep(0.1)
sys.stdin.read()
"""

TF_PUBLISHER = """
import rclpy, select, sys
from geometry_msgs.msg import TransformStamped
from tf2_msgs.msg import TFMessage
rclpy.init()
node = rclpy.create_node("tf_source")
publisher = node.create_publisher(TFMessage, "/middleware_test/tf", 100)
transform = TransformStamped(child_frame_id="patient")
transform.header.frame_id = "carm_source_optical_frame"
transform.header.stamp.sec = 7
transform.transform.translation.z = 0.75
while not select.select([sys.stdin], [], [], 0.1)[0]:
    publisher.publish(TFMessage(transforms=[transform]))
"""


@contextmanager
def process(code: str) -> Iterator[None]:
    """A child Python that runs ``code``, which ends when its standard input closes."""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        yield
        child.communicate(timeout=PATIENCE_S)
        assert child.returncode == 0
    finally:
        child.kill()
        child.wait()


def wait_until(condition: Callable[[], bool], step: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        step()


@pytest.fixture
def node() -> Iterator[object]:
    context = rclpy.Context()
    context.init()
    made = rclpy.create_node("middleware_test", context=context)
    yield made
    made.destroy_node()
    context.shutdown()


def test_tf_message_has_the_type_hash_of_ros(node: object) -> None:
    from tf2_msgs.msg import TFMessage

    node.create_publisher(TFMessage, "middleware_test/hash", 1)
    (info,) = node.get_publishers_info_by_topic("middleware_test/hash")
    assert info.topic_type == "tf2_msgs/msg/TFMessage"
    assert str(info.topic_type_hash) == TF_TYPE_HASH


def test_the_profile_carries_every_large_image(node: object, repository: Path) -> None:
    """Best effort, which does not repeat: without the profile most of these are lost."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    profile = str(repository / "config" / "fastdds_profile.xml")
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    assert profile in [os.environ.get(name) for name in names]
    seen: list[str] = []
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    qos = QoSProfile(depth=IMAGES, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(
        Image, "middleware_test/image", lambda message: seen.append(message.header.frame_id), qos
    )
    with process(IMAGE_PUBLISHER):
        # The last one, not the count: a lost image would otherwise only be a long wait.
        wait_until(lambda: str(IMAGES - 1) in seen, lambda: executor.spin_once(timeout_sec=0.1))
    executor.shutdown()
    assert seen == [str(index) for index in range(IMAGES)]


def test_cyclone_dds_without_ros_reads_tf() -> None:
    pytest.importorskip("cyclonedds")
    from cyclonedds.core import Policy, Qos
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
    from cyclonedds.util import duration

    participant = DomainParticipant(int(os.environ["ROS_DOMAIN_ID"]))
    reader = DataReader(
        participant,
        Topic(participant, "rt/middleware_test/tf", tf_message_type()),
        qos=Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepLast(100)),
    )
    samples: list = []
    with process(TF_PUBLISHER):
        wait_until(lambda: bool(samples), lambda: samples.extend(_take(reader)))
    assert samples, "no TF reached the Cyclone DDS reader"
    (transform,) = samples[0].transforms
    assert transform.header.frame_id == "carm_source_optical_frame"
    assert transform.child_frame_id == "patient"
    assert transform.header.stamp.sec == 7
    assert transform.transform.translation.z == 0.75
    assert transform.transform.rotation.w == 1.0


def _take(reader: object) -> list:
    time.sleep(0.05)
    return list(reader.take(1))


def tf_message_type() -> type:
    """tf2_msgs/TFMessage for Cyclone DDS, with the names that ROS 2 gives types on the wire."""
    from cyclonedds.idl import IdlStruct, make_idl_struct
    from cyclonedds.idl.types import float64, int32, sequence, uint32

    def struct(package: str, name: str, **fields: object) -> type[IdlStruct]:
        return make_idl_struct(name, f"{package}::msg::dds_::{name}_", fields)

    time_ = struct("builtin_interfaces", "Time", sec=int32, nanosec=uint32)
    header = struct("std_msgs", "Header", stamp=time_, frame_id=str)
    vector = struct("geometry_msgs", "Vector3", x=float64, y=float64, z=float64)
    quaternion = struct("geometry_msgs", "Quaternion", x=float64, y=float64, z=float64, w=float64)
    transform = struct("geometry_msgs", "Transform", translation=vector, rotation=quaternion)
    stamped = struct(
        "geometry_msgs", "TransformStamped", header=header, child_frame_id=str, transform=transform
    )
    return struct("tf2_msgs", "TFMessage", transforms=sequence[stamped])
