"""Radiograph files (PNG, TIFF, NPY, DICOM) to the pixel values as stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.volume_files import itk_reason, quiet_itk
from xray_registration.optional import require

ACCEPTED = ".png, .tif, .tiff, .npy, .dcm (or DICOM without a suffix)"
_TIFF_WHITE_IS_ZERO = 0


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """Pixels of one image.

    Attributes:
        values: (H, W), or (H, W, channels) for colour files.
        white_is_zero: the file asks for display with its smallest value white.
        largest_value: value that shows as the other end, for the inversion.
    """

    values: NDArray[Any]
    white_is_zero: bool = False
    largest_value: float = 0.0


def read_radiograph_file(path: Path, kind: str, frame: int | None = None) -> StoredPixels:
    """Read one image; `kind` only to refuse files whose header contradicts it.

    Raises:
        InputError: missing, empty, corrupt, other format, several pages, frame out of range.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Accepted: {ACCEPTED}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes).")
    suffix = path.suffix.lower()
    if suffix in (".png", ".tif", ".tiff", ".npy"):
        if frame not in (None, 0):
            raise InputError(f"{path}: frame {frame} asked for; only DICOM files have frames.")
        return {".png": _read_png, ".npy": _read_npy}.get(suffix, _read_tiff)(path)
    if suffix in (".dcm", ".ima") or _looks_like_dicom(path):
        return _read_dicom(path, kind, frame or 0)
    raise InputError(f"{path}: unknown image format {path.suffix!r}. Accepted: {ACCEPTED}.")


def _read_png(path: Path) -> StoredPixels:
    return StoredPixels(_read_with_itk(path))


def _read_tiff(path: Path) -> StoredPixels:
    tifffile = require("tifffile", pip="tifffile")
    try:
        # Only the header: ITK decodes more compressions and keeps the stored values.
        with tifffile.TiffFile(path) as tiff:
            pages = len(tiff.pages)
            white_is_zero = int(tiff.pages[0].photometric) == _TIFF_WHITE_IS_ZERO
    except Exception as error:  # tifffile raises struct.error, KeyError, ... on broken headers
        raise _corrupt(path, str(error)) from error
    if pages != 1:
        raise InputError(f"{path}: {pages} pages; expected a TIFF with one image.")
    values = _read_with_itk(path)
    if not white_is_zero:
        return StoredPixels(values)
    if values.dtype.kind == "f":
        largest = float(np.nanmax(values))
    else:
        largest = float(np.iinfo(values.dtype).max)
    return StoredPixels(values, white_is_zero=True, largest_value=largest)


def _read_with_itk(path: Path) -> NDArray[Any]:
    sitk = require("SimpleITK", pip="SimpleITK")
    try:
        with quiet_itk(sitk):
            image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _corrupt(path, itk_reason(error)) from error
    values: NDArray[Any] = sitk.GetArrayFromImage(image)
    return values


def _read_npy(path: Path) -> StoredPixels:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _corrupt(path, str(error)) from error
    return StoredPixels(values)


def _looks_like_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _read_dicom(path: Path, kind: str, frame: int) -> StoredPixels:
    pydicom = require("pydicom", pip="pydicom")
    pixels = require("pydicom.pixels", pip="pydicom")
    try:
        dataset = pydicom.dcmread(path)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise _corrupt(path, str(error)) from error
    if "PixelData" not in dataset:
        raise InputError(f"{path}: a DICOM file without pixels ({dataset.get('Modality', '?')}).")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if not 0 <= frame < frames:
        raise InputError(f"{path}: frame {frame} asked for; it has frames 0 to {frames - 1}.")
    _check_relationship(path, dataset, kind)
    try:
        stored = pixels.pixel_array(dataset, index=frame)
    except Exception as error:  # every decoder has exceptions of its own
        values = _with_gdcm(path, dataset, frame, str(error))
    else:
        if stored.ndim != 2:
            return StoredPixels(stored)
        values = pixels.apply_modality_lut(stored, dataset)
    signed = int(dataset.get("PixelRepresentation", 0)) == 1
    bits = int(dataset.get("BitsStored", 16))
    ends = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1]
    if "ModalityLUTSequence" in dataset:
        largest = float(values.min()) + float(values.max())
    else:
        slope = float(dataset.get("RescaleSlope", 1) or 1)
        intercept = float(dataset.get("RescaleIntercept", 0) or 0)
        # Inversion maps [low, high] onto itself: v -> low + high - v.
        largest = slope * sum(ends) + 2 * intercept
    inverted = str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    return StoredPixels(values, white_is_zero=inverted, largest_value=largest)


def _with_gdcm(path: Path, dataset: Any, frame: int, reason: str) -> NDArray[Any]:
    """Rescaled pixels through ITK, which brings decoders that pydicom lacks (JPEG lossless, LS)."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed and "ModalityLUTSequence" not in dataset:
        try:
            values = _read_with_itk(path)
        except InputError:
            values = np.empty(0)
        if values.ndim == 3 and values.shape[1:] == (dataset.Rows, dataset.Columns):
            return np.asarray(values[frame])
    raise InputError(
        f"{path}: the DICOM pixels cannot be decoded ({reason}). Expected an image that pydicom or "
        "ITK can read; decompress it first."
    )


def _check_relationship(path: Path, dataset: Any, kind: str) -> None:
    """DICOM PS3.3 C.8.11.3: how stored values relate to the beam's intensity."""
    relationship = str(dataset.get("PixelIntensityRelationship", "") or "").upper()
    sign = dataset.get("PixelIntensityRelationshipSign")
    if kind == "intensity" and relationship == "LOG":
        raise InputError(
            f"{path}: PixelIntensityRelationship is LOG, so the pixels are no photon counts. Use "
            "the kind 'attenuation' when they are line integrals, else 'display'."
        )
    if kind == "intensity" and sign is not None and int(sign) == -1:
        raise InputError(
            f"{path}: PixelIntensityRelationshipSign is -1 (larger values mean fewer photons), so "
            "the pixels are no photon counts. Use the kind 'display' with polarity 'bone_bright'."
        )
    if kind == "attenuation" and relationship == "LIN" and (sign is None or int(sign) == 1):
        raise InputError(
            f"{path}: PixelIntensityRelationship is LIN: the pixels are proportional to the beam's "
            "intensity. Use the kind 'intensity'."
        )


def _corrupt(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: cannot be read (corrupt or truncated): {reason}")
