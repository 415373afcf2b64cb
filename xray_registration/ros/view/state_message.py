"""What a browser is told several times a second: one JSON object, a few kilobytes.

``standing``: kind, word, text, trust, pose_age. ``pictures``: name -> version, age, mark (what is
written across it), grey (shown without its colours). ``pose``: only while it may be drawn:
``camera_from_patient`` row by row in metres, and ``ellipsoid`` of the isocentre's predicted
standard deviation. ``figures``: what stands beside the pictures. All is derived; nothing here
decides what may be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo

from xray_registration.errors import InputError
from xray_registration.geometry.frames import metres_from_mm
from xray_registration.ros.diagnostics import stamp_text
from xray_registration.ros.pose_messages import matrix_from_pose
from xray_registration.ros.view.heard import HeardImage, Snapshot
from xray_registration.ros.view.standing import Kind, Trust, duration, finite
from xray_registration.ros.view.topics import Topics

# A picture is drawn and sent after the result it belongs to.
_PICTURE_LAG_S = 2.0
# A live image that is older is not live.
_LIVE_S = 3.0
_STANDING = (Kind.REGISTERED, Kind.DOUBT)
# key on /diagnostics, label, unit, factor, decimals
_FIGURES = (
    ("similarity", "similarity", "", 1.0, 3),
    ("translation_std_mm", "predicted σ", "mm", 1.0, 2),
    ("rotation_std_deg", "predicted σ", "°", 1.0, 2),
    ("latency_s", "image to pose", "ms", 1000.0, 0),
)
_COUNTERS = ("received", "accepted", "rejected", "bad_input", "dropped")


def state_message(snapshot: Snapshot, topics: Topics, child_frame: str) -> dict[str, Any]:
    """JSON types only; every number is finite."""
    shown = snapshot.standing
    values = snapshot.status.values if snapshot.status is not None else {}
    return {
        "node": topics.full_node,
        "view": topics.view,
        "standing": {
            "kind": shown.kind.value,
            "word": shown.word,
            "text": shown.text.replace("vertebrae_", ""),
            "trust": shown.trust.value,
            "pose_age": None if shown.pose_age_s is None else duration(shown.pose_age_s),
            "reason": values.get("reason", ""),
        },
        "pictures": {name: _picture(name, i, snapshot) for name, i in snapshot.images.items()},
        "pose": _pose(snapshot),
        "camera": None if snapshot.camera is None else _camera(snapshot.camera),
        "frames": {"camera": values.get("image_frame_id", ""), "patient": child_frame},
        "scene_version": snapshot.markers_version,
        "figures": _figures(values, snapshot),
        "level": _level(values) if shown.kind in _STANDING else {"text": "", "good": True},
        "counters": {name: values.get(f"images_{name}", "") for name in _COUNTERS},
        "values": dict(values),
    }


def _picture(name: str, image: HeardImage, snapshot: Snapshot) -> dict[str, Any]:
    age_s = snapshot.now_s - image.heard_s
    if name == "xray":
        mark, is_current = ("" if age_s <= _LIVE_S else "LAST IMAGE"), True
    else:
        is_current = _is_current(image, snapshot)
        mark = _mark(snapshot, is_current or age_s <= _PICTURE_LAG_S)
    # without colours: neither of now nor of the image that the word is about
    kind = snapshot.standing.kind
    is_grey = mark != "" and not (is_current and kind in (*_STANDING, Kind.REJECTED))
    return {
        "version": image.version,
        "age": duration(age_s),
        "mark": mark,
        "grey": is_grey and name != "xray",
    }


def _is_current(image: HeardImage, snapshot: Snapshot) -> bool:
    """Whether a picture that was made from a pose is of the newest image dealt with."""
    status, result = snapshot.status, snapshot.result
    if status is None:
        return False
    stamp = stamp_text(Time.from_msg(image.message.header.stamp).nanoseconds)
    if result is not None and result.heard_s > status.image_heard_s and result.stamp == stamp:
        return True
    return status.stamp == stamp


def _mark(snapshot: Snapshot, is_current: bool) -> str:
    """What to write across a picture that was made from a pose; empty when that stands."""
    shown = snapshot.standing
    if shown.kind not in _STANDING:
        return shown.word
    if not is_current:
        return "OLD PICTURE"
    return shown.word if shown.trust is Trust.DOUBT else ""


def _pose(snapshot: Snapshot) -> dict[str, Any] | None:
    """Only a pose that stands, and only that of the image the standing is about."""
    message, status, result = snapshot.pose, snapshot.status, snapshot.result
    if snapshot.standing.trust is Trust.NONE or message is None or status is None:
        return None
    stamp = _stamp(message)
    if stamp != status.stamp and (result is None or result.stamp != stamp or not result.accepted):
        return None
    try:
        # the axes of the patient frame stay those of the wire: markers are in them, too
        matrix = metres_from_mm(matrix_from_pose(message.pose.pose, "lps", "pose"))
    except InputError:
        return None
    record = result.record.get("result") if result is not None and result.stamp == stamp else None
    return {
        "camera_from_patient": matrix.ravel().tolist(),
        "ellipsoid": _ellipsoid(record),
    }


def _ellipsoid(record: Any) -> dict[str, Any] | None:
    """Centre in the patient frame (m); axes in the camera's, std in mm, largest first."""
    if not isinstance(record, Mapping):
        return None
    covariance, isocentre = record.get("covariance"), record.get("isocentre")
    if covariance is None or isocentre is None:
        return None
    variances, axes = np.linalg.eigh(np.asarray(covariance, dtype=np.float64)[:3, :3])
    if not np.isfinite(variances).all():
        return None
    std_mm = np.sqrt(np.maximum(variances, 0.0))
    return {
        "centre": (1e-3 * np.asarray(isocentre, dtype=np.float64)).tolist(),
        "axes": axes.T[::-1].tolist(),
        "std_mm": std_mm[::-1].tolist(),
    }


def _camera(info: CameraInfo) -> dict[str, Any] | None:
    """Of the image as published: ROI and binning are taken into account."""
    fx, fy, cx, cy = (float(info.k[i]) for i in (0, 4, 2, 5))
    bin_x, bin_y = max(1, int(info.binning_x)), max(1, int(info.binning_y))
    width = int(info.roi.width or info.width) // bin_x
    height = int(info.roi.height or info.height) // bin_y
    corner_x = (info.roi.x_offset + 0.5 * (bin_x - 1), info.roi.y_offset + 0.5 * (bin_y - 1))
    if not np.isfinite([fx, fy, cx, cy]).all() or min(fx, fy, width, height) <= 0:
        return None
    return {
        "frame": info.header.frame_id,
        "width": width,
        "height": height,
        "fx": fx / bin_x,
        "fy": fy / bin_y,
        "cx": (cx - corner_x[0]) / bin_x,
        "cy": (cy - corner_x[1]) / bin_y,
    }


def _level(values: Mapping[str, str]) -> dict[str, Any]:
    """What the wrong-level guard says; without a plan, what is in view."""
    guard = values.get("level_guard", "")
    if guard in ("", "off", "unknown"):
        seen = values.get("levels_in_view", "").replace("vertebrae_", "")
        return {"text": f"in view: {seen}" if seen else "", "good": True}
    if guard == "ok":  # the banner says it
        return {"text": "", "good": True}
    return {"text": values.get("level_guard_text", guard).replace("vertebrae_", ""), "good": False}


def _figures(values: Mapping[str, str], snapshot: Snapshot) -> list[dict[str, str]]:
    figures = []
    for key, label, unit, factor, decimals in _FIGURES:
        value = finite(values.get(key))
        text = "–" if value is None else f"{value * factor:.{decimals}f} {unit}".strip()
        figures.append({"label": label, "value": text})
    figures.append({"label": "on /tf", "value": _tf_text(snapshot)})
    return figures


def _tf_text(snapshot: Snapshot) -> str:
    """Whether what /tf has is the pose that stands."""
    if snapshot.transform is None:
        return "never"
    age = duration(snapshot.now_s - snapshot.transform_heard_s)
    is_current = snapshot.status is not None and _stamp(snapshot.transform) == snapshot.status.stamp
    if snapshot.standing.trust is not Trust.NONE and is_current:
        return "yes"
    return f"{age} ago"


def _stamp(message: PoseWithCovarianceStamped | TransformStamped) -> str:
    return stamp_text(Time.from_msg(message.header.stamp).nanoseconds)
