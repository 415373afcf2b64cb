"""Bags and folders through the node's code: figures, result bags, and what can be wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from xray_registration.cli import main
from xray_registration.errors import InputError
from xray_registration.interchange.slicer import write_landmarks
from xray_registration.ros.bag_files import BagReader, BagWriter
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.frame_processor import FrameProcessor
from xray_registration.ros.offline_evaluation import OfflineEvaluation
from xray_registration.ros.offline_source import BagSource, BagTopics
from xray_registration.ros.pose_messages import matrix_from_pose
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.simulated_bag import FRAME_ID, TRUTH, write_simulated_bag

LEVELS = "vertebrae_T7,vertebrae_T8,vertebrae_T9"
FRAMES = 3


def options(scene: Any) -> list[str]:
    """Of the command line, as ``settings``."""
    return [
        "--ct", str(scene.ct_path), "--label-map", str(scene.label_path),
        "--set", f"isocentre.labels={LEVELS}", "--set", f"camera.sdd_mm={scene.camera.sdd_mm}",
        "--set", "image.i0=40000.0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(
    bag: Path,
    settings: RegistrationSettings,
    processor: FrameProcessor,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[OfflineEvaluation, Path]:
    return evaluate(bag, settings, processor, tmp_path_factory.mktemp("result") / "bag")


def evaluate(
    path: Path,
    settings: RegistrationSettings,
    processor: FrameProcessor,
    out: Path,
    topics: BagTopics | None = None,
    storage: str = "mcap",
) -> tuple[OfflineEvaluation, Path]:
    evaluation = OfflineEvaluation(settings, processor)
    source = BagSource(path, settings, topics or BagTopics(truth=TRUTH))
    with BagWriter(out, storage) as writer:
        evaluation.run(source, writer)
    return evaluation, out


def messages(path: Path, topic: str) -> list[tuple[int, Any]]:
    with BagReader(path) as reader:
        return [(time, message) for _, time, message in reader.messages([topic])]


def test_figures_against_the_truth(evaluated: tuple[OfflineEvaluation, Path]) -> None:
    evaluation, _ = evaluated
    assert evaluation.problems == []
    assert [record.accepted for record in evaluation.records] == [True] * FRAMES
    starts = [record.start_source for record in evaluation.records]
    assert starts == ["initialpose", "previous", "previous"]
    summary = evaluation.summary()
    assert (summary["images"], summary["accepted"], summary["false_accepts"]) == (3, 3, 0)
    assert summary["mtre_all"]["p95_mm"] < 1.0
    assert "3 structures" in summary["targets"]
    for record in evaluation.records:
        assert record.errors is not None
        assert record.mpe_mm is not None
        assert record.errors.in_plane_mm < 0.2


def test_result_bag_holds_what_the_node_publishes(
    evaluated: tuple[OfflineEvaluation, Path], bag: Path, scene: Any
) -> None:
    _, out = evaluated
    with BagReader(out) as reader:
        assert reader.topics == {
            "/tf": "tf2_msgs/msg/TFMessage",
            "/registration_node/pose": "geometry_msgs/msg/PoseWithCovarianceStamped",
            "/registration_node/result": "std_msgs/msg/String",
            "/registration_node/overlay": "sensor_msgs/msg/Image",
            "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
        }
    images = messages(bag, "/image")
    edges = messages(out, "/tf")
    assert [time for time, _ in edges] == [time for time, _ in images]  # plays beside it
    for (_, edge), (_, image) in zip(edges, images, strict=True):
        (transform,) = edge.transforms
        assert transform.header == image.header
        assert transform.child_frame_id == "patient"
    for _, pose in messages(out, "/registration_node/pose"):
        assert scene.mtre_mm(matrix_from_pose(pose.pose.pose, "lps", "pose")) < 1.0
        assert np.diagonal(np.reshape(pose.pose.covariance, (6, 6))).min() > 0
    results = [json.loads(m.data) for _, m in messages(out, "/registration_node/result")]
    assert [result["accepted"] for result in results] == [True] * FRAMES
    statuses = [m.status[0] for _, m in messages(out, "/diagnostics")]
    values = {pair.key: pair.value for pair in statuses[-1].values}
    assert values["state"] == "registered"
    assert values["images_accepted"] == str(FRAMES)
    overlays = [m for _, m in messages(out, "/registration_node/overlay")]
    assert [m.encoding for m in overlays] == ["rgb8"] * FRAMES
    green = np.frombuffer(overlays[0].data, np.uint8).reshape(256, 256, 3).astype(int)
    assert ((green[..., 1] - green[..., 0]) > 100).sum() > 50  # outlines of an accepted pose


def test_result_bag_is_read_by_mcaps_own_library(evaluated: tuple[Any, Path]) -> None:
    reader = pytest.importorskip("mcap.reader")
    decoder = pytest.importorskip("mcap_ros2.decoder")
    (file,) = evaluated[1].glob("*.mcap")
    found: dict[str, list[Any]] = {}
    with file.open("rb") as stream:
        made = reader.make_reader(stream, decoder_factories=[decoder.DecoderFactory()])
        for _, channel, _, decoded in made.iter_decoded_messages():
            found.setdefault(channel.topic, []).append(decoded)
    assert {topic: len(items) for topic, items in found.items()} == dict.fromkeys(
        ("/tf", "/registration_node/pose", "/registration_node/result",
         "/registration_node/overlay", "/diagnostics"), FRAMES)  # fmt: skip
    assert found["/tf"][0].transforms[0].child_frame_id == "patient"


def test_the_same_bag_gives_the_same_result_bag(
    evaluated: tuple[Any, Path],
    bag: Path,
    settings: RegistrationSettings,
    processor: FrameProcessor,
    tmp_path: Path,
) -> None:
    """Every field of every message, whatever the storage; the files differ in padding bytes."""
    _, again = evaluate(bag, settings, processor, tmp_path / "again", storage="sqlite3")
    for topic in ("/tf", "/registration_node/pose", "/registration_node/result", "/diagnostics",
                  "/registration_node/overlay"):  # fmt: skip
        assert messages(evaluated[1], topic) == messages(again, topic), topic


def test_the_node_gives_the_same_pose(
    evaluated: tuple[Any, Path], make_node: Callable[..., Any], peer: Any, scene: Any
) -> None:
    make_node()
    peer.wait_for_subscribers()
    # the very initialpose of the bag: written in metres and a quaternion
    peer.send_initialpose(scene.start())
    peer.send_scene(scene)
    (pose,) = peer.spin_until(lambda: peer.poses, "a pose")
    _, offline = messages(evaluated[1], "/registration_node/pose")[0]
    assert pose.pose == offline.pose


def test_command_line_writes_everything(
    bag: Path, scene: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    centroids = {f"t{n}": point for n, point in enumerate(scene.targets_lps_mm)}
    write_landmarks(tmp_path / "targets.fcsv", centroids)
    out = tmp_path / "out"
    arguments = ["evaluate", str(bag), "--truth", TRUTH, "--out", str(out), "--no-overlays"]
    assert main([*arguments, *options(scene), "--landmarks", str(tmp_path / "targets.fcsv")]) == 0
    assert "3 of 3 images accepted" in capsys.readouterr().out
    content = json.loads((out / "evaluation.json").read_text())
    assert content["summary"]["mtre_accepted"]["n"] == FRAMES
    assert content["images"][0]["camera_from_ct_lps"]
    with (out / "images.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["reason"] for row in rows] == ["accepted"] * FRAMES
    assert float(rows[0]["mtre_mm"]) < 1.0
    assert messages(out / "result_bag", "/registration_node/overlay") == []
    assert main([*arguments, *options(scene)]) == 2  # the result bag is there already
    assert "exists already" in capsys.readouterr().err


# --- what can be wrong ---------------------------------------------------------------------------


def header(number: int) -> Header:
    return Header(stamp=Time(sec=2, nanosec=number * 50_000_000), frame_id=FRAME_ID)


def write_bag(path: Path, scene: Any, infos: list[int] | None, images: int = 2) -> Path:
    """Images 0, 1, ... and CameraInfo with the given stamps (None: no such topic)."""
    with BagWriter(path) as writer:
        for number in range(images):
            writer.write("/xray", array_to_image(scene.raw, header(number)), 10 + number)
        for number in infos or []:
            writer.write("/info", camera_to_message(scene.camera, header(number)), 100 + number)
        if infos is not None:
            writer.add_topic("/info", "sensor_msgs/msg/CameraInfo")
    return path


def test_bag_without_camera_info(
    scene: Any, settings: RegistrationSettings, processor: FrameProcessor, tmp_path: Path
) -> None:
    path = write_bag(tmp_path / "bag", scene, None)
    with pytest.raises(InputError, match=r"no topic of the type sensor_msgs/msg/CameraInfo"):
        evaluate(path, settings, processor, tmp_path / "out", BagTopics())
    # with the camera in the parameters it can be used
    given = replace(settings, use_camera_info=False, pixel_pitch_mm=(1.0, 1.0))
    given = replace(given, start=scene.start())
    evaluation, _ = evaluate(path, given, processor, tmp_path / "out2", BagTopics())
    assert [record.accepted for record in evaluation.records] == [True, True]


def test_mixed_stamps(
    scene: Any, settings: RegistrationSettings, processor: FrameProcessor, tmp_path: Path
) -> None:
    path = write_bag(tmp_path / "none", scene, [7, 8])
    with pytest.raises(InputError, match=r"2 of 2 images.*exactly their stamp.*300.000 ms"):
        evaluate(path, settings, processor, tmp_path / "out", BagTopics())
    # some fit: they are used, the others are told
    path = write_bag(tmp_path / "some", scene, [5, 1])
    evaluation, out = evaluate(path, settings, processor, tmp_path / "out2", BagTopics())
    assert len(evaluation.records) == 1
    assert "1 of 2 images" in evaluation.problems[0]
    assert len(messages(out, "/diagnostics")) == 1
    path = write_bag(tmp_path / "quiet", scene, [])
    with pytest.raises(InputError, match="it has no messages"):
        evaluate(path, settings, processor, tmp_path / "out3", BagTopics())


def test_stamps_never_set(
    scene: Any, settings: RegistrationSettings, processor: FrameProcessor, tmp_path: Path
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(3):
            writer.write("/xray", array_to_image(scene.raw, header(0)), 10 + number)
        writer.write("/info", camera_to_message(scene.camera, header(0)), 13)
    evaluation, _ = evaluate(tmp_path / "bag", settings, processor, tmp_path / "out", BagTopics())
    assert len(evaluation.records) == 1
    assert any("2 images on /xray have the stamp of another" in p for p in evaluation.problems)


@pytest.mark.parametrize(
    ("topics", "says"),
    [
        (BagTopics(image="/nothing"), r"no topic /nothing \(images\); it holds: /camera_info"),
        (BagTopics(image="/camera_info"), "expected sensor_msgs/msg/Image"),
        (BagTopics(camera_info="/image"), "expected sensor_msgs/msg/CameraInfo"),
        (BagTopics(truth="/nothing"), r"no topic /nothing \(truth\)"),
        (BagTopics(truth="/image"), "expected geometry_msgs/msg/PoseStamped or"),
    ],
)
def test_unknown_topics(
    bag: Path,
    settings: RegistrationSettings,
    processor: FrameProcessor,
    tmp_path: Path,
    topics: BagTopics,
    says: str,
) -> None:
    with pytest.raises(InputError, match=says):
        evaluate(bag, settings, processor, tmp_path / "out", topics)
    assert (tmp_path / "out" / "metadata.yaml").is_file()  # an empty, whole bag


def test_truth_that_is_no_truth_is_told(
    scene: Any, settings: RegistrationSettings, processor: FrameProcessor, tmp_path: Path
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/image", array_to_image(scene.raw, header(0)), 10)
        writer.write("/camera_info", camera_to_message(scene.camera, header(0)), 10)
        writer.add_topic("/tf", "tf2_msgs/msg/TFMessage")
    evaluation, _ = evaluate(
        tmp_path / "bag", settings, processor, tmp_path / "out", BagTopics(truth="/tf")
    )
    assert any("/tf holds no truth" in problem for problem in evaluation.problems)
    (record,) = evaluation.records
    assert (record.state, record.has_truth) == ("waiting_for_start_pose", False)


def test_truncated_bag_keeps_what_was_done(scene: Any, tmp_path: Path) -> None:
    shots = [(scene.raw, scene.camera, scene.camera_from_ct)] * 16
    write_simulated_bag(tmp_path / "bag", shots, scene.start())
    (file,) = (tmp_path / "bag").glob("*.mcap")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * 0.7)])
    out = tmp_path / "out"
    # without a start pose every image is answered at once
    code = main(["evaluate", str(tmp_path / "bag"), "--out", str(out), *options(scene),
                 "--no-overlays", "--initialpose-topic", "/none"])  # fmt: skip
    assert code == 3
    content_json = json.loads((out / "evaluation.json").read_text())
    done = content_json["summary"]["images"]
    assert 0 < done < 16
    assert "truncated" in content_json["summary"]["problems"][0]
    assert len(messages(out / "result_bag", "/diagnostics")) == done
