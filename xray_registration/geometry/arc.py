"""An arc of a C-arm about its isocentre, as a sequence of poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.geometry.checks import positive_int, vector3
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner


@dataclass(frozen=True)
class Arc:
    """Equal steps from the first to the last angles (degrees, see ``geometry.positioner``).

    Attributes:
        primary_deg: first and last, + LAO, - RAO.
        secondary_deg: first and last, + CRAN, - CAUD.
        frames: number of poses, both ends included.
        source_isocentre_mm: focal spot to isocentre.
    """

    primary_deg: tuple[float, float]
    secondary_deg: tuple[float, float]
    frames: int
    source_isocentre_mm: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", positive_int(self.frames, "frames"))

    @property
    def angles_deg(self) -> list[tuple[float, float]]:
        """(primary, secondary) of every frame."""
        primary = np.linspace(*self.primary_deg, self.frames)
        secondary = np.linspace(*self.secondary_deg, self.frames)
        return [(float(a), float(b)) for a, b in zip(primary, secondary, strict=True)]

    def poses(self, isocentre_lps_mm: ArrayLike) -> list[NDArray[np.float64]]:
        """camera_from_ct (4, 4) LPS mm of every frame; the beam axis meets the isocentre (3,).

        Raises:
            InputError: an angle or a distance out of range.
        """
        x, y, z = vector3(isocentre_lps_mm, "isocentre_lps_mm").tolist()
        return [
            camera_from_positioner(
                PositionerPose(primary, secondary, self.source_isocentre_mm, (x, y, z))
            )
            for primary, secondary in self.angles_deg
        ]
