"""DICOM C-arm headers, written by the tests: geometry, start pose, refusals by tag name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner
from xray_registration.interchange.dicom_carm import read_carm

pydicom = pytest.importorskip("pydicom")

ROWS, COLUMNS = 40, 60
BASE: dict[str, Any] = {
    "Modality": "XA",
    "PhotometricInterpretation": "MONOCHROME2",
    "DistanceSourceToDetector": 1020.0,
    "DistanceSourceToPatient": 720.0,
    "ImagerPixelSpacing": [0.4, 0.3],
    "PositionerPrimaryAngle": 30.0,
    "PositionerSecondaryAngle": -20.0,
}


def write(folder: Path, frames: int = 1, **tags: Any) -> Path:
    """A small valid file with BASE and ``tags``; None leaves a tag out, "" leaves it empty."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.12.1"
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["carm"])
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.SamplesPerPixel = 1
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    if frames > 1:
        dataset.NumberOfFrames = frames
    for name, value in {**BASE, **tags}.items():
        if value is not None:
            setattr(dataset, name, value)
    ramp = np.arange(COLUMNS, dtype=np.uint16)[None, None] * 100
    dataset.PixelData = np.broadcast_to(ramp, (frames, ROWS, COLUMNS)).tobytes()
    path = folder / "shot.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_camera_of_a_source_view(tmp_path: Path) -> None:
    shot = read_carm(write(tmp_path, Modality="DX"))
    assert not shot.flip_horizontal
    assert shot.camera.sdd_mm == 1020.0
    assert shot.camera.pixel_pitch_mm == pytest.approx((0.3, 0.4))  # columns, rows
    assert (shot.camera.width, shot.camera.height) == (COLUMNS, ROWS)
    assert (shot.camera.cx, shot.camera.cy) == (29.5, 19.5)
    assert not shot.white_is_zero


def test_start_pose_and_signs(tmp_path: Path) -> None:
    """LAO (+): the detector is on the patient's left; CAUD (-): towards the feet."""
    isocentre = (3.0, -8.0, 40.0)
    shot = read_carm(write(tmp_path), isocentre_lps_mm=isocentre)
    assert shot.positioner == PositionerPose(30.0, -20.0, 720.0, isocentre)
    pose = shot.camera_from_ct
    np.testing.assert_array_equal(pose, camera_from_positioner(shot.positioner))
    beam = pose[2, :3]  # source to detector in LPS
    assert beam[0] > 0  # left
    assert beam[1] < 0  # anterior
    assert beam[2] < 0  # feet
    right = read_carm(
        write(tmp_path, PositionerPrimaryAngle=-30.0, PositionerSecondaryAngle=20.0)
    ).camera_from_ct[2, :3]
    assert right[0] < 0 < right[2]
    # the isocentre is on the beam's axis, 720 mm from the source
    np.testing.assert_allclose(pose[:3, :3] @ isocentre + pose[:3, 3], (0, 0, 720), atol=1e-9)


def test_xa_pictures_are_flipped(tmp_path: Path) -> None:
    """A patient's left marker is on the right of an XA picture, on the left after the flip."""
    path = write(tmp_path, PositionerPrimaryAngle=0.0, PositionerSecondaryAngle=0.0)
    shot = read_carm(path)
    assert shot.flip_horizontal
    assert any("flip" in note for note in shot.notes)
    pose = shot.camera_from_ct
    left, _ = shot.camera.project(pose[:3, :3] @ (5.0, 0, 0) + pose[:3, 3])
    assert left < shot.camera.cx
    assert not read_carm(path, seen_from="source").flip_horizontal
    with pytest.raises(InputError, match="seen_from"):
        read_carm(path, seen_from="above")


def test_flip_moves_the_principal_point_with_the_picture(tmp_path: Path) -> None:
    path = write(tmp_path)
    shot = read_carm(path, principal_point=(20.0, 12.0))
    assert (shot.camera.cx, shot.camera.cy) == (COLUMNS - 1 - 20.0, 12.0)


def test_monochrome1_is_reported_and_turned_by_the_radiograph(tmp_path: Path) -> None:
    from xray_registration.imaging.radiograph import load_radiograph

    path = write(tmp_path, PhotometricInterpretation="MONOCHROME1")
    assert read_carm(path).white_is_zero
    radiograph = load_radiograph(path, "display", polarity="bone_bright", auto_mask=False)
    assert radiograph.attenuation[0, 0] > radiograph.attenuation[0, -1]


def test_pixel_spacing_with_magnification(tmp_path: Path) -> None:
    tags = {"ImagerPixelSpacing": None, "PixelSpacing": [0.2, 0.1]}
    path = write(tmp_path, EstimatedRadiographicMagnificationFactor=1.5, **tags)
    shot = read_carm(path)
    assert shot.camera.pixel_pitch_mm == pytest.approx((0.15, 0.3))
    assert any("EstimatedRadiographicMagnificationFactor" in note for note in shot.notes)
    # the factor from the distances
    shot = read_carm(write(tmp_path, **tags))
    assert shot.camera.pixel_pitch_mm[0] == pytest.approx(0.1 * 1020 / 720)


DETECTOR = {
    "DetectorElementSpacing": [0.2, 0.15],
    "DetectorActiveDimensions": [20.0, 30.0],
    "DetectorActiveOrigin": [4.0, 6.0],
    "DetectorBinning": [2.0, 2.0],
    "FieldOfViewOrigin": [10.0, 20.0],
    "Modality": "DX",
}


def test_detector_origins_place_the_principal_point(tmp_path: Path) -> None:
    """Middle of the active area: element (4 + 100/2, 6 + 200/2) = (54, 106) from the corner."""
    camera = read_carm(write(tmp_path, **DETECTOR)).camera
    assert camera.cy == pytest.approx((54 - 10) / 2 - 0.5)
    assert camera.cx == pytest.approx((106 - 20) / 2 - 0.5)


@pytest.mark.parametrize(
    ("turn", "flip", "expected"),
    [
        (0, "YES", (COLUMNS - 1 - 42.5, 21.5)),
        (180, "NO", (COLUMNS - 1 - 42.5, ROWS - 1 - 21.5)),
        # before a turn by 90 clockwise the picture was 40 wide and 60 high: (u, v) -> (59 - v, u)
        (90, "NO", (COLUMNS - 1 - 21.5, 42.5)),
        (90, "YES", (21.5, 42.5)),
        (270, "NO", (21.5, ROWS - 1 - 42.5)),
    ],
)
def test_rotation_then_flip(
    tmp_path: Path, turn: int, flip: str, expected: tuple[float, float]
) -> None:
    path = write(tmp_path, **DETECTOR, FieldOfViewRotation=turn, FieldOfViewHorizontalFlip=flip)
    camera = read_carm(path).camera
    assert (camera.cx, camera.cy) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("increments", "reading", "angles"),
    [
        # steps: an even turn; one value less than frames; one value; what is said
        ([0.0, 1.5, 1.5, 1.6, 1.5], None, [30.0, 31.5, 33.0, 34.6, 36.1]),
        ([1.0, 1.5, 2.0, 1.0], None, [30.0, 31.0, 32.5, 34.5, 35.5]),
        (-2.0, None, [30.0, 28.0, 26.0, 24.0, 22.0]),
        ([0.0, 1.0, 1.5, 2.0, 2.0], "steps", [30.0, 31.0, 32.5, 34.5, 36.5]),
        # offsets from the first frame: too far for steps of a C-arm; what is said
        ([0.0, 4.0, 9.0, 15.0, 21.0], None, [30.0, 34.0, 39.0, 45.0, 51.0]),
        ([0.0, 1.0, 1.5, 2.0, 2.0], "offsets", [30.0, 31.0, 31.5, 32.0, 32.0]),
        # the angles themselves
        ([30.0, 32.0, 34.0, 36.0, 38.0], None, [30.0, 32.0, 34.0, 36.0, 38.0]),
        # a C-arm at rest, and no tag
        ([0.0, 0.0, 0.0, 0.0, 0.0], None, [30.0] * 5),
        (None, None, [30.0] * 5),
    ],
)
def test_frames_of_a_run(
    tmp_path: Path, increments: Any, reading: str | None, angles: list[float]
) -> None:
    path = write(tmp_path, frames=5, PositionerPrimaryAngleIncrement=increments)
    found = [read_carm(path, frame, increments=reading).positioner for frame in range(5)]
    assert [pose.primary_deg for pose in found if pose] == pytest.approx(angles)
    assert [pose.secondary_deg for pose in found if pose] == [-20.0] * 5
    with pytest.raises(InputError, match="frames 0 to 4"):
        read_carm(path, 5)


def test_increments_that_can_mean_several_things_are_not_guessed(tmp_path: Path) -> None:
    """Steps of a C-arm that speeds up, or offsets of one that slows down."""
    path = write(tmp_path, frames=4, PositionerPrimaryAngleIncrement=[0.0, 1.0, 1.5, 2.0])
    first = read_carm(path, 0).positioner
    assert first is not None
    assert first.primary_deg == 30.0  # all readings agree
    with pytest.raises(InputError, match=r"several ways .*steps: 32.50, offsets: 31.50.*increment"):
        read_carm(path, 2)
    with pytest.raises(InputError, match="expected steps, offsets, absolute"):
        read_carm(path, 2, increments="turns")


def test_wrong_number_of_increments(tmp_path: Path) -> None:
    path = write(tmp_path, frames=4, PositionerSecondaryAngleIncrement=[1.0, 2.0])
    with pytest.raises(InputError, match="PositionerSecondaryAngleIncrement holds 2 values for 4"):
        read_carm(path, 1)


def test_without_angles_there_is_a_camera_but_no_start(tmp_path: Path) -> None:
    path = write(tmp_path, PositionerPrimaryAngle=None, PositionerSecondaryAngle=None)
    shot = read_carm(path)
    assert shot.positioner is None
    with pytest.raises(InputError, match="PositionerPrimaryAngle"):
        _ = shot.camera_from_ct


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({"DistanceSourceToDetector": None}, "DistanceSourceToDetector is missing"),
        ({"DistanceSourceToDetector": ""}, "DistanceSourceToDetector is missing or empty"),
        ({"DistanceSourceToDetector": 0.0}, "DistanceSourceToDetector is"),
        ({"DistanceSourceToPatient": None}, "DistanceSourceToPatient .*is missing"),
        ({"DistanceSourceToPatient": 1100.0}, "not smaller than"),
        ({"ImagerPixelSpacing": None}, "ImagerPixelSpacing is missing"),
        ({"ImagerPixelSpacing": [0.0, 0.0]}, r"ImagerPixelSpacing is \[0.0, 0.0\]"),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.0, 0.0]}, r"PixelSpacing is \[0.0, 0.0\]"),
        (
            {"ImagerPixelSpacing": None, "PixelSpacing": [1, 1], "DistanceSourceToPatient": None},
            "EstimatedRadiographicMagnificationFactor",
        ),
        (
            {
                "ImagerPixelSpacing": None,
                "PixelSpacing": [1, 1],
                "EstimatedRadiographicMagnificationFactor": 0.5,
            },
            "below 1",
        ),
        ({"PositionerSecondaryAngle": None}, "PositionerSecondaryAngle is missing although"),
        ({"PositionerPrimaryAngle": 200.0}, "primary_deg is 200"),
        ({"PatientPosition": "FFS"}, "PatientPosition is FFS"),
        ({**DETECTOR, "DetectorActiveDimensions": None}, "DetectorActiveDimensions is missing"),
        ({**DETECTOR, "DetectorElementSpacing": None}, "DetectorElementSpacing is missing"),
        ({**DETECTOR, "FieldOfViewOrigin": [900.0, 900.0]}, "contradict each other"),
        ({**DETECTOR, "FieldOfViewRotation": 45}, "FieldOfViewRotation is 45"),
    ],
)
def test_refusals_name_the_tag(tmp_path: Path, tags: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_carm(write(tmp_path, **tags))
    assert "shot.dcm" in str(caught.value)


def test_files_that_are_no_dicom(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_carm(tmp_path / "none.dcm")
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(InputError, match="not a readable DICOM"):
        read_carm(tmp_path / "text.dcm")
