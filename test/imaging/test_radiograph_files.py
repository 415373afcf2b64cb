"""load_radiograph: PNG, TIFF, NPY and DICOM written by the test, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.radiograph import load_radiograph, make_radiograph


@pytest.fixture
def counts():
    """A slope with a bone in it; no value is clipped."""
    y, x = np.mgrid[:60, :80]
    picture = 30_000 + 200 * x - 100 * y - 9_000 * np.exp(-(((x - 40) / 6.0) ** 2))
    return picture.astype(np.uint16)


def write_itk(path, array, vector=False):
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=vector), str(path))


def same(found, raw, kind="intensity", **options):
    expected = make_radiograph(raw, kind, **options)
    np.testing.assert_allclose(found.attenuation, expected.attenuation, atol=1e-6)
    np.testing.assert_array_equal(found.mask, expected.mask)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.TIFF", "x.npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers(tmp_path, counts, name, dtype):
    raw = (counts >> 8).astype(np.uint8) if dtype == np.uint8 else counts
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, raw)
    else:
        write_itk(path, raw)
    found = load_radiograph(path, "intensity")
    assert found.source == str(path)
    same(found, raw)


@pytest.mark.parametrize("name", ["x.tif", "x.npy"])
def test_floats(tmp_path, counts, name):
    raw = (counts / 7.0).astype(np.float32)
    path = tmp_path / name
    np.save(path, raw) if path.suffix == ".npy" else write_itk(path, raw)
    same(load_radiograph(path, "attenuation"), raw, "attenuation")


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_grey_and_coloured_rgb(tmp_path, counts, name):
    raw = np.repeat((counts >> 8).astype(np.uint8)[..., None], 3, axis=2)
    write_itk(tmp_path / name, raw, vector=True)
    same(load_radiograph(tmp_path / name, "intensity"), raw[..., 0])
    raw[5, 5, 0] += 30
    write_itk(tmp_path / name, raw, vector=True)
    with pytest.raises(InputError, match=f"{name}: a colour image"):
        load_radiograph(tmp_path / name, "intensity")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_with_white_as_zero(tmp_path, counts, dtype):
    import tifffile

    raw = (counts >> 8).astype(dtype) if dtype == np.uint8 else counts
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, raw, photometric="miniswhite")
    same(load_radiograph(path, "intensity"), raw)  # stored values mean what is declared
    same(load_radiograph(path, "display"), float(np.iinfo(dtype).max) - raw, "display")


def test_tiff_with_pages_is_refused(tmp_path, counts):
    import tifffile

    tifffile.imwrite(tmp_path / "x.tif", np.stack([counts, counts]))
    with pytest.raises(InputError, match="2 pages; expected a TIFF with one image"):
        load_radiograph(tmp_path / "x.tif", "intensity")


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.npy", "x.dcm"])
def test_missing_empty_garbage(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(InputError, match=f"{name}: no such file"):
        load_radiograph(path, "intensity")
    path.touch()
    with pytest.raises(InputError, match=f"{name}: the file is empty"):
        load_radiograph(path, "intensity")
    path.write_bytes(b"this is no picture" * 30)
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        load_radiograph(path, "intensity")


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.npy"])
def test_truncated(tmp_path, name):
    raw = np.random.default_rng(0).integers(0, 60_000, (60, 80)).astype(np.uint16)
    path = tmp_path / name
    np.save(path, raw) if path.suffix == ".npy" else write_itk(path, raw)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        load_radiograph(path, "intensity")


def test_other_formats(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff" + bytes(200))
    with pytest.raises(InputError, match=r"unknown image format '\.jpg'.*\.png"):
        load_radiograph(tmp_path / "x.jpg", "intensity")


def test_npy_with_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        load_radiograph(tmp_path / "x.npy", "intensity")


def test_nan_in_a_file_is_refused_naming_it(tmp_path, counts):
    raw = counts.astype(np.float32)
    raw[1, 2] = np.nan
    np.save(tmp_path / "x.npy", raw)
    with pytest.raises(
        InputError, match=r"x\.npy: NaN or infinite values in 1 of 4800.*row 1, column 2"
    ):
        load_radiograph(tmp_path / "x.npy", "intensity")


def test_frame_is_for_dicom(tmp_path, counts):
    np.save(tmp_path / "x.npy", counts)
    with pytest.raises(InputError, match="only DICOM files have frames"):
        load_radiograph(tmp_path / "x.npy", "intensity", frame=2)


@pytest.fixture
def write_dicom(tmp_path, counts):
    """Write frames (N, H, W) or (H, W) of uint16 with extra attributes; return the path."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage

    def write(frames=None, name="x.dcm", bits=16, **attributes):
        frames = counts if frames is None else frames
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = XRayAngiographicImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
        data.Modality = "XA"
        data.Rows, data.Columns = frames.shape[-2:]
        if frames.ndim == 3:
            data.NumberOfFrames = len(frames)
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, bits, bits - 1
        data.PixelRepresentation = 0
        data.PixelData = frames.astype("<u2").tobytes()
        for key, value in attributes.items():
            setattr(data, key, value)
        path = tmp_path / name
        data.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.mark.parametrize("name", ["x.dcm", "IM000001"])
def test_dicom(write_dicom, counts, name):
    same(load_radiograph(write_dicom(name=name), "intensity"), counts)


def test_dicom_rescale(write_dicom, counts):
    path = write_dicom(RescaleSlope=0.001, RescaleIntercept=-2.0)
    same(load_radiograph(path, "attenuation"), counts * 0.001 - 2.0, "attenuation")


def test_monochrome1_is_inverted_for_display_only(write_dicom, counts):
    raw = counts >> 4
    path = write_dicom(raw, bits=12, PhotometricInterpretation="MONOCHROME1")
    same(load_radiograph(path, "intensity"), raw)
    same(load_radiograph(path, "display"), 4095.0 - raw, "display")
    path = write_dicom(raw, bits=12, PhotometricInterpretation="MONOCHROME2")
    same(load_radiograph(path, "display"), raw, "display")


def test_monochrome1_with_rescale(write_dicom, counts):
    raw = counts >> 4
    path = write_dicom(
        raw, bits=12, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-5
    )
    same(load_radiograph(path, "display"), 2.0 * (4095.0 - raw) - 5.0, "display")


def test_dicom_frames(write_dicom, counts):
    path = write_dicom(np.stack([counts, counts // 2 + 7]))
    same(load_radiograph(path, "intensity"), counts)
    same(load_radiograph(path, "intensity", frame=1), counts // 2 + 7)
    with pytest.raises(InputError, match="frame 2 asked for; it has frames 0 to 1"):
        load_radiograph(path, "intensity", frame=2)


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("intensity", {"PixelIntensityRelationship": "LOG"}, "LOG.*'attenuation'"),
        (
            "intensity",
            {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": -1},
            "Sign is -1.*'display'",
        ),
        ("attenuation", {"PixelIntensityRelationship": "LIN"}, "LIN.*'intensity'"),
    ],
)
def test_header_that_contradicts_the_kind(write_dicom, kind, attributes, message):
    with pytest.raises(InputError, match=message):
        load_radiograph(write_dicom(**attributes), kind)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_compressed_dicom(tmp_path, counts, compressor):
    """Lossless JPEG, usual for angiography, is one that pydicom alone cannot decode."""
    import SimpleITK

    path = tmp_path / "x.dcm"
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(SimpleITK.GetImageFromArray(counts))
    same(load_radiograph(path, "intensity"), counts)


def test_dicom_without_pixels(write_dicom, tmp_path):
    import pydicom

    path = write_dicom()
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(InputError, match="without pixels"):
        load_radiograph(path, "intensity")


def test_dicom_with_too_few_pixels(write_dicom):
    with pytest.raises(InputError, match="cannot be decoded"):
        load_radiograph(write_dicom(Rows=600), "intensity")


def _read_grey(path):
    import SimpleITK

    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


@pytest.mark.parametrize("camera", [1, 2])
def test_real_fluoroscopy(shared_data, camera):
    """Biplane wrist: a circular intensifier, and a background that is saturated."""
    path = shared_data / "wrist" / f"xr_rad_uln_cam0{camera}_UND.0099.tif"
    found = load_radiograph(path, "intensity")
    assert (found.width, found.height) == (1760, 1760)
    assert found.i0 == 255
    assert "saturation" in found.i0_origin
    y, x = np.mgrid[:1760, :1760]
    radius = np.hypot(x - 880, y - 880)
    raw = _read_grey(path)
    assert found.mask[(radius > 870) & (raw < 30)].mean() < 1e-3  # a few where it meets the border
    assert not found.mask[radius > 920].any()
    assert 0.15 < found.masked["collimated"] < 0.28
    assert found.masked["saturated"] > 0.3
    wrist = found.mask[1150:1700, 700:850]
    assert wrist.mean() > 0.95
    shown = load_radiograph(path, "display", polarity="bone_dark")
    both = shown.mask & found.mask
    assert np.corrcoef(shown.attenuation[both], found.attenuation[both])[0, 1] > 0.9
