"""CAM.json and POSE.json: cameras and poses as files.

    CAM.json   {"width", "height", "K": 3 x 3, "sdd_mm", "camera_from_rig": 4 x 4 mm}
    POSE.json  {"rig_from_ct": 4 x 4 mm, "ct_axes": "lps" | "ras"}

``sdd_mm`` may be absent (then there are no millimetres on the detector), ``camera_from_rig`` too
(then it is the identity: the rig is the camera). A RESULT.json of a registration is a POSE.json.
Keys beyond these are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.files import write_atomically
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import check_rigid
from xray_registration.geometry.frames import from_lps, to_lps

Matrix = NDArray[np.float64]


def read_json_object(path: str | Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: file to read.
        expected: what the file should hold; ends the message.

    Raises:
        InputError: missing, not UTF-8, not JSON, or not an object.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = "no such file" if not path.exists() else error.strerror or str(error)
        raise InputError(f"{path}: {reason}; expected {expected}.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text ({error.reason}); expected {expected}."
        ) from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty; expected {expected}.")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not valid JSON, line {error.lineno}, column {error.colno}: {error.msg}; "
            f"expected {expected}."
        ) from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a JSON {type(data).__name__}; expected {expected}.")
    return data


def read_camera(path: str | Path) -> tuple[Camera, Matrix]:
    """Camera and camera_from_rig (4, 4) mm of a CAM.json.

    Raises:
        InputError: unreadable, a key missing, an impossible camera, a transform that is not rigid.
    """
    data = read_json_object(path, 'a camera {"width", "height", "K", "sdd_mm"}')
    camera = Camera.from_dict(data, str(path))
    camera_from_rig = data.get("camera_from_rig")
    if camera_from_rig is None:
        return camera, np.eye(4)
    return camera, check_rigid(camera_from_rig, f"{path}: camera_from_rig")


def write_camera(
    path: str | Path, camera: Camera, camera_from_rig: ArrayLike | None = None
) -> None:
    """Write a CAM.json; None = the rig is the camera."""
    matrix = np.eye(4) if camera_from_rig is None else check_rigid(camera_from_rig, "rig")
    write_json(path, {**camera.to_dict(), "camera_from_rig": matrix.tolist()})


def read_pose(path: str | Path) -> tuple[Matrix, str]:
    """rig_from_ct (4, 4) with the CT in LPS mm, and the ``ct_axes`` that the file is written in.

    Raises:
        InputError: unreadable, a key missing, a matrix that is not rigid, other axes.
    """
    expected = 'a pose {"rig_from_ct": 4 rows of 4 numbers in mm, "ct_axes": "lps" or "ras"}'
    data = read_json_object(path, expected)
    missing = [key for key in ("rig_from_ct", "ct_axes") if key not in data]
    if missing:
        raise InputError(f"{path}: missing {', '.join(missing)}; expected {expected}.")
    rig_from_ct = check_rigid(data["rig_from_ct"], f"{path}: rig_from_ct")
    try:
        rig_from_lps = to_lps(rig_from_ct, data["ct_axes"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return rig_from_lps, str(data["ct_axes"]).lower()


def write_pose(
    path: str | Path,
    rig_from_ct_lps: ArrayLike,
    ct_axes: str = "lps",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a POSE.json in the given axes; ``extra`` keys are added to it."""
    rigid = check_rigid(rig_from_ct_lps, "rig_from_ct")
    pose = {"rig_from_ct": from_lps(rigid, ct_axes).tolist(), "ct_axes": ct_axes}
    write_json(path, {**pose, **(extra or {})})


def write_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write an object as indented JSON; the file is complete or not there."""
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(Path(path), (text + "\n").encode())
