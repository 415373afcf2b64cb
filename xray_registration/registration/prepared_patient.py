"""A CT at every resolution of a configuration, ready to be rendered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration.config import Level, RegistrationConfig
from xray_registration.registration.learned_similarity import loaded_similarity
from xray_registration.registration.objective import cut_faces, ends_of
from xray_registration.registration.structures import (
    box_centre_lps_mm,
    matching_structures,
    split,
)
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.similarity import GradientResidual
from xray_registration.similarity.residual import PictureResidual
from xray_registration.similarity.stacked import StackedResidual

# Anatomy of this size is what the levels' lengths are stated for; smaller CTs get finer levels.
_REFERENCE_EXTENT_MM = 250.0
_SMALLEST_LENGTH_SCALE = 0.2
_SHADOW_MM = 5.0
_CUT_MM = 2.5  # voxels of the faces where the CT ends: only their shadow counts
# Where slices are to be thick, voxels are so much longer along the rays: half the time. Poses of
# structures stay the same to a fiftieth of a millimetre, those of a whole CT to a tenth
# (docs/design/projector.md): structures always have them, the whole CT only while it is followed.
THICK_SLICES = 2.0
_BACKGROUND_MM = 1.4  # voxels of what does not move; its finest structure is not trusted anyway


@dataclass(frozen=True, eq=False)
class PreparedLevel:
    """One resolution.

    Attributes:
        level: as configured.
        residual: its similarity.
        pixel_mm: its pixel size for this patient.
        projector: of what moves.
        cut: of the faces where the CT ends within the body; None where it does not.
        shadow: of what moves, coarse: where it projects.
        corners_lps_mm: (8, 3) box of what moves.
        background: of structures: the rest of the patient, else None.
    """

    level: Level
    residual: PictureResidual
    pixel_mm: float
    projector: JosephProjector
    cut: JosephProjector | None
    shadow: JosephProjector
    corners_lps_mm: NDArray[np.float64]
    background: JosephProjector | None = None

    def with_at_most(self, iterations: int) -> PreparedLevel:
        """The same with no more iterations than so many."""
        level = replace(self.level, max_iterations=min(self.level.max_iterations, iterations))
        return replace(self, level=level)


@dataclass(frozen=True, eq=False)
class PreparedPatient:
    """What a registrar needs of a patient.

    Attributes:
        levels: of the whole CT, coarse to fine, at least one; their similarity is the gradient's.
        learned: of the whole CT, those before them, whose similarity is a network.
        of_structures: of the named bones, coarse to fine; empty when the whole CT is registered.
        corners_lps_mm: (8, 3) box of what attenuates.
        isocentre_lps_mm: (3,).
    """

    levels: list[PreparedLevel]
    learned: list[PreparedLevel]
    of_structures: list[PreparedLevel]
    corners_lps_mm: NDArray[np.float64]
    isocentre_lps_mm: NDArray[np.float64]


def prepared_patient(
    ct: CTVolume,
    config: RegistrationConfig,
    labels: LabelMap | None,
    device: torch.device,
    isocentre_lps_mm: ArrayLike | None,
) -> PreparedPatient:
    """Volumes and projectors; arguments and errors as `Registrar`."""
    finest = AttenuationVolume.from_ct(
        ct, energy_kev=config.energy_kev, isolate_patient=config.isolate_patient
    )
    names = _structure_names(config, labels)
    if isocentre_lps_mm is None and labels is not None and names:
        isocentre_lps_mm = box_centre_lps_mm(labels, names)
    elif isocentre_lps_mm is None:
        isocentre_lps_mm = ct.bone_box_lps().mean(0)
    centre = np.asarray(isocentre_lps_mm, dtype=np.float64)
    extent = float((np.array(finest.shape_ijk) * finest.spacing_mm).max())
    scale = float(np.clip(extent / _REFERENCE_EXTENT_MM, _SMALLEST_LENGTH_SCALE, 1.0))
    cut = cut_faces(finest, ends_of(ct, finest))
    projectors: dict[tuple[int, tuple[int, int, int], float | None], JosephProjector] = {}

    def projector(
        volume: AttenuationVolume, spacing_mm: float, slice_mm: float | None = None
    ) -> JosephProjector:
        factors = volume.factors_for(spacing_mm)
        key = (id(volume), factors, slice_mm)  # levels share what they render: it is large
        if key not in projectors:
            coarse = volume.coarsened(factors).to(device)
            projectors[key] = JosephProjector(coarse, centre, slice_mm=slice_mm)
        return projectors[key]

    def prepared(
        level: Level,
        volume: AttenuationVolume,
        rest: AttenuationVolume | None = None,
        scale: float = scale,
    ) -> PreparedLevel:
        spacing = level.spacing_mm * scale
        around = max(spacing, _BACKGROUND_MM)
        return PreparedLevel(
            level=level,
            residual=level.residual,
            pixel_mm=level.pixel_mm * scale,
            projector=projector(volume, spacing, None if rest is None else THICK_SLICES * spacing),
            cut=None if cut is None else projector(cut, max(spacing, _CUT_MM * scale)),
            shadow=projector(volume, max(spacing, _SHADOW_MM * scale)),
            corners_lps_mm=_corners(volume),
            background=None if rest is None else projector(rest, around, THICK_SLICES * around),
        )

    def prepared_learned(level: Level) -> PreparedLevel:
        network = loaded_similarity(Path(level.checkpoint), ct, device)
        # pictures of the pixel size that it was trained on: lengths are not scaled
        usual = prepared(level, finest, scale=1.0)
        residual: PictureResidual = network.residual
        if level.similarity == "stacked":
            assert isinstance(level.residual, GradientResidual)  # see Level
            residual = StackedResidual(level.residual, network.residual)
        if network.psi is None:
            return replace(usual, residual=residual)
        volume = finest.coarsened(finest.factors_for(level.spacing_mm)).to(device)
        moving = JosephProjector(network.psi.applied(volume), centre)
        return replace(usual, residual=residual, projector=moving)

    learned = [prepared_learned(level) for level in config.levels if level.is_learned]
    whole, of_structures = [level for level in config.levels if not level.is_learned], []
    if labels is not None and names:
        bones, rest = split(finest, ct, labels, names, config.energy_kev)
        first = config.structure_levels[0].pixel_mm
        whole = [level for level in whole if level.pixel_mm > first] or whole[:1]
        of_structures = [prepared(level, bones, rest) for level in config.structure_levels]
    return PreparedPatient(
        [prepared(level, finest) for level in whole],
        learned,
        of_structures,
        _corners(finest),
        centre,
    )


def _structure_names(config: RegistrationConfig, labels: LabelMap | None) -> list[str]:
    if not config.structures:
        return []
    if labels is None:
        raise InputError(
            f"structures {list(config.structures)} are to be registered, but there is no label "
            "map; give one, or no structures."
        )
    return matching_structures(labels, config.structures)


def _corners(volume: AttenuationVolume) -> NDArray[np.float64]:
    ends = np.array(volume.shape_ijk) - 0.5
    index = np.array([[i, j, k] for i in (-0.5, ends[0]) for j in (-0.5, ends[1])
                      for k in (-0.5, ends[2])])  # fmt: skip
    return np.asarray(index @ volume.lps_from_index[:3, :3].T + volume.lps_from_index[:3, 3])
