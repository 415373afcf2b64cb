"""C-arm geometry out of a DICOM header: Camera, start pose, and how the picture has to be turned.

For XA, RF, DX and CR images (also multi-frame). Tags used (DICOM PS3.3 C.8.7.5, C.8.11.4):

* DistanceSourceToDetector (SDD), DistanceSourceToPatient (or DistanceSourceToIsocenter).
* ImagerPixelSpacing, at the detector. With PixelSpacing only (at the patient), times
  EstimatedRadiographicMagnificationFactor, or times SDD / DistanceSourceToPatient.
* FieldOfViewOrigin, DetectorActiveOrigin (detector elements, row first), DetectorActiveDimensions
  (mm), DetectorElementSpacing, DetectorBinning, FieldOfViewRotation, FieldOfViewHorizontalFlip:
  where the detector's centre, at which the beam axis is taken to meet it, lies in the picture.
* PositionerPrimaryAngle (+ LAO, - RAO), PositionerSecondaryAngle (+ CRAN, - CAUD), for multi-frame
  runs with their increments (see dicom_motion).

XA and RF pictures show the patient as seen from the detector towards the source, the mirror image
of what the focal spot sees (geometry.positioner). Then ``flip_horizontal`` is true, and ``camera``
belongs to the picture after the flip. MONOCHROME1 needs nothing here: imaging.radiograph turns the
grey values; ``white_is_zero`` reports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import finite_numbers, positive, positive_int
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner
from xray_registration.interchange.dicom_detector import principal_point_px
from xray_registration.interchange.dicom_motion import angle_at_frame
from xray_registration.optional import require

Matrix = NDArray[np.float64]

SEEN_FROM = ("detector", "source")
_SEEN_FROM_DETECTOR = ("XA", "RF")
_ENHANCED = "SharedFunctionalGroupsSequence"


@dataclass(frozen=True, eq=False)
class CArmShot:
    """What a header says about one frame.

    Attributes:
        camera: of the picture after ``flip_horizontal``, with ``sdd_mm``.
        positioner: where the C-arm stood; None when the file has no angles.
        flip_horizontal: the stored picture has to be flipped left to right first.
        white_is_zero: MONOCHROME1.
        frame: number of the frame, from 0.
        frames: number of frames in the file.
        notes: in words, what was assumed.
        path: the file.
    """

    camera: Camera
    positioner: PositionerPose | None
    flip_horizontal: bool
    white_is_zero: bool
    frame: int
    frames: int
    notes: tuple[str, ...]
    path: str

    @property
    def camera_from_ct(self) -> Matrix:
        """(4, 4) LPS mm start pose. InputError when the file has no angles."""
        if self.positioner is None:
            raise InputError(
                f"{self.path}: has no PositionerPrimaryAngle and PositionerSecondaryAngle, so it "
                "gives no start pose; give a start pose of your own."
            )
        return camera_from_positioner(self.positioner)


def read_carm(
    path: str | Path,
    frame: int = 0,
    isocentre_lps_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    seen_from: str | None = None,
    principal_point: tuple[float, float] | None = None,
    increments: str | None = None,
) -> CArmShot:
    """Camera and start pose of one frame.

    Args:
        path: DICOM file.
        frame: frame number from 0.
        isocentre_lps_mm: the point of the CT that lies at the C-arm's isocentre. The header cannot
            know it; the middle of the anatomy is the usual guess.
        seen_from: "detector" (mirrored, to be flipped) or "source"; None: detector for XA and RF,
            source for other modalities.
        principal_point: (column, row) px in the stored picture, where it is known better.
        increments: how a run's angle increments are meant (dicom_motion.READINGS); None: as the
            values allow.

    Raises:
        InputError: no DICOM; tags missing (by name); a spacing of 0; angles out of range; frame out
            of range; another patient position than head first supine; Enhanced XA.
    """
    path = Path(path)
    dataset = _header(path)
    if seen_from not in (None, *SEEN_FROM):
        raise InputError(f"seen_from is {seen_from!r}; expected 'detector' or 'source'.")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if not 0 <= frame < frames:
        raise InputError(f"{path}: frame {frame} asked for; it has frames 0 to {frames - 1}.")
    notes: list[str] = []
    width = positive_int(_value(path, dataset, "Columns"), f"{path}: Columns")
    height = positive_int(_value(path, dataset, "Rows"), f"{path}: Rows")
    sdd_mm = _length(path, dataset, "DistanceSourceToDetector")
    pitch_y, pitch_x = _detector_pitch(path, dataset, sdd_mm, notes)
    if principal_point is None:
        cx, cy, note = principal_point_px(str(path), dataset, width, height)
        notes += [note] if note else []
    else:
        cx, cy = (float(c) for c in finite_numbers(principal_point, "principal_point"))
    camera = Camera.from_detector(width, height, (pitch_x, pitch_y), sdd_mm, cx, cy)
    modality = str(dataset.get("Modality", ""))
    flip = (seen_from == "detector") if seen_from else modality in _SEEN_FROM_DETECTOR
    if flip:
        camera = camera.flipped_horizontally()
        notes.append(
            "the picture is taken as seen from the detector (mirrored) and has to be flipped left "
            "to right"
        )
    return CArmShot(
        camera=camera,
        positioner=_positioner(
            path, dataset, frame, frames, isocentre_lps_mm, sdd_mm, increments, notes
        ),
        flip_horizontal=flip,
        white_is_zero=str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1",
        frame=frame,
        frames=frames,
        notes=tuple(notes),
        path=str(path),
    )


def _header(path: Path) -> Any:
    pydicom = require("pydicom", pip="pydicom")
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a DICOM image.")
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a readable DICOM file: {error}") from error
    if _ENHANCED in dataset:
        raise InputError(
            f"{path}: an Enhanced multi-frame image ({_ENHANCED} is there); expected a classic XA, "
            "RF, DX or CR image. Convert it, or give camera and pose as CAM.json and POSE.json."
        )
    return dataset


def _detector_pitch(
    path: Path, dataset: Any, sdd_mm: float, notes: list[str]
) -> tuple[float, float]:
    """Pixel pitch at the detector in mm, (between rows, between columns)."""
    if _has(dataset, "ImagerPixelSpacing"):
        return _spacing(path, dataset, "ImagerPixelSpacing")
    if not _has(dataset, "PixelSpacing"):
        raise InputError(
            f"{path}: ImagerPixelSpacing is missing (and PixelSpacing too); expected the pixel "
            "pitch at the detector, in mm."
        )
    rows, columns = _spacing(path, dataset, "PixelSpacing")
    if _has(dataset, "EstimatedRadiographicMagnificationFactor"):
        factor = _length(path, dataset, "EstimatedRadiographicMagnificationFactor")
        origin = f"EstimatedRadiographicMagnificationFactor {factor:g}"
    elif _has(dataset, "DistanceSourceToPatient"):
        distance = _length(path, dataset, "DistanceSourceToPatient")
        factor = sdd_mm / distance
        origin = f"DistanceSourceToDetector / DistanceSourceToPatient = {factor:.4g}"
    else:
        raise InputError(
            f"{path}: ImagerPixelSpacing is missing, and PixelSpacing, measured at the patient, "
            "needs EstimatedRadiographicMagnificationFactor (or DistanceSourceToPatient), which "
            "are missing too."
        )
    if factor < 1.0:
        raise InputError(
            f"{path}: {origin} is below 1; the patient cannot lie behind the detector."
        )
    notes.append(f"the pitch at the detector is PixelSpacing times {origin}")
    return rows * factor, columns * factor


def _positioner(
    path: Path,
    dataset: Any,
    frame: int,
    frames: int,
    isocentre_lps_mm: tuple[float, float, float],
    sdd_mm: float,
    increments: str | None,
    notes: list[str],
) -> PositionerPose | None:
    names = ("PositionerPrimaryAngle", "PositionerSecondaryAngle")
    present = [name for name in names if _has(dataset, name)]
    if not present:
        notes.append("no positioner angles, so no start pose")
        return None
    if len(present) == 1:
        (missing,) = set(names) - set(present)
        raise InputError(f"{path}: {missing} is missing although {present[0]} is there.")
    position = str(dataset.get("PatientPosition", "") or "")
    if position not in ("", "HFS"):
        raise InputError(
            f"{path}: PatientPosition is {position}; C-arm angles are understood for HFS (head "
            "first, supine) only. Give a start pose of your own (read with no angles)."
        )
    for name in ("DistanceSourceToPatient", "DistanceSourceToIsocenter"):
        if _has(dataset, name):
            sod_mm = _length(path, dataset, name)
            break
    else:
        raise InputError(
            f"{path}: DistanceSourceToPatient (or DistanceSourceToIsocenter) is missing; it gives "
            "the depth of the start pose."
        )
    if sod_mm >= sdd_mm:
        raise InputError(
            f"{path}: DistanceSourceToPatient {sod_mm:g} mm is not smaller than "
            f"DistanceSourceToDetector {sdd_mm:g} mm."
        )
    angles = [_angle(path, dataset, name, frame, frames, increments) for name in names]
    try:
        return PositionerPose(angles[0], angles[1], sod_mm, isocentre_lps_mm)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _angle(
    path: Path, dataset: Any, name: str, frame: int, frames: int, reading: str | None
) -> float:
    first = float(finite_numbers(dataset[name].value, f"{path}: {name}"))
    tag = f"{name}Increment"
    if frames == 1 or not _has(dataset, tag):
        return first
    steps = np.atleast_1d(finite_numbers(dataset[tag].value, f"{path}: {tag}"))
    return angle_at_frame(first, steps, frame, frames, f"{path}: {tag}", reading)


def _has(dataset: Any, name: str) -> bool:
    return name in dataset and dataset[name].value not in (None, "", [])


def _value(path: Path, dataset: Any, name: str) -> Any:
    if not _has(dataset, name):
        raise InputError(f"{path}: {name} is missing or empty; expected it in the DICOM header.")
    return dataset[name].value


def _length(path: Path, dataset: Any, name: str) -> float:
    return positive(_value(path, dataset, name), f"{path}: {name}")


def _spacing(path: Path, dataset: Any, name: str) -> tuple[float, float]:
    values = finite_numbers(_value(path, dataset, name), f"{path}: {name}")
    if values.shape != (2,) or (values <= 0.0).any():
        raise InputError(
            f"{path}: {name} is {values.tolist()}; expected two positive numbers in mm (between "
            "rows, between columns). A spacing of 0 means that it is unknown."
        )
    return float(values[0]), float(values[1])
