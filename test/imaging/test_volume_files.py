"""load_ct on files: every format with its geometry, and everything that is refused."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest
import SimpleITK

from xray_registration.errors import InputError
from xray_registration.imaging.volume import load_ct

FORMATS = ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.nhdr", "ct.mha", "ct.mhd"]


@pytest.mark.parametrize("axes", ["LPS", "LAS", "RAS", "PIR", "oblique", "oblique_left_handed"])
@pytest.mark.parametrize("name", FORMATS)
def test_formats_and_axes(phantom, write_volume, name, axes):
    affine = phantom.affine_for(axes)
    hu = np.rint(phantom.hu_for(axes)).astype(np.int16)
    ct = load_ct(write_volume(name, hu, affine))
    np.testing.assert_array_equal(ct.hu, hu)
    np.testing.assert_allclose(ct.lps_from_index, affine, atol=1e-4)
    assert ct.hu.dtype == np.int16
    assert ct.path.endswith(name)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
def test_itk_reordering_of_one_ct_changes_no_world_point(phantom, tmp_path, axes):
    image = phantom.sitk_image(phantom.hu_for("oblique"), phantom.affine_for("oblique"))
    path = tmp_path / "ct.nrrd"
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, axes), str(path))
    points = np.array(phantom.centre) + np.random.default_rng(1).uniform(-4, 4, (30, 3))
    np.testing.assert_allclose(load_ct(path).sample_hu(points), phantom.hu_at(points), atol=1e-2)


def test_sha256_is_of_the_file(write_volume):
    path = write_volume("ct.nii.gz")
    assert load_ct(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_sha256_covers_detached_data(write_volume):
    path = write_volume("ct.mhd")
    both = path.read_bytes() + path.with_suffix(".raw").read_bytes()
    assert load_ct(path).sha256 == hashlib.sha256(both).hexdigest()


def test_nifti_slope_and_intercept_are_applied(phantom, write_volume):
    # scl_slope and scl_inter are floats at bytes 112 and 116 of a NIfTI-1 header.
    stored = np.rint(phantom.hu_for() + 1024).astype(np.int16)
    path = write_volume("ct.nii", stored)
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([1.0, -1024.0], "<f4").tobytes()
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(load_ct(path).hu, stored - 1024)


@pytest.mark.parametrize("kind", ["<i2", ">i2", "<i4", "<f4", ">f8", "<u2"])
def test_nifti_voxel_types_and_byte_orders(phantom, write_volume, kind):
    """Rewrites the data part of a NIfTI file; big-endian ones get a swapped header."""
    dtype = np.dtype(kind)
    hu = np.rint(phantom.hu_for()).astype(np.int16)
    path = write_volume("ct.nii", hu)
    header = bytearray(path.read_bytes()[:352])
    code = {"i2": 4, "i4": 8, "f4": 16, "f8": 64, "u2": 512}[kind[1:]]
    intercept = -1024.0 if kind[1:] == "u2" else 0.0
    header[70:74] = np.array([code, 8 * dtype.itemsize], "<i2").tobytes()
    header[112:120] = np.array([1.0, intercept], "<f4").tobytes()
    if kind[0] == ">":
        header = bytearray(_swapped_nifti_header(bytes(header)))
    path.write_bytes(bytes(header) + (hu - intercept).astype(dtype).tobytes())
    ct = load_ct(path)
    np.testing.assert_array_equal(ct.hu, hu)
    np.testing.assert_allclose(ct.lps_from_index, phantom.affine_for(), atol=1e-4)


def _swapped_nifti_header(header: bytes) -> bytes:
    """Byte order of every number in a NIfTI-1 header reversed."""
    fields = [(0, 4, 1), (32, 4, 1), (36, 2, 1), (40, 2, 8), (56, 4, 3), (68, 2, 4), (76, 4, 8)]
    fields += [(108, 4, 3), (120, 2, 1), (124, 4, 6), (252, 2, 2), (256, 4, 18)]
    out = bytearray(header)
    for start, size, count in fields:
        for n in range(start, start + size * count, size):
            out[n : n + size] = header[n : n + size][::-1]
    return bytes(out)


def test_nifti_2_is_refused_by_name(write_volume):
    path = write_volume("ct.nii")
    data = bytearray(path.read_bytes())
    data[:4] = np.array([540], "<i4").tobytes()
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"NIfTI-2.*save it as NIfTI-1"):
        load_ct(path)


def test_nifti_colour_is_refused(phantom, write_volume):
    path = write_volume("ct.nii", np.zeros((12, 16, 20), np.int16))
    data = bytearray(path.read_bytes())
    data[70:74] = np.array([128, 24], "<i2").tobytes()  # RGB24
    path.write_bytes(bytes(data) + bytes(4000))
    with pytest.raises(InputError, match=r"ct\.nii: (3 values per voxel|NIfTI data type 128)"):
        load_ct(path)


def test_padding_is_kept(phantom, write_volume):
    hu = phantom.hu_for().astype(np.int16)
    hu[:, 0, 0] = -2048
    assert load_ct(write_volume("ct.nii", hu)).hu[3, 0, 0] == -2048


def test_trailing_axis_of_one_is_dropped(phantom, tmp_path):
    image = phantom.sitk_image(phantom.hu_for(), phantom.affine_for())
    path = tmp_path / "ct.nii.gz"
    SimpleITK.WriteImage(SimpleITK.JoinSeries(image), str(path))
    ct = load_ct(path)
    assert ct.shape_ijk == phantom.shape_ijk
    np.testing.assert_allclose(ct.lps_from_index, phantom.affine_for(), atol=1e-4)


def test_four_dimensional_is_refused(phantom, tmp_path):
    image = phantom.sitk_image(phantom.hu_for(), phantom.affine_for())
    path = tmp_path / "ct.nii.gz"
    SimpleITK.WriteImage(SimpleITK.JoinSeries([image, image]), str(path))
    with pytest.raises(InputError, match=r"ct\.nii\.gz: 4-D data of size \[20, 16, 12, 2\]"):
        load_ct(path)


def test_vector_voxels_are_refused(phantom, tmp_path):
    hu = np.stack([phantom.hu_for()] * 3, axis=-1)
    path = tmp_path / "ct.mha"
    SimpleITK.WriteImage(phantom.sitk_image(hu, phantom.affine_for(), is_vector=True), str(path))
    with pytest.raises(InputError, match="3 values per voxel"):
        load_ct(path)


def test_one_slice_is_refused(write_volume):
    with pytest.raises(InputError, match="at least 2 voxels"):
        load_ct(write_volume("ct.nii", np.zeros((1, 16, 20), np.int16)))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.nii\.gz: no such file"):
        load_ct(tmp_path / "absent.nii.gz")


@pytest.mark.parametrize("name", FORMATS)
def test_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="empty"):
        load_ct(tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
def test_garbage_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(range(256)) * 20)
    with pytest.raises(InputError, match="cannot be read"):
        load_ct(tmp_path / name)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha"])
@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_truncated_is_refused(phantom, write_volume, name, keep):
    noise = np.random.default_rng(0).normal(0, 200, phantom.hu_for().shape)
    path = write_volume(name, (phantom.hu_for() + noise).astype(np.int16))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=r"ct\..*cannot be read"):
        load_ct(path)


def test_flipped_bytes_inside_gzip_are_noticed(write_volume):
    path = write_volume("ct.nii.gz")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(b ^ 0xFF for b in data[middle : middle + 8])
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="cannot be read"):
        load_ct(path)


def test_missing_detached_data(write_volume):
    path = write_volume("ct.mhd")
    path.with_suffix(".raw").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_ct(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ct.tif", "TIFF stack carries no voxel spacing"),
        ("slice.dcm", "Give the folder"),
        ("ct.npz", r"unknown volume format '\.npz'.*\.nii\.gz"),
    ],
)
def test_other_formats_are_refused_with_advice(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"x" * 500)
    with pytest.raises(InputError, match=message):
        load_ct(tmp_path / name)


def test_nifti_without_orientation(write_volume):
    path = write_volume("ct.nii")
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="no orientation"):
        load_ct(path)


def test_nifti_in_metres(write_volume):
    path = write_volume("ct.nii.gz")
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[123] = 1  # xyzt_units
    path.write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(InputError, match="metres"):
        load_ct(path)


def test_spacing_in_metres(phantom, write_volume):
    affine = phantom.affine_for()
    affine[:3] *= 1e-3
    with pytest.raises(InputError, match=r"spacing.*metres"):
        load_ct(write_volume("ct.mha", affine=affine))


def test_implausibly_coarse_spacing(phantom, write_volume):
    affine = phantom.affine_for()
    affine[:3] *= 20
    with pytest.raises(InputError, match="spacing"):
        load_ct(write_volume("ct.mha", affine=affine))


def test_nrrd_without_patient_space(tmp_path):
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nspacings: 1 1 1\n"
    header += "encoding: raw\nendian: little\n\n"
    values = np.linspace(-1000, 1000, 64).astype("<i2")
    (tmp_path / "ct.nrrd").write_bytes(header.encode() + values.tobytes())
    with pytest.raises(InputError, match="no patient space"):
        load_ct(tmp_path / "ct.nrrd")


@pytest.mark.parametrize("name", FORMATS)
def test_nan_voxels_are_counted(phantom, write_volume, name):
    hu = phantom.hu_for()
    hu[2, 3, :5] = np.nan
    hu[0, 0, 0] = np.inf
    with pytest.raises(InputError, match="6 of 3840 voxels are NaN or infinite"):
        load_ct(write_volume(name, hu))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda hu: np.zeros_like(hu), "every voxel has the value 0"),
        (lambda hu: (hu - hu.min()).astype(np.uint16), "no value is below 0.*intercept"),
        (lambda hu: ((hu - hu.min()) / np.ptp(hu)).astype(np.float32), "normalised"),
        (lambda hu: (hu / np.abs(hu).max()).astype(np.float32), "normalised"),
        (lambda hu: np.maximum(0.02 * (1 + hu / 1000), 0).astype(np.float32), "attenuation"),
        (lambda hu: (hu * 1e4).astype(np.float32), "beyond any Hounsfield scale"),
        (lambda hu: np.where(hu < 0, -2000, hu + 1024).astype(np.int16), "padding of -2000"),
        (lambda hu: (hu - 5000).astype(np.int16), "every value is below"),
    ],
)
def test_wrong_units_are_refused(phantom, write_volume, make, message):
    with pytest.raises(InputError, match=message):
        load_ct(write_volume("ct.nii.gz", make(phantom.hu_for())))


def test_series_uid_is_for_folders(write_volume):
    with pytest.raises(InputError, match="series_uid"):
        load_ct(write_volume("ct.nii.gz"), series_uid="1.2.3")


@pytest.mark.parametrize(
    ("name", "axes", "shape"),
    [
        ("head_invesalius_cranium", "LAS", (256, 256, 108)),
        ("pelvis_totalsegmentator_3mm", "RAS", (122, 101, 112)),
        ("knee_ibsi_sts051", "LPS", (177, 162, 61)),
    ],
)
def test_real_cts(shared_data, name, axes, shape):
    from xray_registration.imaging.volume import ct_info

    ct = load_ct(shared_data / "ct" / f"{name}.nii.gz")
    assert ct.shape_ijk == shape
    assert ct_info(ct)["index_axes"] == axes
    box = ct.bone_box_lps()
    assert np.all(box[0] >= ct.bounds[0])
    assert np.all(box[1] <= ct.bounds[1])
    assert np.all(np.ptp(box, axis=0) > 50.0)


def test_real_partial_bone_tiff_is_refused(shared_data):
    with pytest.raises(InputError, match="TIFF stack"):
        load_ct(shared_data / "wrist" / "rad_dcm_cropped.tif")
