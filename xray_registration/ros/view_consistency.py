"""Do the views agree? Each registered alone, against all of them registered together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from xray_registration.evaluation.metrics import pose_errors

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PosedView:
    """One registration of a moment.

    Attributes:
        name: of the view; empty = of all together.
        accepted: by the gate.
        camera_from_ct: (4, 4) LPS mm; of all together: of the rig.
        camera_from_rig: (4, 4) mm.
    """

    name: str
    accepted: bool
    camera_from_ct: Matrix
    camera_from_rig: Matrix


@dataclass(frozen=True)
class Disagreement:
    """One view alone against all together, in that view's axes.

    Attributes:
        moment: name of the joint registration.
        view: name of the view.
        accepted_alone, accepted_together: by the gate.
        distance_mm: mean distance of the targets.
        in_plane_mm, depth_mm: of the isocentre, across and along the view's beam.
        rotation_deg: between the two.
    """

    moment: str
    view: str
    accepted_alone: bool
    accepted_together: bool
    distance_mm: float
    in_plane_mm: float
    depth_mm: float
    rotation_deg: float

    def to_dict(self) -> dict[str, object]:
        """Name to value."""
        return asdict(self)

    def sentence(self) -> str:
        """For a person."""
        alone = "accepted" if self.accepted_alone else "refused"
        return (
            f"{self.moment}: {self.view} alone ({alone}) lies {self.distance_mm:.2f} mm and "
            f"{self.rotation_deg:.2f} degrees from all views together: {self.in_plane_mm:.2f} mm "
            f"in its plane, {self.depth_mm:.2f} mm in depth"
        )


def disagreements(
    moment: str,
    together: PosedView,
    alone: Sequence[PosedView],
    points_lps_mm: Matrix,
    isocentre_lps_mm: Matrix,
) -> list[Disagreement]:
    """One for each view."""
    found = []
    for view in alone:
        joint = view.camera_from_rig @ together.camera_from_ct
        errors = pose_errors(view.camera_from_ct, joint, points_lps_mm, isocentre_lps_mm)
        found.append(
            Disagreement(
                moment=moment,
                view=view.name,
                accepted_alone=view.accepted,
                accepted_together=together.accepted,
                distance_mm=errors.mtre_mm,
                in_plane_mm=errors.in_plane_mm,
                depth_mm=errors.depth_mm,
                rotation_deg=errors.rotation_deg,
            )
        )
    return found
