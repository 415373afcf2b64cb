"""check-geometry as a user runs it: one finding for each thing that can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xray_registration.cli import main
from xray_registration.geometry import Camera
from xray_registration.geometry.frames import LPS_FROM_RAS
from xray_registration.geometry.json_files import write_camera, write_pose
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner
from xray_registration.interchange.mayacam import write_mayacam
from xray_registration.interchange.slicer import write_landmarks

sitk = pytest.importorskip("SimpleITK")
cv2 = pytest.importorskip("cv2")

CENTRE = np.array([120.0, -90.0, 340.0])
SIDE_MM = 128.0


class Case:
    """A CT of unlike bones away from the origin, a camera, a pose and an X-ray, in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        k, j, i = np.mgrid[:64, :64, :64].astype(np.float32)
        hu = np.full((64, 64, 64), -1000, np.int16)
        hu[(i - 31) ** 2 + (j - 31) ** 2 < 28**2] = 40
        hu[((i - 18) / 5) ** 2 + ((j - 40) / 5) ** 2 < 1] = 900  # a long bone, on one side
        hu[((i - 42) / 9) ** 2 + ((j - 20) / 9) ** 2 + ((k - 44) / 9) ** 2 < 1] = 700
        hu[(abs(i - 45) < 9) & (abs(j - 36) < 3) & (abs(k - 14) < 3)] = 1200
        # slanting bones: no shift makes them look like their mirror image
        for top in (0, 22, 44):
            hu[(abs(k - top - 0.5 * i) < 2.5) & (abs(j - 34) < 4) & (abs(i - 31) < 22)] = 1500
        self.labels = np.where(hu == 700, 1, 0) + np.where(hu == 1200, 2, 0)
        self.write_volume(hu, "ct.nii.gz")
        self.write_volume(self.labels.astype(np.uint8), "labels.nii.gz")
        (folder / "names.json").write_text(json.dumps({"1": "ball", "2": "bar"}))
        self.camera = Camera.from_detector(160, 140, 1.7, 1000.0)
        self.pose = camera_from_positioner(PositionerPose(8.0, -6.0, 700.0, tuple(CENTRE)))
        write_camera(folder / "cam.json", self.camera)
        write_pose(folder / "pose.json", self.pose)
        self.write_image("image.png")

    def write_volume(self, values: np.ndarray, name: str) -> None:
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((2.0, 2.0, 2.0))
        image.SetOrigin((CENTRE - SIDE_MM / 2 + 1).tolist())
        sitk.WriteImage(image, str(self.folder / name))

    def write_image(self, name: str) -> None:
        from xray_registration.imaging.volume import load_ct
        from xray_registration.rendering import AttenuationVolume, JosephProjector

        projector = JosephProjector(AttenuationVolume.from_ct(load_ct(self.folder / "ct.nii.gz")))
        drr = projector.image(torch.from_numpy(self.pose)[None], self.camera)[0].numpy()
        grey = (60000 * np.exp(-drr)).astype(np.uint16)  # bone dark
        cv2.imwrite(str(self.folder / name), grey)
        cv2.imwrite(str(self.folder / f"mirrored_{name}"), grey[:, ::-1])

    def run(self, *options: str, camera: str = "cam.json", pose: str | None = "pose.json") -> int:
        arguments = ["check-geometry", "--ct", str(self.folder / "ct.nii.gz")]
        arguments += ["--camera", str(self.folder / camera), "--out", str(self.folder / "out")]
        if pose is not None:
            arguments += ["--pose", str(self.folder / pose)]
        return main([*arguments, *options])

    def codes(self) -> list[str]:
        return [finding["code"] for finding in self.record()["findings"]]

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "out" / "geometry.json").read_text())
        return record

    def file(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("check"))


def write_raw_pose(case: Case, matrix: np.ndarray, ct_axes: str = "lps") -> str:
    """Without the checks of write_pose."""
    data = {"rig_from_ct": matrix.tolist(), "ct_axes": ct_axes}
    (case.folder / "wrong.json").write_text(json.dumps(data))
    return "wrong.json"


def test_a_right_geometry(case: Case) -> None:
    labels = ["--label-map", case.file("labels.nii.gz"), "--label-names", case.file("names.json")]
    assert case.run("--image", case.file("image.png"), *labels) == 0
    assert set(case.codes()) == {"in_image", "labels", "view", "likeness"}
    (view,) = (f["text"] for f in case.record()["findings"] if f["code"] == "view")
    assert "8 degrees LAO, 6 degrees CAUD" in view
    assert "left is on the left and the head at the top" in view


def test_the_drawing_shows_box_structures_and_landmarks_where_they_project(case: Case) -> None:
    write_landmarks(case.file("centre.fcsv"), {"middle": CENTRE})
    labels = ["--label-map", case.file("labels.nii.gz"), "--label-names", case.file("names.json")]
    assert case.run(*labels, "--landmarks", case.file("centre.fcsv")) == 0
    u, v = case.record()["landmarks_px"]["middle"]
    # the isocentre projects onto the principal point
    assert (u, v) == pytest.approx((case.camera.cx, case.camera.cy), abs=1e-6)
    assert len(case.record()["ct_corners_px"]) == 8
    assert set(case.record()["structures_px"]) == {"ball", "bar"}
    picture = cv2.imread(case.file("out/geometry.png")).astype(int)
    blue, green, red = picture[..., 0], picture[..., 1], picture[..., 2]
    assert ((green > 200) & (red < 120) & (blue < 140)).sum() > 100  # structures
    assert ((red > 200) & (green > 120) & (green < 190) & (blue < 110)).sum() > 100  # box
    assert ((red > 200) & (blue > 160) & (green < 130)).sum() > 10  # landmark


def test_translation_in_metres(case: Case) -> None:
    wrong = case.pose.copy()
    wrong[:3, 3] /= 1000
    assert case.run(pose=write_raw_pose(case, wrong)) == 3
    assert "pose_in_metres" in case.codes()


def test_lps_taken_for_ras(case: Case) -> None:
    assert case.run(pose=write_raw_pose(case, case.pose, "ras")) == 3
    assert {"off_image", "pose_ras"} <= set(case.codes())


@pytest.mark.parametrize(
    ("change", "hinted"),
    [
        (lambda pose, _: np.linalg.inv(pose), "pose_inverse"),
        (lambda pose, _: np.diag([1.0, -1, -1, 1]) @ pose, "pose_opengl"),
        (lambda pose, _: np.diag([-1.0, 1, -1, 1]) @ pose, "pose_xreg"),
        # written for a CT that was moved to the origin
        (lambda pose, move: pose @ move, "pose_centred"),
    ],
)
def test_other_ways_to_mean_a_pose(case: Case, change: Any, hinted: str) -> None:
    move = np.eye(4)
    move[:3, 3] = CENTRE
    assert case.run(pose=write_raw_pose(case, change(case.pose, move))) == 3
    assert hinted in case.codes()


def test_source_in_the_patient(case: Case) -> None:
    wrong = case.pose.copy()
    wrong[2, 3] -= 690.0
    assert case.run(pose=write_raw_pose(case, wrong)) == 3
    assert "source_in_patient" in case.codes()


def test_behind_source_and_behind_detector(case: Case) -> None:
    wrong = case.pose.copy()
    wrong[2, 3] -= 1500.0
    assert case.run(pose=write_raw_pose(case, wrong)) == 3
    assert "behind_source" in case.codes()
    wrong[2, 3] += 2000.0
    assert case.run(pose=write_raw_pose(case, wrong)) == 3
    assert "behind_detector" in case.codes()
    wrong[2, 3] -= 220.0
    assert case.run(pose=write_raw_pose(case, wrong)) == 0
    assert "part_behind_detector" in case.codes()


def test_off_the_picture(case: Case) -> None:
    wrong = case.pose.copy()
    wrong[0, 3] -= 400.0
    labels = ["--label-map", case.file("labels.nii.gz"), "--label-names", case.file("names.json")]
    assert case.run(*labels, pose=write_raw_pose(case, wrong)) == 3
    assert {"off_image", "labels_off_image"} <= set(case.codes())
    assert any("left of the picture" in f["text"] for f in case.record()["findings"])


def test_mostly_off_and_tiny(case: Case) -> None:
    wrong = case.pose.copy()
    wrong[0, 3] += 118.0
    assert case.run(pose=write_raw_pose(case, wrong)) == 0
    assert "mostly_off_image" in case.codes()
    large = Camera.from_detector(4096, 4096, 1.0, 1000.0)
    write_camera(case.file("large.json"), large)
    assert case.run(camera="large.json") == 0
    assert "tiny" in case.codes()


def test_mirrored_pose(case: Case) -> None:
    assert case.run(pose=write_raw_pose(case, np.diag([-1.0, 1, 1, 1]) @ case.pose)) == 3
    assert "pose_mirrored" in case.codes()
    assert (case.folder / "out" / "geometry.png").stat().st_size > 1000


def test_mirrored_picture(case: Case) -> None:
    assert case.run("--image", case.file("mirrored_image.png")) == 0
    assert "image_mirrored" in case.codes()
    assert case.run("--image", case.file("mirrored_image.png"), "--flip-horizontal") == 0
    assert "likeness" in case.codes()


def test_a_picture_of_something_else(case: Case) -> None:
    noise = np.random.default_rng(5).integers(0, 60000, (140, 160)).astype(np.uint16)
    cv2.imwrite(case.file("noise.png"), noise)
    assert case.run("--image", case.file("noise.png")) == 0
    assert "unlike" in case.codes()


def test_ras_with_a_picture_when_both_fit(case: Case) -> None:
    """A CT centred on the origin: only the picture can tell LPS from RAS."""
    centred = Case.__new__(Case)
    centred.folder = case.folder / "centred"
    centred.folder.mkdir()
    ct = sitk.ReadImage(case.file("ct.nii.gz"))
    ct.SetOrigin([-SIDE_MM / 2 + 1] * 3)
    sitk.WriteImage(ct, centred.file("ct.nii.gz"))
    centred.camera = case.camera
    centred.pose = camera_from_positioner(PositionerPose(8.0, -6.0, 700.0))
    write_camera(centred.file("cam.json"), centred.camera)
    centred.write_image("image.png")
    write_pose(centred.file("pose.json"), centred.pose @ LPS_FROM_RAS)
    assert centred.run("--image", centred.file("image.png")) == 0
    assert "image_ras" in centred.codes()


def test_image_of_another_size(case: Case) -> None:
    cv2.imwrite(case.file("small.png"), np.zeros((70, 80), np.uint8))
    assert case.run("--image", case.file("small.png")) == 3
    assert "image_size" in case.codes()


def test_landmarks_off_picture_and_in_other_axes(case: Case) -> None:
    points = {"in": CENTRE, "out": CENTRE + np.array([0, 0, 400.0])}
    write_landmarks(case.file("some.mrk.json"), points)
    assert case.run("--landmarks", case.file("some.mrk.json")) == 3
    assert {"landmarks_off_image", "landmarks_outside_ct"} <= set(case.codes())
    text = Path(case.file("some.mrk.json")).read_text().replace('"LPS"', '"RAS"')
    Path(case.file("ras.mrk.json")).write_text(text)
    assert case.run("--landmarks", case.file("ras.mrk.json")) == 3
    write_landmarks(case.file("flip.fcsv"), {"a": CENTRE * (-1, -1, 1)})
    assert case.run("--landmarks", case.file("flip.fcsv")) == 3
    assert "landmarks_ras" in case.codes()
    write_landmarks(case.file("metres.fcsv"), {"a": CENTRE / 1000})
    assert case.run("--landmarks", case.file("metres.fcsv")) == 3
    assert "landmarks_metres" in case.codes()


def test_camera_of_a_mayacam_file(case: Case) -> None:
    write_mayacam(case.file("cam.txt"), case.camera, case.pose)
    write_pose(case.file("identity.json"), np.eye(4))
    assert case.run(camera="cam.txt", pose="identity.json") == 0
    assert {"sdd_missing", "in_image"} <= set(case.codes())


def test_unusable_camera_still_reports(case: Case) -> None:
    data = {**case.camera.to_dict(), "K": [[0, 0, 0], [0, 0, 0], [0, 0, 1]]}
    (case.folder / "zero.json").write_text(json.dumps(data))
    assert case.run(camera="zero.json") == 3
    assert case.codes() == ["camera_unusable"]


def test_bad_files_exit_with_2(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.run(pose="none.json") == 2
    assert "no such file" in capsys.readouterr().err
    assert case.run(pose=None) == 2
    assert "--pose is missing" in capsys.readouterr().err
    (case.folder / "axes.json").write_text(
        json.dumps({"rig_from_ct": np.eye(4).tolist(), "ct_axes": "xyz"})
    )
    assert case.run(pose="axes.json") == 2
    assert "xyz" in capsys.readouterr().err


def test_dicom_gives_camera_and_pose(case: Case) -> None:
    """An XA header alone, and its own mirrored picture."""
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    grey = cv2.imread(case.file("mirrored_image.png"), cv2.IMREAD_UNCHANGED)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.12.1"
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["check"])
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality, dataset.PhotometricInterpretation = "XA", "MONOCHROME2"
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel, dataset.BitsAllocated, dataset.BitsStored = 1, 16, 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.DistanceSourceToDetector, dataset.DistanceSourceToPatient = 1000.0, 700.0
    dataset.ImagerPixelSpacing = [1.7, 1.7]
    dataset.PositionerPrimaryAngle, dataset.PositionerSecondaryAngle = 8.0, -6.0
    dataset.PixelData = grey.tobytes()
    dataset.save_as(case.file("shot.dcm"), enforce_file_format=True)
    assert case.run("--image", case.file("shot.dcm"), camera="shot.dcm", pose=None) == 0
    assert {"dicom", "in_image", "likeness"} <= set(case.codes())
