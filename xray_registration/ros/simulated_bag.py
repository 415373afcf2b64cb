"""A rosbag2 of simulated images, as carm_simulator would have published them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from xray_registration.geometry.camera import Camera
from xray_registration.ros.bag_files import BagWriter
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.pose_messages import pose_stamped, pose_with_covariance_stamped

Matrix = npt.NDArray[np.float64]

IMAGE, CAMERA_INFO, INITIALPOSE = "/image", "/camera_info", "/initialpose"
TRUTH = "/ground_truth/pose"
FRAME_ID = "carm_source_optical_frame"
# A time that is plainly not now; ROS time 0 means "never set".
FIRST_STAMP_NS = 1_000_000_000


def write_simulated_bag(
    path: Path,
    shots: Iterable[tuple[npt.NDArray[Any], Camera, Matrix]],
    start_camera_from_ct: Matrix,
    ct_axes: str = "lps",
    storage: str = "mcap",
    period_s: float = 0.1,
) -> None:
    """Write the bag; complete or, after an exception, up to the last finished image.

    Args:
        path: where; must not exist.
        shots: image (H, W) uint8, uint16 or float32, its camera, true camera_from_ct (LPS mm).
        start_camera_from_ct: published once as initialpose, before the first image.
        ct_axes: of the poses on the wire.
        storage: mcap or sqlite3.
        period_s: between images; bag time and stamps are the same.

    Raises:
        InputError: the place is taken or cannot be written.
    """
    with BagWriter(path, storage) as bag:
        header = _header(0, period_s)
        start = pose_with_covariance_stamped(
            start_camera_from_ct, np.zeros((6, 6)), np.zeros(3), header, ct_axes
        )
        bag.write(INITIALPOSE, start, FIRST_STAMP_NS)
        for number, (image, camera, camera_from_ct) in enumerate(shots):
            header, time_ns = _header(number, period_s), _time_ns(number, period_s)
            bag.write(TRUTH, pose_stamped(camera_from_ct, header, ct_axes), time_ns)
            bag.write(CAMERA_INFO, camera_to_message(camera, header), time_ns)
            bag.write(IMAGE, array_to_image(image, header), time_ns)


def _time_ns(number: int, period_s: float) -> int:
    return FIRST_STAMP_NS + round(number * period_s * 1e9)


def _header(number: int, period_s: float) -> Header:
    time_ns = _time_ns(number, period_s)
    stamp = Time(sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return Header(stamp=stamp, frame_id=FRAME_ID)
