"""Folders and parameters of the offline evaluation, and what can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rosbags")

from xray_registration.cli import main
from xray_registration.errors import InputError
from xray_registration.geometry.json_files import write_camera, write_pose
from xray_registration.geometry.positioner import positioner_from_camera
from xray_registration.ros.bag_files import BagReader, BagWriter
from xray_registration.ros.frame_processor import FrameProcessor
from xray_registration.ros.offline_evaluation import OfflineEvaluation
from xray_registration.ros.offline_folder import FolderSource
from xray_registration.ros.parameter_files import node_settings, parameters_from_yaml
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.simulated_bag import TRUTH

LEVELS = "vertebrae_T7,vertebrae_T8,vertebrae_T9"


def write_folder(folder: Path, scene: Any) -> Path:
    cv2 = pytest.importorskip("cv2")
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), scene.raw)
    cv2.imwrite(str(folder / "mirrored.png"), scene.raw[:, ::-1])
    write_camera(folder / "cam.json", scene.camera)
    write_camera(folder / "mirrored.json", scene.camera.flipped_horizontally())
    write_pose(folder / "truth.json", scene.camera_from_ct)
    write_pose(folder / "start.json", scene.start(), "ras")
    return folder


def test_folder_with_a_manifest(
    scene: Any, settings: RegistrationSettings, processor: FrameProcessor, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "folder", scene)
    (folder / "manifest.yaml").write_text(
        """
images:
  - {image: a.png, camera: cam.json, truth: truth.json, start: start.json}
  - {image: gone.png, camera: cam.json}
  - {image: mirrored.png, camera: mirrored.json, truth: truth.json, flip_horizontal: true}
"""
    )
    evaluation = OfflineEvaluation(settings, processor)
    with BagWriter(tmp_path / "out") as writer:
        evaluation.run(FolderSource(folder, settings, processor.isocentre_lps_mm), writer)
    first, second = evaluation.records
    assert first.accepted
    assert second.accepted
    assert first.errors is not None
    assert second.errors is not None
    assert max(first.errors.mtre_mm, second.errors.mtre_mm) < 1.0
    (problem,) = evaluation.problems
    assert "gone.png" in problem
    with BagReader(tmp_path / "out") as reader:
        assert len(list(reader.messages(["/tf"]))) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("images: []", "expected a list 'images'"),
        ("images: [{camera: cam.json}]", "no key 'image'"),
        ("images: [{image: a.png, kamera: cam.json}]", "unknown keys kamera"),
        ("images: [{image: a.png}]", "names no camera"),
        ("images: [{image: a.png, camera: cam.json, image_kind: photo}]", "'photo'"),
        ("images: [", "cannot be read as a manifest"),
        ("images: [{views: [{image: a.png, camera: cam.json}]}]", "two entries or more"),
        ("images: [{views: [{image: a.png}, {kamera: b}]}]", "views.1.: unknown keys kamera"),
        ("images: [{views: [], image: a.png}]", "unknown keys image"),
    ],
)
def test_wrong_manifests(
    scene: Any, settings: RegistrationSettings, tmp_path: Path, text: str, says: str
) -> None:
    from xray_registration.ros.start_pose import StartPosePolicy

    folder = write_folder(tmp_path / "folder", scene)
    (folder / "manifest.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        list(FolderSource(folder, settings, np.zeros(3)).frames(StartPosePolicy()))


def test_dicom_folder_gives_camera_and_start(
    scene: Any, settings: RegistrationSettings, processor: FrameProcessor, tmp_path: Path
) -> None:
    """XA: mirrored, MONOCHROME1, camera and start from the header, nothing else."""
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    angles = positioner_from_camera(scene.camera_from_ct, 720.0)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.12.1"
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["folder"])
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality, dataset.PhotometricInterpretation = "XA", "MONOCHROME1"
    dataset.Rows = dataset.Columns = 256
    dataset.SamplesPerPixel, dataset.BitsAllocated, dataset.BitsStored = 1, 16, 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.DistanceSourceToDetector, dataset.DistanceSourceToPatient = 1020.0, 720.0
    dataset.ImagerPixelSpacing = [1.0, 1.0]
    dataset.PositionerPrimaryAngle = round(angles.primary_deg - 2.0, 4)
    dataset.PositionerSecondaryAngle = round(angles.secondary_deg + 1.0, 4)
    dataset.PixelData = (65535 - scene.raw[:, ::-1]).astype(np.uint16).tobytes()
    (tmp_path / "dicom").mkdir()
    dataset.save_as(tmp_path / "dicom" / "shot.dcm", enforce_file_format=True)
    evaluation = OfflineEvaluation(settings, processor)
    source = FolderSource(tmp_path / "dicom", settings, processor.isocentre_lps_mm)
    with BagWriter(tmp_path / "out") as writer:
        evaluation.run(source, writer)
    (record,) = evaluation.records
    assert record.accepted, record.message
    assert record.camera_from_ct_lps is not None
    assert scene.mtre_mm(np.array(record.camera_from_ct_lps)) < 1.0


def test_empty_folder(settings: RegistrationSettings, tmp_path: Path) -> None:
    from xray_registration.ros.start_pose import StartPosePolicy

    with pytest.raises(InputError, match="neither a manifest"):
        list(FolderSource(tmp_path, settings, np.zeros(3)).frames(StartPosePolicy()))


# --- simulate, parameters, launch ----------------------------------------------------------------


def test_simulate_makes_a_bag_and_a_folder_that_evaluate_takes(scene: Any, tmp_path: Path) -> None:
    made = ["simulate", "--ct", str(scene.ct_path), "--label-map", str(scene.label_path)]
    made += ["--isocentre-labels", LEVELS, "--width", "128", "--height", "128"]
    made += ["--pixel-pitch-mm", "2", "--start-mm", "3", "--start-deg", "1", "--primary", "5"]
    assert main([*made, "--out", str(tmp_path / "sim"), "--bag", str(tmp_path / "bag"),
                 "--bag-storage", "sqlite3"]) == 0  # fmt: skip
    given = ["--ct", str(scene.ct_path), "--label-map", str(scene.label_path)]
    given += ["--set", "camera.sdd_mm=1020", "--set", f"isocentre.labels={LEVELS}"]
    for name, truth in (("bag", ["--truth", TRUTH]), ("sim", [])):
        out = tmp_path / f"{name}_out"
        code = main(["evaluate", str(tmp_path / name), "--out", str(out), *given, *truth])
        assert code == 0
        record = json.loads((out / "evaluation.json").read_text())["images"][0]
        assert record["has_truth"]
        assert record["mtre_mm"] < 3.0
    assert list((tmp_path / "bag_out" / "result_bag").glob("*.db3"))  # as the bag


def test_parameters_of_the_shipped_file(repository: Path, scene: Any) -> None:
    values = parameters_from_yaml(repository / "config" / "registration.yaml")
    settings = node_settings({**values, "ct_path": str(scene.ct_path)})
    assert settings.max_rejects == 5
    assert settings.config.gate.min_overlap == values["gate.min_overlap"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ct_paht": "x"}, "'ct_paht'"),
        ({"image.kind": "photo"}, "'photo'"),
        ({"start.max_rejects": "many"}, "expected a int"),
        ({"qos.depth": 0}, "expected 1 to 1000"),
        ({"camera.sdd_mm": -1.0}, "camera.sdd_mm"),
    ],
)
def test_wrong_parameters(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        node_settings({"ct_path": "x", **values})


def test_wrong_parameter_files_and_options(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.yaml").write_text("other_node: {ros__parameters: {a: 1}}")
    out = ["--out", str(tmp_path / "out")]
    wrong = [
        ([str(bag), "--params", str(tmp_path / "other.yaml")], "no section"),
        ([str(bag), "--params", str(tmp_path / "none.yaml")], "cannot be read"),
        ([str(bag)], "no CT"),
        ([str(bag), "--ct", "x", "--set", "abc"], "NAME=VALUE"),
        ([str(tmp_path / "gone"), "--ct", "x"], "no such bag"),
        ([], "nothing to evaluate"),
    ]
    for arguments, says in wrong:
        assert main(["evaluate", *arguments, *out]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
