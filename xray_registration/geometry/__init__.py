"""What a pose and a camera are. Conventions: docs/conventions.md."""

from __future__ import annotations

from xray_registration.geometry.camera import Camera
from xray_registration.geometry.camera_info import camera_from_info, info_fields
from xray_registration.geometry.converters import (
    DetectorGeometry,
    camera_from_detector,
    camera_from_opencv,
    detector_from_camera,
    matrix_from_rt,
    matrix_from_transform,
    opencv_from_camera,
    quaternion_from_rotation,
    rotation_from_quaternion,
    rt_from_matrix,
    transform_from_matrix,
)
from xray_registration.geometry.frames import (
    LPS_FROM_RAS,
    from_lps,
    lps_from_ct_axes,
    metres_from_mm,
    mm_from_metres,
    to_lps,
)
from xray_registration.geometry.positioner import (
    PositionerPose,
    camera_from_positioner,
    positioner_from_camera,
)
from xray_registration.geometry.se3 import (
    adjoint,
    check_rigid,
    hat,
    inverse,
    left_increment,
    perturbation_between,
    se3_exp,
    se3_log,
    so3_exp,
    so3_log,
    transform_points,
)

__all__ = [
    "LPS_FROM_RAS",
    "Camera",
    "DetectorGeometry",
    "PositionerPose",
    "adjoint",
    "camera_from_detector",
    "camera_from_info",
    "camera_from_opencv",
    "camera_from_positioner",
    "check_rigid",
    "detector_from_camera",
    "from_lps",
    "hat",
    "info_fields",
    "inverse",
    "left_increment",
    "lps_from_ct_axes",
    "matrix_from_rt",
    "matrix_from_transform",
    "metres_from_mm",
    "mm_from_metres",
    "opencv_from_camera",
    "perturbation_between",
    "positioner_from_camera",
    "quaternion_from_rotation",
    "rotation_from_quaternion",
    "rt_from_matrix",
    "se3_exp",
    "se3_log",
    "so3_exp",
    "so3_log",
    "to_lps",
    "transform_from_matrix",
    "transform_points",
]
