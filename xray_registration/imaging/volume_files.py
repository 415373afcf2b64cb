"""Volume files and DICOM folders to an array with its LPS affine (CTs and label maps alike)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.grid import check_affine
from xray_registration.imaging.nifti_pixels import read_nifti_pixels
from xray_registration.optional import require

ACCEPTED = ".nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd or a folder of DICOM slices"
_NIFTI = (".nii", ".nii.gz")
_SUFFIXES = (*_NIFTI, ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True, eq=False)
class RawVolume:
    """Voxels as stored (rescaled), before anybody has said what they mean.

    Attributes:
        array: (D, H, W), index [k, j, i].
        lps_from_index: (4, 4) float64, LPS mm.
        path: as given.
        sha256: of the file's, or the series' files', contents.
    """

    array: NDArray[Any]
    lps_from_index: NDArray[np.float64]
    path: str
    sha256: str


def read_volume(path: Path, series_uid: str | None = None) -> RawVolume:
    """Read one 3-D scalar volume. Errors as `imaging.volume.load_ct`, but for the HU check."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder. Accepted: {ACCEPTED}.")
    if path.is_dir():
        from xray_registration.imaging.dicom_series import read_dicom_series

        return read_dicom_series(path, series_uid)
    if series_uid is not None:
        raise InputError(f"{path}: series_uid is for a DICOM folder, this is a file.")
    return _read_file(path)


def _read_file(path: Path) -> RawVolume:
    _check_suffix(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes).")
    sitk = require("SimpleITK", pip="SimpleITK")
    is_nifti = path.name.lower().endswith(_NIFTI)
    pixels = read_nifti_pixels(path) if is_nifti else None
    try:
        with quiet_itk(sitk):
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            _check_orientation(path, reader)
            size = _three_dimensional(reader, path)
            array = sitk.GetArrayFromImage(reader.Execute()) if pixels is None else pixels
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be read as a volume (corrupt, truncated, or not what its name says). "
            f"ITK: {itk_reason(error)}"
        ) from error
    return RawVolume(
        array=array.reshape(size[::-1]),
        lps_from_index=check_affine(_affine_of(reader), str(path)),
        path=str(path),
        sha256=sha256_of(_files_of(path)),
    )


def _check_suffix(path: Path) -> None:
    name = path.name.lower()
    if name.endswith(_SUFFIXES):
        return
    if name.endswith((".tif", ".tiff")):
        raise InputError(
            f"{path}: a TIFF stack carries no voxel spacing, orientation or origin, and is not "
            f"accepted as a CT. Convert it, with its geometry and in HU, to one of: {ACCEPTED}."
        )
    if name.endswith((".dcm", ".ima")):
        raise InputError(
            f"{path}: one DICOM file. Give the folder that holds the series (an enhanced "
            f"multi-frame CT must be converted first). Accepted: {ACCEPTED}."
        )
    raise InputError(f"{path}: unknown volume format {path.suffix!r}. Accepted: {ACCEPTED}.")


def _check_orientation(path: Path, reader: Any) -> None:
    """Refuse headers that do not say how the voxels lie in the patient.

    ITK would fill in identity axes, and left and right might be swapped unseen.
    """
    meta = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    name = path.name.lower()
    if name.endswith(_NIFTI):
        if meta.get("qform_code") == "0" and meta.get("sform_code") == "0":
            raise InputError(
                f"{path}: the NIfTI header has no orientation (qform_code and sform_code are 0), "
                "so left and right are unknown. Write the affine into it first."
            )
        units = int(meta.get("xyzt_units", "2") or 2) & 7
        if units not in (0, 2):  # NIFTI_UNITS_UNKNOWN, NIFTI_UNITS_MM
            unit = {1: "metres", 3: "micrometres"}.get(units, f"code {units}")
            raise InputError(
                f"{path}: the NIfTI header says its lengths are in {unit}; expected millimetres."
            )
    if name.endswith((".nrrd", ".nhdr")) and "NRRD_space" not in meta:
        raise InputError(
            f"{path}: the NRRD header has no patient space. Expected e.g. "
            "'space: left-posterior-superior' with 'space directions'."
        )


def _three_dimensional(reader: Any, path: Path) -> tuple[int, ...]:
    """(i, j, k) size, extra axes of length one left out."""
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise InputError(
            f"{path}: {components} values per voxel (vector or colour data); a CT has one."
        )
    size = [int(n) for n in reader.GetSize()]
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) != 3:
        raise InputError(
            f"{path}: {len(size)}-D data of size {size}; expected one 3-D volume (extra axes only "
            "of length 1)."
        )
    if min(size) < 2:
        raise InputError(f"{path}: size {size}; a volume needs at least 2 voxels along each axis.")
    return tuple(size)


def _affine_of(reader: Any) -> NDArray[np.float64]:
    """(4, 4) LPS-from-index of the first three axes that a SimpleITK reader has found."""
    dimension = reader.GetDimension()
    direction = np.array(reader.GetDirection(), dtype=np.float64).reshape(dimension, dimension)
    affine = np.eye(4)
    affine[:3, :3] = direction[:3, :3] * np.array(reader.GetSpacing()[:3], dtype=np.float64)
    affine[:3, 3] = reader.GetOrigin()[:3]
    return affine


def sha256_of(files: Iterable[Path]) -> str:
    """SHA-256 of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _files_of(path: Path) -> list[Path]:
    """The file, and the detached data file that an .mhd or .nhdr header names."""
    keys = {".mhd": "elementdatafile", ".nhdr": "data file"}
    key = keys.get(path.suffix.lower())
    if key is None:
        return [path]
    files = [path]
    for line in path.read_text(encoding="latin-1").splitlines():
        name, _, value = line.replace("=", ":", 1).partition(":")
        if name.strip().lower() in (key, key.replace(" ", "")):
            data = path.parent / value.strip()
            if data.is_file():
                files.append(data)
    return files


@contextlib.contextmanager
def quiet_itk(sitk: Any) -> Iterator[None]:
    """ITK's warnings off stderr: what matters in them is checked here and raised."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def itk_reason(error: RuntimeError) -> str:
    """The last line of an ITK exception, which is the one that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
