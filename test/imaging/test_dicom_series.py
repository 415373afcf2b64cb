"""CT from a folder of DICOM slices that the test writes with pydicom."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.volume import load_ct

SERIES_UID = "1.2.826.0.1.3680043.8.498.1"
INTERCEPT = -1024


@pytest.fixture
def write_series(phantom, tmp_path):
    """Write the phantom as one file per slice; `edit(k, dataset)` may change each before."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def write(axes="LPS", edit=None, series_uid=SERIES_UID, prefix="slice", order=None):
        hu = np.rint(phantom.hu_for(axes)).astype(int)
        affine = phantom.affine_for(axes)
        direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        for k in range(hu.shape[0]):
            data = Dataset()
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
            uid = f"{series_uid}.{k + 1}"
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid
            data.SeriesInstanceUID, data.StudyInstanceUID = series_uid, "1.2.3"
            data.SeriesDescription, data.Modality = "phantom", "CT"
            data.InstanceNumber = k + 1
            data.Rows, data.Columns = hu.shape[1:]
            data.PixelSpacing = [phantom.spacing[1], phantom.spacing[0]]
            data.SliceThickness = 5.0  # a trap: thickness is not the spacing
            data.ImageOrientationPatient = [float(v) for v in direction[:, :2].T.ravel()]
            position = affine[:3, :3] @ [0, 0, k] + affine[:3, 3]
            data.ImagePositionPatient = [float(f"{v:.6f}") for v in position]
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
            data.PixelRepresentation = 0
            data.RescaleSlope, data.RescaleIntercept = 1, INTERCEPT
            data.PixelData = (hu[k] - INTERCEPT).astype("<u2").tobytes()
            if edit is not None and edit(k, data) is False:
                continue
            name = k if order is None else order[k]
            data.save_as(tmp_path / f"{prefix}{name:03d}.dcm", enforce_file_format=True)
        return tmp_path

    return write


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "oblique"])
def test_geometry_and_values(phantom, write_series, axes):
    ct = load_ct(write_series(axes))
    expected = np.rint(phantom.hu_for(axes))
    normal_sign = np.linalg.det(phantom.directions[axes])
    assert normal_sign > 0
    np.testing.assert_array_equal(ct.hu, expected)
    np.testing.assert_allclose(ct.lps_from_index, phantom.affine_for(axes), atol=1e-4)


def test_left_handed_storage_order_is_sorted_along_the_normal(phantom, write_series):
    ct = load_ct(write_series("LAS"))
    assert np.linalg.det(ct.lps_from_index[:3, :3]) > 0
    points = np.array(phantom.centre) + np.random.default_rng(0).uniform(-4, 4, (20, 3))
    np.testing.assert_allclose(ct.sample_hu(points), phantom.hu_at(points), atol=1.0)


def test_file_names_do_not_matter(phantom, write_series):
    order = list(np.random.default_rng(5).permutation(12))
    ct = load_ct(write_series(order=order))
    np.testing.assert_array_equal(ct.hu, np.rint(phantom.hu_for()))


def test_sha256_is_of_the_sorted_files(write_series):
    folder = write_series()
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.iterdir())))
    (folder / "notes.txt").write_text("beside the series")
    assert load_ct(folder).sha256 == digest.hexdigest()


def test_each_slice_has_its_own_rescale(phantom, write_series):
    def edit(k, data):
        hu = np.rint(phantom.hu_for())[k]
        data.RescaleSlope, data.RescaleIntercept = 0.5, -1000 - k
        data.PixelData = ((hu + 1000 + k) * 2).astype("<u2").tobytes()

    np.testing.assert_array_equal(load_ct(write_series(edit=edit)).hu, np.rint(phantom.hu_for()))


def test_missing_slice_is_refused_naming_its_neighbours(write_series):
    with pytest.raises(
        InputError, match=r"spacing is not uniform: 4\.000 mm between slice004\.dcm and slice006"
    ):
        load_ct(write_series(edit=lambda k, data: k != 5))


def test_missing_slice_next_to_the_end_is_refused(write_series):
    with pytest.raises(InputError, match="not uniform"):
        load_ct(write_series(edit=lambda k, data: k != 10))


def test_growing_spacing_is_refused(write_series):
    def edit(k, data):
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, y, z + 0.02 * k * k]

    with pytest.raises(InputError, match="not uniform"):
        load_ct(write_series(edit=edit))


def test_positions_rounded_by_the_scanner_are_accepted(phantom, write_series):
    def edit(k, data):
        data.ImagePositionPatient = [round(float(v), 1) for v in data.ImagePositionPatient]

    ct = load_ct(write_series(edit=edit))
    assert abs(ct.spacing_mm[2] - phantom.spacing[2]) < 0.02


def test_doubled_slice_is_refused(write_series):
    def edit(k, data):
        if k == 7:
            data.ImagePositionPatient = [
                *data.ImagePositionPatient[:2],
                data.ImagePositionPatient[2] - 2.0,
            ]

    with pytest.raises(InputError, match=r"same position: slice006\.dcm and slice007\.dcm"):
        load_ct(write_series(edit=edit))


def test_gantry_tilt_is_refused_with_its_angle(write_series):
    def edit(k, data):
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, y + 2.0 * k * np.tan(np.radians(12.0)), z]

    with pytest.raises(InputError, match=r"gantry tilt.*12\.00 degrees"):
        load_ct(write_series(edit=edit))


def test_sideways_jump_is_refused(write_series):
    def edit(k, data):
        if k == 5:
            data.ImagePositionPatient = [
                data.ImagePositionPatient[0] + 3.0,
                *data.ImagePositionPatient[1:],
            ]

    with pytest.raises(InputError, match="shift sideways"):
        load_ct(write_series(edit=edit))


def test_two_series_are_refused_naming_both_and_one_can_be_chosen(phantom, write_series):
    other = "1.2.826.0.1.3680043.8.498.2"

    def edit(k, data):
        data.SeriesDescription = "sharp kernel"
        data.RescaleIntercept = INTERCEPT - 7

    write_series()
    folder = write_series(series_uid=other, prefix="other", edit=edit)
    with pytest.raises(InputError, match=r"2 series.*phantom, 12 files.*sharp kernel") as caught:
        load_ct(folder)
    assert SERIES_UID in str(caught.value)
    assert other in str(caught.value)
    np.testing.assert_array_equal(load_ct(folder, other).hu, np.rint(phantom.hu_for()) - 7)
    with pytest.raises(InputError, match=r"no series '9\.9'.*phantom"):
        load_ct(folder, "9.9")


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("Modality", "MR", "modality MR, expected CT"),
        ("ImagePositionPatient", None, "ImagePositionPatient is None"),
        ("ImageOrientationPatient", [1, 0, 0], "ImageOrientationPatient"),
        ("PixelSpacing", None, "PixelSpacing is None"),
        ("NumberOfFrames", 4, "multi-frame"),
        ("SamplesPerPixel", 3, "colour"),
        ("ImageOrientationPatient", [1, 0, 0, 0.5, 0.5, 0], "right angles"),
    ],
)
def test_headers_without_sense(write_series, tag, value, message):
    with pytest.raises(InputError, match=message):
        load_ct(write_series(edit=lambda k, data: setattr(data, tag, value)))


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("PixelSpacing", [0.5, 0.5]),
        ("ImageOrientationPatient", [0, 1, 0, 0, 0, -1]),
        ("Rows", 8),
    ],
)
def test_a_slice_unlike_the_others_is_refused(write_series, tag, value):
    def edit(k, data):
        if k == 3:
            setattr(data, tag, value)

    with pytest.raises(InputError, match=rf"{tag} differs between slices.*slice003\.dcm"):
        load_ct(write_series(edit=edit))


def test_single_slice_is_refused(write_series):
    with pytest.raises(InputError, match="one slice"):
        load_ct(write_series(edit=lambda k, data: k == 0))


def test_folder_without_dicom(tmp_path):
    (tmp_path / "readme.txt").write_text("no images here")
    with pytest.raises(InputError, match="no DICOM image"):
        load_ct(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not dicom at all" * 20])
def test_corrupt_slice_is_named(write_series, content):
    folder = write_series()
    (folder / "slice006.dcm").write_bytes(content)
    with pytest.raises(InputError, match=r"slice006\.dcm"):
        load_ct(folder)


def test_truncated_slice_is_refused(write_series):
    folder = write_series()
    file = folder / "slice006.dcm"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"slice006\.dcm|cannot be decoded"):
        load_ct(folder)


def test_lost_rescale_intercept_is_wrong_units(write_series):
    def edit(k, data):
        del data.RescaleIntercept, data.RescaleSlope

    with pytest.raises(InputError, match=r"wrong units.*1024"):
        load_ct(write_series(edit=edit))
