"""A registrar for starts that are nearly right: few steps at the fine levels, the same gate."""

from __future__ import annotations

from dataclasses import dataclass, replace

from xray_registration.errors import InputError
from xray_registration.registration.prepared_patient import THICK_SLICES, PreparedLevel
from xray_registration.registration.registrar import Registrar
from xray_registration.rendering import JosephProjector


@dataclass(frozen=True)
class QuickConfig:
    """What is left of a registrar's levels: one that brings the pose near, and the finest.

    Figures: docs/design/tracking.md.

    Attributes:
        coarsest_mm: pixels of the first are no larger (as those of `Level`): it is the coarsest of
            which that is true.
        first_iterations: of it.
        finest_mm: pixels of the last, which is the finest, are made no smaller.
        last_iterations: of it, where most of the time goes.
        max_innovation_mm: how far the pose may end from its start (1 rad as the optimiser's
            ``rotation_scale_mm``). Far less than a vertebra's height, so that a picture that moved
            on by one of them is not taken for one that stood still.
    """

    coarsest_mm: float = 2.5
    first_iterations: int = 6
    finest_mm: float = 1.0
    last_iterations: int = 3
    max_innovation_mm: float = 10.0

    def __post_init__(self) -> None:
        for name in ("coarsest_mm", "finest_mm", "max_innovation_mm"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; expected a positive length.")
        for name in ("first_iterations", "last_iterations"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more.")


class QuickRegistrar(Registrar):
    """Shares what a full registrar has prepared; of its volumes it makes others with thick slices.

    Whatever judges a pose is the full registrar's: the level that similarity is taken at (with
    thicker slices), all thresholds, the neighbouring vertebrae. Only ``max_correction_mm`` is
    smaller, so that a pose far from its start is refused as ``far_from_start``. There is no second
    attempt.
    """

    def __init__(self, full: Registrar, quick: QuickConfig) -> None:
        # no super().__init__(): that would prepare the patient again
        vars(self).update(vars(full))
        config = full.config
        nearest = min(config.gate.max_correction_mm, quick.max_innovation_mm)
        self.config = replace(
            config,
            gate=replace(config.gate, max_correction_mm=nearest),
            spread=replace(config.spread, count=0),
        )
        if full._of_structures:
            # the bones alone: a few millimetres are within their own reach
            self._gone_through = []
            self._of_structures = [
                prepared.with_at_most(quick.first_iterations) for prepared in full._of_structures
            ]
        else:
            self._levels = _with_thick_slices(full._levels)
            self._gone_through = _first_and_last(self._levels, quick)


def _with_thick_slices(levels: list[PreparedLevel]) -> list[PreparedLevel]:
    # levels that share a projector go on sharing one: what it keeps is large
    thick = {prepared.projector: _thick(prepared.projector) for prepared in levels}
    return [replace(prepared, projector=thick[prepared.projector]) for prepared in levels]


def _thick(projector: JosephProjector) -> JosephProjector:
    return projector.with_slices_of(THICK_SLICES * float(projector.volume.spacing_mm.min()))


def _first_and_last(levels: list[PreparedLevel], quick: QuickConfig) -> list[PreparedLevel]:
    *others, finest = levels
    near = [prepared for prepared in others if prepared.level.pixel_mm <= quick.coarsest_mm]
    if not near:
        return [finest.with_at_most(quick.first_iterations)]
    larger = max(1.0, quick.finest_mm / finest.level.pixel_mm)
    last = replace(finest, pixel_mm=larger * finest.pixel_mm)
    return [
        near[0].with_at_most(quick.first_iterations),
        last.with_at_most(quick.last_iterations),
    ]
