"""Where a camera and a pose put a CT, its structures and landmarks: what cannot be right."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.evaluation.geometry_check.finding import (
    Finding,
    error,
    hint,
    note,
    warning,
)
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.frames import LPS_FROM_RAS
from xray_registration.geometry.positioner import positioner_from_camera
from xray_registration.imaging.volume import CTVolume

Matrix = NDArray[np.float64]
Points = Mapping[str, Matrix]

BONE_HU = 200.0
_BONE_POINTS = 4000
_CLOSEST_MM = 100.0
_LISTED = 8


@dataclass(frozen=True, eq=False)
class Scene:
    """A CT seen by a camera.

    Attributes:
        ct: the patient.
        camera: the C-arm.
        camera_from_ct: (4, 4) LPS mm; may be mirrored or scaled, the findings then say so.
        bone_lps_mm: (N, 3) points spread over the bone.
        structures: name to centroid (3,) LPS mm.
        landmarks: name to point (3,) LPS mm.
    """

    ct: CTVolume
    camera: Camera
    camera_from_ct: Matrix
    bone_lps_mm: Matrix
    structures: Points
    landmarks: Points

    @property
    def centre_lps_mm(self) -> Matrix:
        """(3,) the middle of the bone."""
        return np.asarray(self.bone_lps_mm.mean(axis=0))

    def in_camera(self, points_lps_mm: Matrix, pose: Matrix | None = None) -> Matrix:
        """(N, 3) in the camera frame, mm."""
        matrix = self.camera_from_ct if pose is None else pose
        return np.asarray(points_lps_mm @ matrix[:3, :3].T + matrix[:3, 3])

    def pixels(self, points_lps_mm: Matrix, pose: Matrix | None = None) -> Matrix:
        """(N, 2) px; NaN for points that are not in front of the source."""
        return np.asarray(self.camera.project(self.in_camera(points_lps_mm, pose)))

    def seen(self, pixels: Matrix) -> NDArray[np.bool_]:
        """(N,) whether the pixels are in the picture."""
        size = np.array([self.camera.width, self.camera.height]) - 0.5
        return np.asarray(((pixels >= -0.5) & (pixels <= size)).all(axis=-1))


def bone_points(ct: CTVolume) -> Matrix:
    """(N, 3) LPS mm, at most some thousand voxels of bone, the same for the same CT.

    A CT without bone gives points on all of its grid.
    """
    stride = [max(1, round(2.0 / float(s))) for s in ct.spacing_mm]
    coarse = ct.hu[:: stride[2], :: stride[1], :: stride[0]]
    found = np.argwhere(coarse >= BONE_HU)
    if len(found) < 8:
        found = np.argwhere(np.ones_like(coarse, dtype=bool))
    found = found[:: max(1, len(found) // _BONE_POINTS)]
    return ct.lps_of_index(found[:, ::-1] * np.array(stride))


def scene_findings(scene: Scene) -> list[Finding]:
    """All of them: position, picture, structures, landmarks, and hints at what would fit."""
    position = [*_position(scene), *_in_picture(scene)]
    findings = [*position, *_structures(scene), *_landmarks(scene)]
    if any(finding.severity.value == "error" for finding in position):
        findings += _hints(scene)
    else:
        findings.append(_view(scene))
    return findings


# --- the CT as a whole ---------------------------------------------------------------------------


def _position(scene: Scene) -> list[Finding]:
    centre = scene.in_camera(scene.centre_lps_mm[None])[0]
    findings = []
    if _source_in_ct(scene, scene.camera_from_ct):
        findings.append(
            error(
                "source_in_patient",
                "the X-ray source lies inside the CT (the middle of the bone is "
                f"{np.linalg.norm(centre):.4g} mm away from it): is the translation in metres?",
            )
        )
    if centre[2] <= 0:
        findings.append(
            error(
                "behind_source",
                f"the CT lies behind the source (the middle of the bone at z = {centre[2]:.4g}"
                " mm in the camera frame, where z grows towards the detector).",
            )
        )
        return findings
    sdd = scene.camera.sdd_mm
    if sdd is not None and centre[2] >= sdd:
        findings.append(
            error(
                "behind_detector",
                f"the CT lies behind the detector: the middle of the bone at {centre[2]:.5g} mm "
                f"from the source, the detector at sdd_mm = {sdd:g}.",
            )
        )
    elif sdd is not None:
        depths = scene.in_camera(scene.bone_lps_mm)[:, 2]
        share = float(np.mean(depths >= sdd))
        if share > 0.01:
            findings.append(
                warning(
                    "part_behind_detector",
                    f"{share:.0%} of the bone lies behind the detector (up to {depths.max():.5g} "
                    f"mm from the source, sdd_mm = {sdd:g}).",
                )
            )
    return findings


def _source_in_ct(scene: Scene, pose: Matrix) -> bool:
    try:
        source = -np.linalg.inv(pose[:3, :3]) @ pose[:3, 3]
    except np.linalg.LinAlgError:
        return False
    index = scene.ct.index_of_lps(source)
    return bool(((index >= -0.5) & (index <= np.array(scene.ct.shape_ijk) - 0.5)).all())


def _in_picture(scene: Scene) -> list[Finding]:
    pixels = scene.pixels(scene.bone_lps_mm)
    if not np.isfinite(pixels).any():
        return []  # all behind the source; said already
    share = float(scene.seen(pixels).mean())
    u, v = np.nanmedian(pixels, axis=0)
    if share == 0.0:
        return [
            error(
                "off_image",
                f"no bone of the CT is in the picture: its middle is at column {u:.5g}, row {v:.5g}"
                f" ({_where(scene.camera, u, v)}) of {scene.camera.width}x{scene.camera.height}.",
            )
        ]
    low, high = np.nanquantile(pixels, [0.02, 0.98], axis=0)
    size = np.array([scene.camera.width, scene.camera.height])
    extent = float(((high - low) / size).max())
    if extent < 0.05:
        return [
            warning(
                "tiny",
                f"the bone fills only {extent:.1%} of the picture: do the units of K, of the pose "
                "and of the CT agree?",
            )
        ]
    if share < 0.2:
        return [
            warning(
                "mostly_off_image",
                f"only {share:.0%} of the CT's bone is in the picture; its middle is at column "
                f"{u:.5g}, row {v:.5g} ({_where(scene.camera, u, v)}).",
            )
        ]
    return [note("in_image", f"{share:.0%} of the CT's bone is in the picture.")]


def _where(camera: Camera, u: float, v: float) -> str:
    words = []
    if v < 0:
        words.append("above")
    if v > camera.height - 1:
        words.append("below")
    if u < 0:
        words.append("to the left of")
    if u > camera.width - 1:
        words.append("to the right of")
    return " and ".join(words) + " the picture" if words else "in the picture"


# --- named points --------------------------------------------------------------------------------


def _structures(scene: Scene) -> list[Finding]:
    if not scene.structures:
        return []
    inside, outside = _divided(scene, scene.structures)
    if not inside:
        return [
            error("labels_off_image", f"no structure's centre is in the picture: {_list(outside)}.")
        ]
    text = f"structures in the picture: {_list(inside)}"
    return [note("labels", f"{text}; outside: {_list(outside) or 'none'}.")]


def _landmarks(scene: Scene) -> list[Finding]:
    if not scene.landmarks:
        return []
    inside, outside = _divided(scene, scene.landmarks)
    findings = []
    if outside:
        make = warning if inside else error
        places = []
        for name in outside[:_LISTED]:
            u, v = scene.pixels(scene.landmarks[name][None])[0]
            place = f"column {u:.5g}, row {v:.5g}" if np.isfinite(u) else "behind the source"
            places.append(f"{name} ({place})")
        more = f" and {len(outside) - _LISTED} more" if len(outside) > _LISTED else ""
        findings.append(
            make("landmarks_off_image", f"landmarks off the picture: {', '.join(places)}{more}.")
        )
    else:
        findings.append(note("landmarks", f"landmarks in the picture: {_list(inside)}."))
    return [*findings, *_landmarks_in_ct(scene)]


def _landmarks_in_ct(scene: Scene) -> list[Finding]:
    points = np.array(list(scene.landmarks.values()))
    names = list(scene.landmarks)
    here = _within_ct(scene.ct, points)
    if here.all():
        return []
    lost = [name for name, ok in zip(names, here) if not ok]
    findings = [
        error("landmarks_outside_ct", f"landmarks that are not inside the CT: {_list(lost)}.")
    ]
    tries = {
        "landmarks_ras": (points * (-1, -1, 1), "read as RAS instead of LPS (or the reverse)"),
        "landmarks_metres": (points * 1000.0, "taken as metres instead of mm"),
    }
    for code, (moved, words) in tries.items():
        share = _within_ct(scene.ct, moved).mean()
        if share > max(0.9, float(here.mean())):
            findings.append(hint(code, f"{words}, {share:.0%} of the landmarks are inside the CT."))
    return findings


def _within_ct(ct: CTVolume, points: Matrix) -> NDArray[np.bool_]:
    index = ct.index_of_lps(points)
    return np.asarray(((index >= -0.5) & (index <= np.array(ct.shape_ijk) - 0.5)).all(axis=-1))


def _divided(scene: Scene, points: Points) -> tuple[list[str], list[str]]:
    names = list(points)
    seen = scene.seen(scene.pixels(np.array([points[name] for name in names])))
    inside = [name for name, yes in zip(names, seen) if yes]
    return inside, [name for name, yes in zip(names, seen) if not yes]


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return f"{shown} and {len(names) - _LISTED} more" if len(names) > _LISTED else shown


# --- what would fit ------------------------------------------------------------------------------


def candidates(scene: Scene) -> dict[str, tuple[Matrix, str]]:
    """Code to (pose, words): how the pose may have been meant."""
    pose = scene.camera_from_ct
    metres = pose.copy()
    metres[:3, 3] *= 1000.0
    found = {
        "pose_in_metres": (metres, "with the translation taken as metres (times 1000)"),
        "pose_ras": (
            pose @ LPS_FROM_RAS,
            "with the CT axes taken as the other of LPS and RAS (ct_axes in the file)",
        ),
        "pose_opengl": (
            np.diag([1.0, -1.0, -1.0, 1.0]) @ pose,
            "with a camera frame whose z points to the source and y up (OpenGL)",
        ),
        "pose_xreg": (
            np.diag([-1.0, 1.0, -1.0, 1.0]) @ pose,
            "with a camera frame whose z points to the source (xReg; the picture is mirrored then)",
        ),
    }
    centred = np.eye(4)
    centred[:3, 3] = -scene.ct.bounds.mean(axis=0)
    found["pose_centred"] = (
        pose @ centred,
        "with the origin taken at the CT's middle instead of its own LPS origin",
    )
    with contextlib.suppress(np.linalg.LinAlgError):
        found["pose_inverse"] = (
            np.asarray(np.linalg.inv(pose), np.float64),
            "with the inverse (the file seems to hold ct_from_camera)",
        )
    return found


def plausible(scene: Scene, pose: Matrix) -> bool:
    """The CT is between source and detector, not around the source, and mostly in the picture."""
    centre = scene.in_camera(scene.centre_lps_mm[None], pose)[0]
    far = math.inf if scene.camera.sdd_mm is None else scene.camera.sdd_mm
    if not _CLOSEST_MM < centre[2] < far or _source_in_ct(scene, pose):
        return False
    return bool(scene.seen(scene.pixels(scene.bone_lps_mm, pose)).mean() > 0.2)


def _hints(scene: Scene) -> list[Finding]:
    return [
        hint(code, f"{words}, the CT would be in the picture.")
        for code, (pose, words) in candidates(scene).items()
        if plausible(scene, pose)
    ]


def _view(scene: Scene) -> Finding:
    """How the patient is seen, so that a person can tell whether that is so."""
    try:
        pose = positioner_from_camera(scene.camera_from_ct, 1.0)
    except InputError:
        return note("view", "the pose is no rigid transform, so no C-arm angles can be given.")
    primary, secondary = pose.primary_deg, pose.secondary_deg
    words = (
        f"{abs(primary):.0f} degrees {'LAO' if primary >= 0 else 'RAO'}, {abs(secondary):.0f} "
        f"degrees {'CRAN' if secondary >= 0 else 'CAUD'}, picture turned by {pose.roll_deg:.0f}"
    )
    rotation = scene.camera_from_ct[:3, :3]
    left = "right" if rotation[0, 0] > 0 else "left"
    head = "top" if rotation[1, 2] < 0 else "bottom"
    return note(
        "view",
        f"C-arm angles: {words} degrees. In the picture, as seen from the source, the patient's "
        f"left is on the {left} and the head at the {head}.",
    )
