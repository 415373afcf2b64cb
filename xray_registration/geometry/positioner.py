"""C-arm angles (DICOM positioner angles) to and from camera_from_ct.

Definitions (DICOM PS3.3 C.8.7.5.1.2, head first, supine, patient axes LPS):

* The detector is seen from the isocentre in the direction that the angles name. At 0/0 it is
  anterior (the patient faces it) and the X-ray source posterior, below the table: an ordinary AP
  C-arm view.
* primary, like a longitude, in the transaxial plane: + is LAO (detector to the patient's left, +90
  = left), - is RAO.
* secondary, like a latitude: + is CRAN (detector to the head, +90 = head), - is CAUD.

So the beam from source to detector runs along
    d = (sin a cos b, -cos a cos b, sin b)  in LPS, a = primary, b = secondary,
which is d = Rz(a) Rx(-b) (0, -1, 0): the gantry first tips about the left-right axis, then turns
about the long axis, and carries the detector's rows and columns with it.

The camera frame is as everywhere in this package: z = d, the picture as seen FROM THE FOCAL SPOT.
At 0/0 rows grow towards the feet (head up) and, the viewer being behind the patient, columns grow
to the patient's RIGHT. DICOM XA pictures are shown the other way round, as seen from the detector
towards the source (C.8.19.6.13.1.2): the patient's left on the viewer's right. Such a picture is
the mirror image of the camera's: read it with flip_horizontal, then it belongs to the pose given
here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.checks import check_rigid, finite_numbers, positive, vector3

Array = NDArray[np.float64]

# Rows: camera x, y, z at 0/0 in LPS: to the patient's right, to the feet, to the front.
_CAMERA_FROM_LPS_AT_ZERO = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class PositionerPose:
    """Where a C-arm stands.

    Attributes:
        primary_deg: + LAO, - RAO, -180..180.
        secondary_deg: + CRAN, - CAUD, -90..90.
        source_isocentre_mm: focal spot to isocentre (DICOM DistanceSourceToPatient, or
            DistanceSourceToIsocenter); the source-detector distance belongs to the Camera.
        isocentre_lps_mm: the C-arm's isocentre in the CT frame (LPS, mm); the beam axis meets it.
        roll_deg: the picture's content turned clockwise, as seen from the focal spot.
    """

    primary_deg: float
    secondary_deg: float
    source_isocentre_mm: float
    isocentre_lps_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    roll_deg: float = 0.0

    def __post_init__(self) -> None:
        values = (
            ("primary_deg", self.primary_deg, 180.0),
            ("secondary_deg", self.secondary_deg, 90.0),
            ("roll_deg", self.roll_deg, 360.0),
        )
        for name, value, limit in values:
            if abs(float(finite_numbers(value, name))) > limit:
                raise InputError(f"{name} is {value!r}; expected degrees, -{limit:g} to {limit:g}")
        positive(self.source_isocentre_mm, "source_isocentre_mm")
        vector3(self.isocentre_lps_mm, "isocentre_lps_mm")


def camera_from_positioner(pose: PositionerPose) -> Array:
    """camera_from_ct (4, 4), LPS mm, of a C-arm pose (see the module for the conventions)."""
    primary, secondary = math.radians(pose.primary_deg), math.radians(pose.secondary_deg)
    gantry = _rotation_z(primary) @ _rotation_x(-secondary)
    rotation = _rotation_z(math.radians(pose.roll_deg)) @ _CAMERA_FROM_LPS_AT_ZERO @ gantry.T
    camera_from_ct = np.eye(4)
    camera_from_ct[:3, :3] = rotation
    # the isocentre lies on the beam axis, source_isocentre_mm in front of the focal spot
    isocentre = np.asarray(pose.isocentre_lps_mm, np.float64)
    camera_from_ct[:3, 3] = (0.0, 0.0, pose.source_isocentre_mm) - rotation @ isocentre
    return camera_from_ct


def positioner_from_camera(
    camera_from_ct: ArrayLike, source_isocentre_mm: float, name: str = "camera_from_ct"
) -> PositionerPose:
    """The C-arm pose of a camera_from_ct (LPS, mm): the inverse of ``camera_from_positioner``.

    The isocentre returned is the point of the beam axis at ``source_isocentre_mm`` from the focal
    spot. Looking straight from the feet or the head (secondary = +-90) primary and roll turn about
    the same axis; roll is 0 then.
    """
    matrix = check_rigid(camera_from_ct, name)
    rotation = matrix[:3, :3]
    beam = rotation[2]
    across = math.hypot(beam[0], beam[1])
    secondary = math.atan2(beam[2], across)
    if across > 1e-9:
        primary = math.atan2(beam[0], -beam[1])
    else:
        # camera x without roll is Rz(primary) (-1, 0, 0)
        primary = math.atan2(-rotation[0, 1], -rotation[0, 0])
    gantry = _rotation_z(primary) @ _rotation_x(-secondary)
    roll_matrix = rotation @ (_CAMERA_FROM_LPS_AT_ZERO @ gantry.T).T
    roll = math.atan2(roll_matrix[1, 0], roll_matrix[0, 0])
    isocentre = rotation.T @ (np.array([0.0, 0.0, source_isocentre_mm]) - matrix[:3, 3])
    return PositionerPose(
        primary_deg=math.degrees(primary),
        secondary_deg=math.degrees(secondary),
        source_isocentre_mm=source_isocentre_mm,
        isocentre_lps_mm=(float(isocentre[0]), float(isocentre[1]), float(isocentre[2])),
        roll_deg=math.degrees(roll),
    )


def _rotation_x(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def _rotation_z(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
