"""One CT series from a folder of DICOM slices, its geometry from the slice positions themselves.

ITK takes the spacing between slices from the first pair and only warns when the rest differ, so
the headers are read and checked here (DICOM PS3.3 C.7.6.2, image plane module); ITK then decodes
the pixels and applies the rescale slope and intercept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.grid import check_affine
from xray_registration.imaging.volume_files import (
    ACCEPTED,
    RawVolume,
    itk_reason,
    quiet_itk,
    sha256_of,
)
from xray_registration.optional import require

_TAGS = [
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "GantryDetectorTilt",
]
_NOT_CT = {"MR", "PT", "NM", "US", "SEG", "RTDOSE", "RTSTRUCT", "CR", "DX", "MG", "RF"}


@dataclass(frozen=True, eq=False)
class _Slice:
    file: Path
    series_uid: str
    description: str
    header: Any


def read_dicom_series(folder: Path, series_uid: str | None = None) -> RawVolume:
    """Read the folder's one series, or the one named by `series_uid`.

    Raises:
        InputError: no DICOM image; several series and no `series_uid`; not a CT; slices that
            differ in size, orientation or in-plane spacing; missing or doubled slices
            (non-uniform spacing); gantry tilt.
    """
    chosen = _choose_series(folder, _scan(folder), series_uid)
    source = str(folder)
    for item in chosen:
        _check_slice(item)
    _check_same(chosen, source)
    ordered, affine = _geometry(chosen, source)
    array = _decode([item.file for item in ordered], source)
    return RawVolume(
        array=array,
        lps_from_index=check_affine(affine, source),
        path=source,
        sha256=sha256_of(sorted(item.file for item in chosen)),
    )


def _scan(folder: Path) -> list[_Slice]:
    pydicom = require("pydicom", pip="pydicom")
    found = []
    for file in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        except (pydicom.errors.InvalidDicomError, OSError, EOFError):
            if file.suffix.lower() in (".dcm", ".ima"):
                raise InputError(
                    f"{file}: cannot be read as DICOM (corrupt or empty); the series would have "
                    "a gap. Remove or replace it."
                ) from None
            continue  # reports, previews and the like lie beside many exports
        if "Rows" not in header or "Columns" not in header:
            continue  # DICOMDIR, reports
        uid = str(header.get("SeriesInstanceUID", "") or "")
        found.append(_Slice(file, uid, str(header.get("SeriesDescription", "") or ""), header))
    if not found:
        raise InputError(f"{folder}: no DICOM image in this folder. Accepted: {ACCEPTED}.")
    return found


def _choose_series(folder: Path, found: list[_Slice], series_uid: str | None) -> list[_Slice]:
    series: dict[str, list[_Slice]] = {}
    for item in found:
        series.setdefault(item.series_uid, []).append(item)
    listing = "; ".join(
        f"{uid or '(empty UID)'} ({items[0].description or 'no description'}, {len(items)} files)"
        for uid, items in sorted(series.items())
    )
    if series_uid is not None:
        if series_uid not in series:
            raise InputError(f"{folder}: no series {series_uid!r}; the folder holds: {listing}.")
        return series[series_uid]
    if len(series) > 1:
        raise InputError(
            f"{folder}: {len(series)} series in one folder: {listing}. Name one by its "
            "series_uid, or put it into a folder of its own."
        )
    return next(iter(series.values()))


def _check_slice(item: _Slice) -> None:
    header, file = item.header, item.file
    modality = str(header.get("Modality", "") or "")
    if modality in _NOT_CT:
        raise InputError(f"{file}: DICOM modality {modality}, expected CT.")
    if int(header.get("NumberOfFrames", 1) or 1) > 1:
        raise InputError(
            f"{file}: an enhanced multi-frame DICOM; expected one file per slice. Convert it "
            f"to one of: {ACCEPTED}."
        )
    if int(header.get("SamplesPerPixel", 1) or 1) != 1:
        raise InputError(f"{file}: colour pixels; a CT slice has one value per pixel.")
    for tag, length in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        value = header.get(tag)
        if value is None or len(value) != length:
            raise InputError(
                f"{file}: {tag} is {value}; without {length} numbers there the slice has no "
                "place in the patient."
            )
        if not np.all(np.isfinite(np.asarray(value, dtype=np.float64))):
            raise InputError(f"{file}: {tag} is {list(value)}; expected finite numbers.")


def _check_same(items: list[_Slice], source: str) -> None:
    if len(items) < 2:
        raise InputError(f"{source}: the series has one slice; a volume needs at least 2.")
    first = items[0]
    for tag, tolerance in (
        ("Rows", 0.0),
        ("Columns", 0.0),
        ("PixelSpacing", 1e-4),
        ("ImageOrientationPatient", 1e-3),
    ):
        expected = np.asarray(first.header.get(tag), dtype=np.float64)
        for item in items[1:]:
            value = np.asarray(item.header.get(tag), dtype=np.float64)
            if not np.allclose(value, expected, rtol=0.0, atol=tolerance):
                raise InputError(
                    f"{source}: {tag} differs between slices of one series: "
                    f"{expected.tolist()} in {first.file.name}, {value.tolist()} in "
                    f"{item.file.name}. Remove localisers, or split the series."
                )


def _geometry(items: list[_Slice], source: str) -> tuple[list[_Slice], NDArray[np.float64]]:
    """Slices in order along the normal, and the affine through their positions."""
    orientation = np.asarray(items[0].header.ImageOrientationPatient, dtype=np.float64)
    along_row, along_column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if not np.allclose(lengths, 1.0, atol=1e-3) or abs(along_row @ along_column) > 1e-3:
        raise InputError(
            f"{source}: ImageOrientationPatient {orientation.tolist()} is not two unit vectors at "
            "right angles."
        )
    along_row = along_row / lengths[0]
    along_column = along_column - (along_column @ along_row) * along_row
    along_column /= np.linalg.norm(along_column)
    normal = np.asarray(np.cross(along_row, along_column), dtype=np.float64)

    places = np.array([item.header.ImagePositionPatient for item in items], dtype=np.float64)
    order = np.argsort(places @ normal, kind="stable")
    ordered = [items[n] for n in order]
    places = np.asarray(places[order], dtype=np.float64)
    step_mm = _uniform_step(places @ normal, [item.file.name for item in ordered], source)
    _check_tilt(places, normal, source)

    row_spacing, column_spacing = (float(v) for v in items[0].header.PixelSpacing)
    affine = np.eye(4)
    # PixelSpacing is (between rows, between columns): i runs along a row.
    affine[:3, 0] = along_row * column_spacing
    affine[:3, 1] = along_column * row_spacing
    affine[:3, 2] = normal * step_mm
    affine[:3, 3] = places[0]
    return ordered, affine


def _uniform_step(depth_mm: NDArray[np.float64], names: list[str], source: str) -> float:
    """The slice spacing, or InputError naming the slices between which it breaks.

    Slices may be off the even grid by 2 % of the spacing, or by the 0.05 mm to which some
    scanners round positions.
    """
    gaps = np.diff(depth_mm)
    typical = float(np.median(gaps))
    smallest = int(np.argmin(gaps))
    if gaps[smallest] < 1e-3:
        raise InputError(
            f"{source}: two slices at the same position: {names[smallest]} and "
            f"{names[smallest + 1]} (several phases or reconstructions in one series?)."
        )
    step = float((depth_mm[-1] - depth_mm[0]) / (len(depth_mm) - 1))
    off = np.abs(depth_mm - (depth_mm[0] + step * np.arange(len(depth_mm))))
    if off.max() > max(0.02 * typical, min(0.05, 0.25 * typical)):
        worst = int(np.argmax(np.abs(gaps - typical)))
        raise InputError(
            f"{source}: the slice spacing is not uniform: {gaps[worst]:.3f} mm between "
            f"{names[worst]} and {names[worst + 1]}, elsewhere {typical:.3f} mm. A slice is "
            "missing, or the scan has two parts: complete it, or resample it to even spacing."
        )
    return step


def _check_tilt(places: NDArray[np.float64], normal: NDArray[np.float64], source: str) -> None:
    travel = places[-1] - places[0]
    sideways = travel - (travel @ normal) * normal
    angle = float(np.degrees(np.arctan2(np.linalg.norm(sideways), abs(travel @ normal))))
    drift = places - places[0]
    drift = drift - np.outer(drift @ normal, normal)
    if np.linalg.norm(drift, axis=1).max() > 0.05 and angle > 0.05:
        raise InputError(
            f"{source}: gantry tilt: the slices are stacked at {angle:.2f} degrees to their "
            "normal, so the voxels are sheared. Resample onto a rectangular grid (e.g. dcm2niix "
            "does) and load the result."
        )
    if np.linalg.norm(drift, axis=1).max() > 0.5:
        raise InputError(
            f"{source}: the slices shift sideways by up to "
            f"{np.linalg.norm(drift, axis=1).max():.2f} mm: not one regular volume."
        )


def _decode(files: list[Path], source: str) -> NDArray[Any]:
    sitk = require("SimpleITK", pip="SimpleITK")
    try:
        with quiet_itk(sitk):
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames([str(file) for file in files])
            # Slices may differ in slope and intercept: each is rescaled by its own, and a
            # narrow type chosen from the first one could overflow.
            reader.SetOutputPixelType(sitk.sitkFloat32)
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{source}: the pixels of the series cannot be decoded (corrupt or truncated file, or "
            f"an unsupported compression). ITK: {itk_reason(error)}"
        ) from error
    array: NDArray[Any] = sitk.GetArrayFromImage(image)
    return array
