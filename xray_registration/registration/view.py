"""One picture with the camera that took it and its place in the rig."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xray_registration.geometry import Camera, check_rigid
from xray_registration.imaging.pyramid import check_same_size
from xray_registration.imaging.radiograph import Radiograph


def _identity() -> NDArray[np.float64]:
    return np.eye(4)


@dataclass(frozen=True, eq=False)
class View:
    """A radiograph, its camera and ``camera_from_rig`` (4, 4) mm; one view alone: the identity."""

    radiograph: Radiograph
    camera: Camera
    camera_from_rig: NDArray[np.float64] = field(default_factory=_identity)

    def __post_init__(self) -> None:
        check_same_size(self.radiograph, self.camera)
        rigid = check_rigid(self.camera_from_rig, f"{self.radiograph.source}: camera_from_rig")
        object.__setattr__(self, "camera_from_rig", rigid)
