"""Where the views are in the rig: given by parameters, or looked up on /tf for every image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.tf_lookup import TransformLookup

Matrix = npt.NDArray[np.float64]


def parent_frame_id(frame: Frame, settings: RegistrationSettings) -> str:
    """The frame in which the pose is: the parameter, else that of the first view's image.

    Raises:
        InputError: neither is there.
    """
    parent: str = settings.parent_frame_id or frame.image.header.frame_id
    if not parent:
        topic = settings.views[0].topic("image")
        raise InputError(
            f"topic '{topic}': header.frame_id is empty; expected the C-arm's optical frame, "
            "or give one by the parameter 'parent_frame_id'"
        )
    return parent


def camera_from_rig(
    frame: Frame, settings: RegistrationSettings, parent: str, lookup: TransformLookup | None
) -> tuple[Matrix, ...]:
    """(4, 4) mm of every view at the stamp of its own image.

    Raises:
        InputError: a view without a parameter whose frame is not on /tf at that time.
    """
    matrices = []
    for view, messages in zip(settings.views, frame.views, strict=True):
        matrix = view.camera_from_rig
        if matrix is None:
            if lookup is None:
                raise InputError(
                    f"parameter '{view.name}.camera_from_rig' is not given and there is no /tf here"
                )
            header = messages.image.header
            stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
            matrix = lookup.lookup(header.frame_id.lstrip("/"), parent.lstrip("/"), stamp_ns)
        matrices.append(matrix)
    return tuple(matrices)
