"""A peer without ROS: reads /tf through Cyclone DDS and prints each edge as a line of JSON.

Run as a program: ``cyclone_tf_listener.py DOMAIN SECONDS``. It ends after the first edge, or with
exit code 1 when none came in time.
"""

# No "from __future__ import annotations": Cyclone's IDL layer wants the types themselves.
import json
import sys
import time
from dataclasses import dataclass

from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import int32, sequence, uint32
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration


@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@dataclass
class Vector3(IdlStruct, typename="geometry_msgs::msg::dds_::Vector3_"):
    x: float
    y: float
    z: float


@dataclass
class Quaternion(IdlStruct, typename="geometry_msgs::msg::dds_::Quaternion_"):
    x: float
    y: float
    z: float
    w: float


@dataclass
class Transform(IdlStruct, typename="geometry_msgs::msg::dds_::Transform_"):
    translation: Vector3
    rotation: Quaternion


@dataclass
class TransformStamped(IdlStruct, typename="geometry_msgs::msg::dds_::TransformStamped_"):
    header: Header
    child_frame_id: str
    transform: Transform


@dataclass
class TFMessage(IdlStruct, typename="tf2_msgs::msg::dds_::TFMessage_"):
    transforms: sequence[TransformStamped]


def main(domain: int, seconds: float) -> int:
    """Print the first edge."""
    participant = DomainParticipant(domain)
    qos = Qos(
        Policy.Reliability.Reliable(duration(seconds=1)),
        Policy.Durability.Volatile,
        Policy.History.KeepLast(100),
    )
    reader = DataReader(participant, Topic(participant, "rt/tf", TFMessage, qos=qos), qos=qos)
    print("ready", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for message in reader.take(N=10):
            for edge in getattr(message, "transforms", []):
                t, q = edge.transform.translation, edge.transform.rotation
                record = {
                    "stamp": [edge.header.stamp.sec, edge.header.stamp.nanosec],
                    "parent": edge.header.frame_id,
                    "child": edge.child_frame_id,
                    "translation_m": [t.x, t.y, t.z],
                    "quaternion_xyzw": [q.x, q.y, q.z, q.w],
                }
                print(json.dumps(record), flush=True)
                return 0
        time.sleep(0.05)
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
