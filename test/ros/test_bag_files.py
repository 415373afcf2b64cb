"""Bags: written here and read by other people's readers; damaged and foreign bags."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from std_msgs.msg import Header, String
from tf2_msgs.msg import TFMessage

from xray_registration.errors import InputError
from xray_registration.ros.bag_files import BagDamagedError, BagReader, BagWriter
from xray_registration.ros.conversions import array_to_image, image_to_array

STORAGES = ["mcap", "sqlite3"]
# Several of them do not fit into one chunk of an mcap file, which is lost as a whole.
SAMPLES = np.random.default_rng(3).integers(0, 65535, (400, 500)).astype(np.uint16)
COUNT = 12


def header(number: int) -> Header:
    return Header(stamp=Time(sec=7, nanosec=number), frame_id="carm")


def write(path: Path, storage: str) -> Path:
    with BagWriter(path, storage) as bag:
        for number in range(COUNT):
            bag.write("/image", array_to_image(SAMPLES + number, header(number)), 1000 + number)
            edge = TransformStamped(header=header(number), child_frame_id="patient")
            edge.transform.translation.z = 0.25 * number
            edge.transform.rotation.w = 1.0
            bag.write("/tf", TFMessage(transforms=[edge]), 1000 + number)
        bag.add_topic("/quiet", "std_msgs/msg/String", latched=True)
    return path


def stored_file(path: Path) -> Path:
    (file,) = (p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))
    return file


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_written_is_read(tmp_path: Path, storage: str) -> None:
    path = write(tmp_path / "bag", storage)
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]  # no scratch is left
    with BagReader(path) as bag:
        assert bag.storage == storage
        assert bag.topics == {
            "/image": "sensor_msgs/msg/Image",
            "/tf": "tf2_msgs/msg/TFMessage",
            "/quiet": "std_msgs/msg/String",
        }
        messages = list(bag.messages(["/image"]))
        assert list(bag.messages(["/quiet"])) == []
        assert list(bag.messages([])) == []
    assert [time for _, time, _ in messages] == list(range(1000, 1000 + COUNT))
    for number, (topic, _, message) in enumerate(messages):
        assert topic == "/image"
        assert message.header.stamp.nanosec == number
        np.testing.assert_array_equal(image_to_array(message), SAMPLES + number)


@pytest.mark.parametrize("storage", STORAGES)
def test_single_files_are_bags_too(tmp_path: Path, storage: str) -> None:
    file = stored_file(write(tmp_path / "bag", storage))
    with BagReader(file) as bag:
        assert bag.storage == storage
        assert sum(1 for _ in bag.messages(["/tf"])) == COUNT


def test_mcap_is_read_by_its_own_library(tmp_path: Path) -> None:
    reader = pytest.importorskip("mcap.reader")
    decoder = pytest.importorskip("mcap_ros2.decoder")
    file = stored_file(write(tmp_path / "bag", "mcap"))
    edges, images = [], []
    with file.open("rb") as stream:
        made = reader.make_reader(stream, decoder_factories=[decoder.DecoderFactory()])
        for schema, channel, message, decoded in made.iter_decoded_messages():
            if channel.topic == "/tf":
                assert schema.name == "tf2_msgs/msg/TFMessage"
                assert channel.message_encoding == "cdr"
                edges.append((message.log_time, decoded.transforms[0].transform.translation.z))
            else:
                images.append(decoded)
    assert edges == [(1000 + n, 0.25 * n) for n in range(COUNT)]
    pixels = np.frombuffer(images[-1].data, np.uint16).reshape(400, 500)
    np.testing.assert_array_equal(pixels, SAMPLES + COUNT - 1)
    assert images[0].encoding == "mono16"


@pytest.mark.parametrize("storage", STORAGES)
def test_bags_are_read_with_the_types_that_they_carry(tmp_path: Path, storage: str) -> None:
    """The reader rosbags decodes by itself, with the definitions in the bag; rclpy has no part."""
    highlevel = pytest.importorskip("rosbags.highlevel")
    path = write(tmp_path / "bag", storage)
    with highlevel.AnyReader([path]) as reader:
        connections = [c for c in reader.connections if c.topic == "/image"]
        qos = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
        decoded: list[Any] = [
            reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(connections)
        ]
    assert qos == {"/image": "VOLATILE", "/tf": "VOLATILE", "/quiet": "TRANSIENT_LOCAL"}
    assert len(decoded) == COUNT
    assert decoded[3].header.frame_id == "carm"
    np.testing.assert_array_equal(decoded[3].data.view(np.uint16).reshape(400, 500), SAMPLES + 3)


def test_sqlite_bag_has_the_tables_of_rosbag2(tmp_path: Path) -> None:
    with sqlite3.connect(stored_file(write(tmp_path / "bag", "sqlite3"))) as database:
        rows = database.execute(
            "select topics.name, count(*) from messages join topics on "
            "messages.topic_id = topics.id group by topics.name order by topics.name"
        ).fetchall()
    assert rows == [("/image", COUNT), ("/tf", COUNT)]


def test_what_was_done_is_kept_after_an_exception(tmp_path: Path) -> None:
    def fail() -> None:
        with BagWriter(tmp_path / "bag") as bag:
            bag.write("/text", String(data="first"), 5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with BagReader(tmp_path / "bag") as read:
        assert [m.data for _, _, m in read.messages(["/text"])] == ["first"]
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]


def test_writer_refuses(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="exists already"):
        BagWriter(tmp_path / "taken")
    with pytest.raises(InputError, match="cannot be written"):
        BagWriter(tmp_path / "none" / "bag")
    with pytest.raises(InputError, match="mcap or sqlite3"):
        BagWriter(tmp_path / "bag", "bz2")


def test_reader_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such bag"):
        BagReader(tmp_path / "none")
    path = write(tmp_path / "bag", "mcap")
    (path / "metadata.yaml").unlink()
    with pytest.raises(InputError, match=r"without metadata.yaml; it holds bag.mcap.*reindex"):
        BagReader(path)
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(InputError, match="cannot be opened as a bag"):
        BagReader(tmp_path / "text.txt")
    (tmp_path / "empty.mcap").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be opened as a bag"):
        BagReader(tmp_path / "empty.mcap")
    (tmp_path / "junk.db3").write_bytes(b"junk" * 100)
    with pytest.raises(InputError, match="cannot be opened as a bag"):
        BagReader(tmp_path / "junk.db3")


def test_topics_are_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    with BagWriter(path) as writer:
        for topic in ("/a", "/b"):
            writer.write(topic, String(data="x"), 1)
    with BagReader(path) as bag:
        with pytest.raises(InputError, match=r"no topic /c \(why\); it holds: /a \(std_msgs"):
            bag.need_topic("/c", ("std_msgs/msg/String",), "why")
        with pytest.raises(InputError, match="has the type std_msgs/msg/String; expected x/msg/Y"):
            bag.need_topic("/a", ("x/msg/Y",), "why")
        with pytest.raises(InputError, match=r"several topics.*\(/a, /b\).*--option"):
            bag.only_topic("std_msgs/msg/String", "it", "--option")
        with pytest.raises(InputError, match="no topic of the type x/msg/Y"):
            bag.only_topic("x/msg/Y", "it", "--option")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("as_file", [True, False])
def test_truncated_bags_give_what_is_left(tmp_path: Path, storage: str, as_file: bool) -> None:
    if storage == "mcap":
        pytest.importorskip("mcap")
    path = write(tmp_path / "bag", storage)
    file = stored_file(path)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 6 // 10])
    found: list[int] = []

    def read(bag: BagReader) -> None:
        for number, (_, time, message) in enumerate(bag.messages(["/image"])):
            found.append(time)
            np.testing.assert_array_equal(image_to_array(message), SAMPLES + number)

    with BagReader(file if as_file else path) as bag, pytest.raises(BagDamagedError) as caught:
        read(bag)
    assert "truncated" in str(caught.value)
    assert found == list(range(1000, 1000 + len(found)))
    assert 0 < len(found) < COUNT
