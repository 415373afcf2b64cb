"""What a registration returns: the pose, its proof, and why it was accepted or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xray_registration
from xray_registration.files import write_atomically
from xray_registration.geometry.frames import from_lps
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration.levenberg_marquardt import Termination

SCHEMA_VERSION = 1
"""Of RESULT.json; see schema/result.schema.json."""


class Reason(str, Enum):
    """The gate's decision."""

    ACCEPTED = "accepted"
    LOW_SIMILARITY = "low_similarity"
    LOW_OVERLAP = "low_overlap"
    UNCERTAIN = "uncertain"
    NOT_CONVERGED = "not_converged"
    AMBIGUOUS = "ambiguous"
    FAR_FROM_START = "far_from_start"
    NO_IMPROVEMENT = "no_improvement"
    RIG_DEVIATES = "rig_deviates"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """One registration of one or more views.

    Attributes:
        rig_from_ct: (4, 4), CT in LPS mm. With one view and no rig: camera_from_ct. Finite also
            when refused: the best pose that was seen, never worse than the start.
        accepted: whether anybody may use it.
        reason: the code of the decision.
        reason_text: the same for a person, with the figures.
        similarity: gradient correlation, -1..1, mean over the views; see GateConfig.
        start_similarity: the same at the start.
        view_similarities: one per view.
        covariance: (6, 6) of (v mm, w rad) about the isocentre, rig axes; inflated to
            what the errors of simulated cases are (docs/design/covariance.md).
        isocentre_lps_mm: (3,).
        iterations: linearisations over all levels.
        termination: of the finest level.
        seconds: wall-clock time of the registration.
        device: "cpu", "cuda:0", ...
        probability: that the targets are within 2 mm (see `trust`), 0 to 1, whatever the decision;
            the cameras are taken to be as they were given.
        camera_from_rig: (4, 4) of every view as refined together with the pose; None where the
            relative geometry was taken as given.
        extra: further keys of RESULT.json.
    """

    rig_from_ct: NDArray[np.float64]
    accepted: bool
    reason: Reason
    reason_text: str
    similarity: float
    start_similarity: float
    view_similarities: tuple[float, ...]
    covariance: NDArray[np.float64]
    isocentre_lps_mm: NDArray[np.float64]
    iterations: int
    termination: Termination
    seconds: float
    device: str
    probability: float = 0.0
    camera_from_rig: tuple[NDArray[np.float64], ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self, ct_axes: str = "lps", ct: CTVolume | None = None) -> dict[str, Any]:
        """The content of RESULT.json; ``ct_axes`` ('lps' or 'ras') is that of ``rig_from_ct``."""
        isocentre = np.append(self.isocentre_lps_mm, 1.0)
        axes_from_lps = from_lps(np.eye(4), ct_axes).T
        return {
            "schema_version": SCHEMA_VERSION,
            "rig_from_ct": from_lps(self.rig_from_ct, ct_axes).tolist(),
            "ct_axes": ct_axes,
            "length_unit": "mm",
            "accepted": self.accepted,
            "reason": self.reason.value,
            "reason_text": self.reason_text,
            "probability": self.probability,
            "similarity": _finite_or_none(self.similarity),
            "similarity_measure": "gradient_correlation",
            "start_similarity": _finite_or_none(self.start_similarity),
            "view_similarities": [_finite_or_none(value) for value in self.view_similarities],
            "covariance": _finite_rows(self.covariance),
            "covariance_order": "x_mm y_mm z_mm rot_x_rad rot_y_rad rot_z_rad",
            "covariance_frame": "rig axes, about the isocentre",
            "isocentre": (axes_from_lps @ isocentre)[:3].tolist(),
            "iterations": self.iterations,
            "termination": self.termination.value,
            "seconds": self.seconds,
            "device": self.device,
            "version": xray_registration.__version__,
            "ct": None if ct is None else {"path": Path(ct.path).name, "sha256": ct.sha256},
            **(
                {}
                if self.camera_from_rig is None
                else {"camera_from_rig_refined": [m.tolist() for m in self.camera_from_rig]}
            ),
            **self.extra,
        }

    def write_json(
        self, path: str | Path, ct_axes: str = "lps", ct: CTVolume | None = None
    ) -> None:
        """Write RESULT.json; the file is complete or not there."""
        text = json.dumps(self.to_dict(ct_axes, ct), indent=2, allow_nan=False)
        write_atomically(Path(path), (text + "\n").encode())


def _finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _finite_rows(matrix: NDArray[np.float64]) -> list[list[float]] | None:
    """None where the covariance is infinite: JSON has no infinity."""
    return matrix.tolist() if np.isfinite(matrix).all() else None
