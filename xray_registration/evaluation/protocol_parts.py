"""The parts of a protocol, as frozen values that are checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal

from xray_registration.errors import InputError
from xray_registration.evaluation.datasets import check_name

REJECT_KINDS = (
    "blank",  # the open beam, or one value everywhere
    "saturated",  # overexposed: hardly a pixel below full well
    "other_patient",  # a picture of another data set
    "other_patient_warped",  # of this CT, stretched and bent into another body
    "out_of_view",  # the targets are beside the picture
    "mirrored",  # flipped, and nobody said so
    "wrong_sdd",  # the camera's source-detector distance is 20 % off
)
INSTRUMENTS = ("fixation", "wires", "table")


@dataclass(frozen=True)
class TargetSpec:
    """Which points count; see `evaluation.targets`.

    Attributes:
        kind: "surface" or "centroids" of labelled structures, or "bone": without labels.
        structures: names or patterns, for "surface" and "centroids".
        points: per structure, or in all for "bone".
        threshold_hu: of "bone".
    """

    kind: Literal["surface", "centroids", "bone"]
    structures: tuple[str, ...] = ()
    points: int = 50
    threshold_hu: float = 400.0

    def __post_init__(self) -> None:
        if self.kind not in ("surface", "centroids", "bone"):
            raise InputError(f"kind is {self.kind!r}; expected surface, centroids or bone.")
        if (self.kind == "bone") == bool(self.structures):
            raise InputError("structures belong to surface and centroids, and are needed there.")
        whole(self.points, "points", 1)


@dataclass(frozen=True)
class CameraSpec:
    """One picture of the rig.

    Attributes:
        size: columns and rows.
        pixel_pitch_mm, sdd_mm: of the flat detector.
        orbit_deg: added to the first camera's LAO/RAO angle; 0 for the first. Tilt, roll, shift and
            depth are drawn for each camera by itself: two shots, each aimed by hand, whose relation
            is measured.
    """

    size: tuple[int, int] = (512, 512)
    pixel_pitch_mm: float = 0.582
    sdd_mm: float = 1020.0
    orbit_deg: float = 0.0

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 64:
            raise InputError(f"size is {self.size}; expected (columns, rows) of 64 or more.")


@dataclass(frozen=True)
class PoseRanges:
    """Half widths of the even distributions that true poses are drawn from (`geometry.positioner`).

    Attributes:
        source_isocentre_mm: nominal distance from the focal spot to the centre of the targets.
        primary_deg: of LAO/RAO about ``primary_centre_deg``.
        secondary_deg: of CRAN/CAUD.
        roll_deg: of the picture's rotation.
        shift_mm: of the targets' centre across the beam, in both directions.
        depth_mm: of it along the beam.
    """

    source_isocentre_mm: float = 700.0
    primary_centre_deg: float = 0.0
    primary_deg: float = 35.0
    secondary_deg: float = 20.0
    roll_deg: float = 10.0
    shift_mm: float = 30.0
    depth_mm: float = 60.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name != "primary_centre_deg" and getattr(self, item.name) < 0:
                raise InputError(f"{item.name} is {getattr(self, item.name)}; expected 0 or more.")
        if self.source_isocentre_mm - self.depth_mm < 300:
            raise InputError("the patient comes within 300 mm of the focal spot.")


@dataclass(frozen=True)
class StartSpec:
    """Starts: a random 6-DoF perturbation about the targets' centre, scaled to a true mTRE.

    Attributes:
        bins_mm: edges of the bins; within a bin the mTRE is drawn evenly.
        sigma_mm, sigma_deg: of each translation and each rotation before scaling: their ratio.
        largest_rotation_deg: a draw that would turn further is drawn again.
    """

    bins_mm: tuple[float, ...] = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
    sigma_mm: float = 20.0
    sigma_deg: float = 10.0
    largest_rotation_deg: float = 60.0

    def __post_init__(self) -> None:
        edges = self.bins_mm
        if len(edges) < 2 or any(a >= b for a, b in pairwise(edges)) or edges[0] < 0:
            raise InputError(f"bins_mm is {edges}; expected two or more growing numbers from 0.")
        if min(self.sigma_mm, self.sigma_deg) <= 0:
            raise InputError("sigma_mm and sigma_deg must be positive.")


@dataclass(frozen=True)
class VariantSpec:
    """How the patient on the table differs from the CT that is registered.

    Attributes:
        name: for tables.
        contrast: "as_ct", "removed", or "added" into ``vessels``.
        vessels: structures that ``enhancement_hu`` is added to.
        deformation: fields of `DeformationConfig`, or None; the structures ``fixed`` do not move.
        deformation_seed: of that motion.
        fixed: names or patterns of what stays; the truth is their pose.
        stretch: factors along L, P, S about the targets' centre: another body.
    """

    name: str
    contrast: Literal["as_ct", "removed", "added"] = "as_ct"
    vessels: tuple[str, ...] = ()
    enhancement_hu: float = 250.0
    deformation: Mapping[str, float] | None = None
    deformation_seed: int = 0
    fixed: tuple[str, ...] = ()
    stretch: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.contrast not in ("as_ct", "removed", "added"):
            raise InputError(f"contrast is {self.contrast!r}; expected as_ct, removed or added.")
        if (self.contrast == "added") != bool(self.vessels):
            raise InputError("vessels belong to contrast: added, and are needed there.")
        if self.stretch is not None and (len(self.stretch) != 3 or min(self.stretch) <= 0):
            raise InputError(f"stretch is {self.stretch}; expected three positive factors.")


@dataclass(frozen=True)
class CollimatorSpec:
    """Blades, drawn evenly between two values each; lengths on the detector.

    Attributes:
        half_width_mm, half_height_mm: of the open rectangle.
        offset_mm: largest distance, either way, of its centre from where the targets' centre falls.
        rotation_deg: largest, either way.
    """

    half_width_mm: tuple[float, float]
    half_height_mm: tuple[float, float]
    offset_mm: float = 0.0
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        for name in ("half_width_mm", "half_height_mm"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} is {(low, high)}; expected two growing positive numbers.")


@dataclass(frozen=True)
class AcquisitionSpec:
    """How a picture is taken.

    Attributes:
        name: for tables.
        share: how many in a round of all acquisitions' shares.
        xray: settings of `XrayModelConfig.from_dict` that belong to the picture.
        collimator: None = open.
        instruments: of INSTRUMENTS: "fixation" (rods and pedicle screws at 2 to 4 neighbouring
            ``targets`` vertebrae), "wires" (1 to 3 in the field), "table".
    """

    name: str
    share: int = 1
    xray: Mapping[str, Any] = field(default_factory=dict)
    collimator: CollimatorSpec | None = None
    instruments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole(self.share, "share", 1)
        unknown = sorted(set(self.instruments) - set(INSTRUMENTS))
        if unknown:
            raise InputError(f"instruments: unknown {unknown}; expected some of {INSTRUMENTS}.")


@dataclass(frozen=True)
class RejectSpec:
    """Cases that must be refused.

    Attributes:
        kinds: of REJECT_KINDS.
        cases_per_kind, quick_per_kind: for a full and for a quick run.
        other_patients: data sets whose pictures "other_patient" shows.
        warped: variants that "other_patient_warped" shows.
    """

    kinds: tuple[str, ...]
    cases_per_kind: int = 72
    quick_per_kind: int = 3
    other_patients: tuple[str, ...] = ()
    warped: tuple[VariantSpec, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(REJECT_KINDS))
        if unknown or not self.kinds:
            raise InputError(f"kinds: unknown {unknown}; expected some of {REJECT_KINDS}.")
        if "other_patient" in self.kinds and not self.other_patients:
            raise InputError("other_patient needs other_patients.")
        if "other_patient_warped" in self.kinds and not self.warped:
            raise InputError("other_patient_warped needs warped.")
        for name in self.other_patients:
            check_name(name)


def whole(value: Any, name: str, least: int) -> None:
    """InputError unless ``value`` is a whole number, ``least`` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} is {value!r}; expected a whole number, {least} or more.")
