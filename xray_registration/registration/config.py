"""What the registration does, as frozen values that are checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from xray_registration.errors import InputError
from xray_registration.imaging.attenuation import DEFAULT_ENERGY_KEV
from xray_registration.registration.detected import BeamConfig
from xray_registration.registration.trust import TrustConfig
from xray_registration.similarity import GradientResidual, WeightedGradientResidual


@dataclass(frozen=True)
class LevenbergMarquardtConfig:
    """The optimiser.

    Attributes:
        initial_damping: lambda at the start of a level, relative to the normal matrix's diagonal.
        rotation_scale_mm: 1 rad counts as this many mm in steps and damping; about the radius of
            the anatomy.
        max_step_mm: longest step, in that metric.
        min_step_mm: a step below it ends the level.
        min_decrease: relative decrease of the cost below which an accepted step counts as small;
            three small ones in a row end the level.
        huber: residuals beyond this many robust standard deviations weigh less; 0 switches it off.
    """

    initial_damping: float = 1e-2
    rotation_scale_mm: float = 100.0
    max_step_mm: float = 25.0
    min_step_mm: float = 0.05
    min_decrease: float = 1e-4
    huber: float = 1.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            lowest_ok = value >= 0 if field.name == "huber" else value > 0
            if not lowest_ok:
                raise InputError(f"{field.name} is {value}; expected a positive number.")


#: In place of a NAME.json: the mask network that comes with the package.
SHIPPED_MASK = "shipped"

_DEFAULT_RESIDUAL = GradientResidual()
Similarity = Literal["gradient", "spherical", "stacked"]
SIMILARITIES: tuple[Similarity, ...] = ("gradient", "spherical", "stacked")


@dataclass(frozen=True)
class Level:
    """One resolution. Lengths are at the isocentre and for anatomy of 250 mm or more; those of a
    learned similarity for any.

    Attributes:
        pixel_mm: size of the picture's pixels, projected to the isocentre.
        spacing_mm: size of the moving volume's voxels.
        max_iterations: Levenberg-Marquardt steps, rejected ones included.
        residual: the gradient similarity's parameters. The one with weights is for bones before a
            background: only in ``structure_levels``.
        min_decrease: in place of the optimiser's; None = that one. Where most of the cost is noise,
            the share that depth can take away is small.
        similarity: "gradient", or "spherical": a network that was trained for the CT, or "stacked":
            the rows of both.
        checkpoint: NAME.json of the network; empty with "gradient".
    """

    pixel_mm: float
    spacing_mm: float
    max_iterations: int
    residual: GradientResidual | WeightedGradientResidual = _DEFAULT_RESIDUAL
    min_decrease: float | None = None
    similarity: Similarity = "gradient"
    checkpoint: str = ""

    def __post_init__(self) -> None:
        lengths_ok = 0 < self.pixel_mm < math.inf and 0 < self.spacing_mm < math.inf
        if not (lengths_ok and self.max_iterations >= 1):
            raise InputError(f"{self}: expected positive lengths and at least one iteration.")
        if self.min_decrease is not None and not self.min_decrease > 0:
            raise InputError(f"{self}: expected a min_decrease above 0, or none.")
        if self.similarity not in SIMILARITIES:
            raise InputError(
                f"similarity is {self.similarity!r}; expected one of {', '.join(SIMILARITIES)}."
            )
        if self.is_learned != bool(self.checkpoint):
            raise InputError(
                f"similarity is {self.similarity!r} and checkpoint {self.checkpoint!r}; expected "
                "the NAME.json of a trained similarity with spherical or stacked, and none with "
                "gradient."
            )
        if self.similarity == "spherical" and self.residual != _DEFAULT_RESIDUAL:
            raise InputError("residual is given for a level whose similarity is spherical.")
        if self.similarity == "stacked" and not isinstance(self.residual, GradientResidual):
            raise InputError(
                "a stacked level's residual is one with weights; expected one without."
            )

    @property
    def is_learned(self) -> bool:
        """Whether a network compares the pictures, alone or with the gradients."""
        return self.similarity != "gradient"


@dataclass(frozen=True)
class GateConfig:
    """Below these a result is rejected.

    Attributes:
        min_similarity: gradient correlation, of one view alone; of the finest level whose pixels
            have 1.25 mm or more, since that of finer ones falls with the dose.
        min_similarity_several_views: the same of every one of two or more views: that a wrong pose
            looks right in each of them happens far less often. Figures: docs/design/gate.md.
        min_similarity_of_structures: the same of every one of several views where bones are named.
        min_overlap: of CT and picture, see ``Objective.overlaps``; the least of the views counts.
        max_sigma_mm: largest standard deviation of a target at ``rotation_scale_mm`` from the
            isocentre that the normal matrix may predict.
        max_unsettled_mm: longest last step, in that metric, of an optimisation that was stopped by
            its iteration limit: wrong poses tend to be on their way still.
        max_correction_mm: how far the pose may end from its start, in the same metric; further than
            any start that the method can be trusted to come back from.
        min_level_margin: by how much the similarity must fall when every vertebra is taken for its
            neighbour (with a label map that names vertebrae); else the level is ambiguous. 0 leaves
            the neighbours out.
        clear_level_margin: a neighbour that is worse by as much at the coarsest level is not looked
            at more closely.
    """

    min_similarity: float = 0.85
    min_similarity_several_views: float = 0.6
    min_similarity_of_structures: float = 0.72
    min_overlap: float = 0.15
    max_sigma_mm: float = 0.65
    max_unsettled_mm: float = 0.3
    max_correction_mm: float = 120.0
    min_level_margin: float = 0.05
    clear_level_margin: float = 0.3

    def __post_init__(self) -> None:
        # written so that NaN, with which every comparison of the gate would pass, is refused
        for name in (
            "min_similarity",
            "min_similarity_several_views",
            "min_similarity_of_structures",
            "min_overlap",
            "min_level_margin",
            "clear_level_margin",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 0 to 1.")
        for name in ("max_sigma_mm", "max_unsettled_mm", "max_correction_mm"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; expected a positive length.")


@dataclass(frozen=True)
class SpreadConfig:
    """Starts tried about the given one when that one leads to no pose that is beyond doubt.

    Attributes:
        unless_similarity: a pose that is accepted with at least this similarity is beyond doubt. A
            local optimum, tens of mm off, was seen with 0.55, right poses with 0.65 to 0.99.
        candidates: poses whose similarity is looked at, at the coarsest level.
        count: how many of these, the most alike, are optimised; 0 switches the second attempt off.
        apart_mm: least distance between any two of them, 1 rad as the optimiser's
            ``rotation_scale_mm``.
        translation_mm: standard deviation along each axis, at the isocentre.
        rotation_deg: standard deviation about each axis.
        seed: of the fixed sequence.
    """

    unless_similarity: float = 0.8
    candidates: int = 256
    count: int = 16
    apart_mm: float = 15.0
    translation_mm: float = 20.0
    rotation_deg: float = 15.0
    seed: int = 0

    def __post_init__(self) -> None:
        lengths = (self.translation_mm, self.rotation_deg, self.apart_mm)
        if self.count < 0 or not all(length >= 0 for length in lengths):
            raise InputError(f"{self}: expected numbers that are not negative.")
        if self.candidates < 1:
            raise InputError(f"candidates is {self.candidates}; expected one or more.")


@dataclass(frozen=True)
class RigUncertainty:
    """How well the relative geometry of several views is known: one standard deviation.

    Of where the patient lies as a camera sees it, for every camera beyond the first, which carries
    the rig: an error of camera_from_rig that moves the isocentre by so much, or turns the patient
    about it.

    Attributes:
        translation_mm: along each axis.
        rotation_deg: about each axis.
    """

    translation_mm: float
    rotation_deg: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise InputError(f"{field.name} is {value}; expected a positive number.")


_DEFAULT_LEVELS = (
    Level(pixel_mm=5.0, spacing_mm=5.0, max_iterations=30),
    Level(pixel_mm=2.5, spacing_mm=2.5, max_iterations=20),
    Level(pixel_mm=1.25, spacing_mm=1.4, max_iterations=3),
    Level(pixel_mm=0.8, spacing_mm=1.4, max_iterations=4),
)
# Fine to the detector's own pixels: in one view only the finest edges tell depth from deformation.
_DEFAULT_STRUCTURE_LEVELS = (
    Level(1.25, 0.7, 15, GradientResidual(window_px=6.0)),
    Level(0.7, 0.7, 12, GradientResidual(window_px=8.0)),
    # three times: gain, variance and background are those of where a level begins
    Level(0.3, 0.7, 4, WeightedGradientResidual(), min_decrease=3e-6),
    Level(0.3, 0.7, 3, WeightedGradientResidual(), min_decrease=3e-6),
    Level(0.3, 0.7, 6, WeightedGradientResidual(), min_decrease=3e-6),
)
_DEFAULT_OPTIMISER = LevenbergMarquardtConfig()
_DEFAULT_GATE = GateConfig()
_DEFAULT_SPREAD = SpreadConfig()
_DEFAULT_BEAM = BeamConfig()
_DEFAULT_TRUST = TrustConfig()


@dataclass(frozen=True)
class RegistrationConfig:
    """Everything that decides the outcome, apart from the data.

    Attributes:
        levels: coarse to fine, of the whole CT; learned ones before the others.
        structures: names in the label map (``*`` and ``?`` allowed) of the bones whose pose is
            wanted, where the rest of the patient may lie otherwise than in the CT; none = the whole
            CT is one rigid body.
        structure_levels: with ``structures`` these follow upon those of ``levels`` that are coarser
            than the first of them.
        mask_network: with ``structures`` a network masks metal and blades in the pictures:
            "shipped", which comes with the package, or NAME.json of ``training/train_mask.py``.
            Empty: metal is looked for by its form.
        optimiser: of every level.
        gate: accept or reject.
        trust: how likely a pose is right.
        spread: the second attempt.
        energy_kev: of the attenuation curve of the moving picture.
        beam: what hardening and scatter make of the moving picture.
        isolate_patient: leave the couch and other thin things beside the patient out of the CT.
        rig_uncertainty: refine the views' relative geometry together with the pose; None: it is
            known, or there is one view.
    """

    levels: tuple[Level, ...] = _DEFAULT_LEVELS
    structures: tuple[str, ...] = ()
    structure_levels: tuple[Level, ...] = _DEFAULT_STRUCTURE_LEVELS
    mask_network: str = SHIPPED_MASK
    optimiser: LevenbergMarquardtConfig = _DEFAULT_OPTIMISER
    gate: GateConfig = _DEFAULT_GATE
    trust: TrustConfig = _DEFAULT_TRUST
    spread: SpreadConfig = _DEFAULT_SPREAD
    energy_kev: float = DEFAULT_ENERGY_KEV
    beam: BeamConfig = _DEFAULT_BEAM
    isolate_patient: bool = True
    rig_uncertainty: RigUncertainty | None = None

    def __post_init__(self) -> None:
        for name in ("levels", "structure_levels"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty; expected one resolution or more.")
        for n, level in enumerate(self.levels):
            if isinstance(level.residual, WeightedGradientResidual):
                raise InputError(
                    f"levels[{n}]: a residual with weights compares bones before a background; "
                    "expected it in structure_levels only."
                )
        learned = [level.is_learned for level in self.levels]
        if all(learned) or learned != sorted(learned, reverse=True):
            raise InputError(
                "levels: a learned level after a gradient one, or no gradient level; expected "
                "learned similarities first and a gradient level last."
            )
        if any(level.is_learned for level in self.structure_levels):
            raise InputError("structure_levels: a learned level; expected gradient levels only.")
        if self.mask_network not in ("", SHIPPED_MASK) and not self.structures:
            raise InputError(
                f"mask_network is {self.mask_network!r}, but no structures are named; expected "
                "both: pictures of a whole rigid CT are compared with their metal."
            )

    def with_levels(self, *levels: Level) -> RegistrationConfig:
        """The same with other levels."""
        return replace(self, levels=levels)

    def refines_rig(self, views: int) -> bool:
        """Whether the relative geometry of so many views is refined together with the pose."""
        return self.rig_uncertainty is not None and views > 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for a YAML file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "config") -> RegistrationConfig:
        """From plain values; what is absent keeps its default, what is unknown is refused."""
        values = _known(cls, data, source)
        for name in ("levels", "structure_levels"):
            if name in values:
                values[name] = tuple(
                    _level(level, f"{source}: {name}[{n}]")
                    for n, level in enumerate(_listed(values[name], f"{source}: {name}"))
                )
        if "structures" in values:
            values["structures"] = tuple(
                str(name) for name in _listed(values["structures"], f"{source}: structures")
            )
        if "optimiser" in values:
            values["optimiser"] = _made(LevenbergMarquardtConfig, values["optimiser"], source)
        if "spread" in values:
            values["spread"] = _made(SpreadConfig, values["spread"], source)
        if "beam" in values:
            values["beam"] = _made(BeamConfig, values["beam"], source)
        if "gate" in values:
            values["gate"] = _made(GateConfig, values["gate"], source)
        if "trust" in values:
            values["trust"] = _made(TrustConfig, values["trust"], source)
        if values.get("rig_uncertainty") is not None:
            values["rig_uncertainty"] = _made(
                RigUncertainty, values["rig_uncertainty"], f"{source}: rig_uncertainty"
            )
        return _made(cls, values, source)


def _listed(value: Any, source: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{source} is {value!r}; expected a list.")
    return list(value)


def _level(data: Mapping[str, Any], source: str) -> Level:
    values = _known(Level, data, source)
    if "residual" in values:
        # the two kinds share no other name than smoothing and window
        weighted = isinstance(values["residual"], Mapping) and "clutter" in values["residual"]
        kind = WeightedGradientResidual if weighted else GradientResidual
        values["residual"] = _made(kind, values["residual"], source)
    return _made(Level, values, source)


def _known(kind: type, data: Any, source: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise InputError(f"{source} is {data!r}; expected a mapping.")
    names = {field.name for field in fields(kind)}
    unknown = sorted(set(data) - names)
    if unknown:
        raise InputError(f"{source}: unknown {unknown}; expected some of {sorted(names)}.")
    return dict(data)


def _made(kind: Any, data: Any, source: str) -> Any:
    values = _known(kind, data, source)
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{source}: {error}") from error
