"""What ``evaluate`` does with a bag or folder: through the node's code, figures, a result bag."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_registration.commands.inputs import EXAMPLE, make_folder
from xray_registration.errors import InputError
from xray_registration.optional import require

if TYPE_CHECKING:
    from xray_registration.ros.frame_processor import FrameProcessor
    from xray_registration.ros.offline_evaluation import OfflineEvaluation
    from xray_registration.ros.offline_source import OfflineSource
    from xray_registration.ros.registration_settings import RegistrationSettings

DESCRIPTION = """\
SOURCE is a rosbag2 (folder, .mcap or .db3) with Image and CameraInfo, or a folder of images with a
manifest.yaml, of `simulate`, or of DICOM files with C-arm tags. Every image goes through the code
of registration_node, in bag time.
"""
EPILOG = """\
Written to --out DIR: result_bag (/tf, pose, result, overlay, diagnostics, to play beside the
original), evaluation.json, images.csv. Exit code 0; 2 for unusable input; 3 when the source broke
off or images had to be skipped (what was done is kept).
"""
INCOMPLETE = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of bags and folders."""
    group = parser.add_argument_group("a bag or folder")
    group.add_argument("source", nargs="?", metavar="SOURCE", help="rosbag2, or folder of images")
    group.add_argument(
        "--params",
        metavar="YAML",
        help="parameters of registration_node (config/registration.yaml)",
    )
    group.add_argument("--ct", metavar="CT", help="over ct_path of --params; 'example' works")
    group.add_argument("--label-map", metavar="LABELS", help="over label_map_path of --params")
    group.add_argument("--initial-pose", metavar="POSE.json", help="start of the first image")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other parameter of the node, e.g. image.kind=intensity; repeat",
    )
    group.add_argument("--image-topic", default="", metavar="TOPIC", help="default: the only one")
    group.add_argument(
        "--camera-info-topic", default="", metavar="TOPIC", help="default: beside the images"
    )
    group.add_argument("--initialpose-topic", default="/initialpose", metavar="TOPIC")
    group.add_argument(
        "--truth",
        default="",
        metavar="TOPIC",
        help="true poses: PoseStamped, PoseWithCovarianceStamped, TransformStamped or /tf",
    )
    group.add_argument("--landmarks", metavar="FILE", help="targets: Slicer .fcsv or .mrk.json")
    group.add_argument("--storage", choices=("mcap", "sqlite3"), help="default: as the bag, mcap")
    group.add_argument("--no-overlays", action="store_true", help="no pictures in the result bag")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; see EPILOG for the code.

    Raises:
        InputError: unusable input. The result bag and files are written as far as they got.
        MissingDependencyError: no rclpy or rosbags.
    """
    for module, package in (("rclpy", "ros-rclpy"), ("rosbags", "rosbags")):
        require(module, pip=package)
    from xray_registration.interchange.slicer import read_landmarks
    from xray_registration.ros.bag_files import BagWriter
    from xray_registration.ros.frame_processor import FrameProcessor
    from xray_registration.ros.offline_evaluation import OfflineEvaluation

    if arguments.out is None:
        raise InputError("--out is missing; expected the folder to write to.")
    out, source_path = Path(arguments.out), Path(arguments.source)
    if not source_path.exists():
        raise InputError(f"{source_path}: no such bag or folder.")
    if (out / "result_bag").exists():
        raise InputError(f"{out / 'result_bag'}: exists already; bags are not overwritten.")
    settings = _settings(arguments)
    settings = replace(settings, overlay_always=not arguments.no_overlays)
    landmarks = read_landmarks(arguments.landmarks) if arguments.landmarks else None
    processor = FrameProcessor(settings)
    source, storage = _source(arguments, source_path, settings, processor)
    evaluation = OfflineEvaluation(settings, processor, landmarks)
    make_folder(out, "--out")
    about = {
        "source": str(source_path),
        "ct": {"path": processor.ct.path, "sha256": processor.ct.sha256},
        "truth_topic": arguments.truth or None,
    }
    try:
        with BagWriter(out / "result_bag", arguments.storage or storage) as writer:
            evaluation.run(source, writer)
    finally:
        evaluation.write(out, about)
    _say(evaluation, out)
    return INCOMPLETE if evaluation.problems else 0


def _settings(arguments: argparse.Namespace) -> RegistrationSettings:
    import yaml

    from xray_registration.geometry.json_files import read_pose
    from xray_registration.ros.parameter_files import node_settings, parameters_from_yaml

    values: dict[str, Any] = {}
    if arguments.params is not None:
        values = parameters_from_yaml(Path(arguments.params))
    if arguments.ct is not None:
        values["ct_path"] = arguments.ct
        if arguments.label_map is None and arguments.ct != EXAMPLE:
            values.pop("label_map_path", None)  # it belongs to the other CT
    if arguments.label_map is not None:
        values["label_map_path"] = arguments.label_map
    for setting in arguments.set:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: expected NAME=VALUE.")
        try:
            values[name.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {setting}: the value is no YAML: {error}") from error
    if not values.get("ct_path"):
        raise InputError("no CT: give --ct, or ct_path in --params.")
    settings = node_settings(values)
    if len(settings.views) > 1:
        raise InputError(
            "parameter 'views': bags of several views are not evaluated; leave it out."
        )
    if arguments.initial_pose is not None:
        start, _ = read_pose(arguments.initial_pose)
        settings = replace(settings, start=start)
    return settings


def _source(
    arguments: argparse.Namespace,
    path: Path,
    settings: RegistrationSettings,
    processor: FrameProcessor,
) -> tuple[OfflineSource, str]:
    """The source, and the storage of a result bag beside it."""
    from xray_registration.ros.bag_files import BagReader
    from xray_registration.ros.offline_folder import FolderSource
    from xray_registration.ros.offline_source import BagSource, BagTopics

    bag_files = (
        [f for f in path.iterdir() if f.suffix in (".mcap", ".db3")] if path.is_dir() else []
    )
    is_manifest = path.suffix.lower() in (".yaml", ".yml", ".json")
    if is_manifest or (path.is_dir() and not bag_files and not (path / "metadata.yaml").exists()):
        for option in ("truth", "image_topic", "camera_info_topic"):
            if getattr(arguments, option):
                raise InputError(f"--{option.replace('_', '-')} belongs to bags; {path} is none.")
        return FolderSource(path, settings, processor.isocentre_lps_mm), "mcap"
    topics = BagTopics(
        arguments.image_topic,
        arguments.camera_info_topic,
        arguments.initialpose_topic,
        arguments.truth,
    )
    with BagReader(path) as bag:
        storage = bag.storage
    return BagSource(path, settings, topics), storage


def _say(evaluation: OfflineEvaluation, out: Path) -> None:
    for record in evaluation.records:
        error = f"  mTRE {record.errors.mtre_mm:.3f} mm" if record.errors else ""
        similarity = "" if record.similarity is None else f"  similarity {record.similarity:.3f}"
        print(f"{record.name}: {record.reason}{similarity}{error}")
    summary = evaluation.summary()
    for disagreement in evaluation.view_consistency:
        print(disagreement.sentence())
    print(f"{summary['accepted']} of {summary['images']} images accepted")
    if "mtre_accepted" in summary:
        figures = summary["mtre_accepted"]
        shown = ", ".join(
            f"{name} {figures[name]:.3g}" for name in figures if figures[name] is not None
        )
        print(f"mTRE of the accepted ({summary['targets']}): {shown}")
        print(f"accepted with an mTRE above 2 mm: {summary['false_accepts']}")
    for problem in evaluation.problems:
        print(f"problem: {problem}")
    print(f"{out / 'evaluation.json'}, {out / 'images.csv'}, {out / 'result_bag'}")
