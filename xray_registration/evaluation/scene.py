"""The patient on the table: the CT varied, with metal in it, ready for the X-ray model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.evaluation.datasets import load_patient
from xray_registration.evaluation.protocol_parts import VariantSpec
from xray_registration.evaluation.targets import matching_names
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.patient import patient_mask
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering.xray_model.config import XrayModelConfig
from xray_registration.rendering.xray_model.contrast import add_contrast, remove_contrast
from xray_registration.rendering.xray_model.deformation import DeformationConfig, deform_ct
from xray_registration.rendering.xray_model.instruments import (
    Instrument,
    kirschner_wire,
    spinal_fixation,
    table_slab,
)
from xray_registration.rendering.xray_model.model import XrayModel


class Scene:
    """A patient variant, ready for pictures."""

    def __init__(
        self, patient: str, variant: VariantSpec, stretch_centre: Sequence[float] | None
    ) -> None:
        ct, labels = load_patient(patient)
        varied, self.labels = vary(ct, labels, variant, stretch_centre or (0.0, 0.0, 0.0))
        self.model = XrayModel(varied, XrayModelConfig())
        # the posterior skin: the mask has a margin of a few millimetres, which is the mattress
        body = np.argwhere(patient_mask(varied)[::4, ::4, ::4])[:, ::-1] * 4
        self.back_mm = float(varied.lps_of_index(body)[:, 1].max())


def scene(
    patient: str, variant: VariantSpec, stretch_centre: tuple[float, float, float] | None
) -> Scene:
    """The scene of a variant. The last one is kept: it weighs hundreds of MB and takes seconds."""
    return _scene(patient, _Hashable(variant), stretch_centre)


@lru_cache(maxsize=1)
def _scene(
    patient: str, variant: _Hashable, stretch_centre: tuple[float, float, float] | None
) -> Scene:
    return Scene(patient, variant.variant, stretch_centre)


def build_instruments(
    plans: Sequence[Mapping[str, Any]],
    labels: LabelMap | None,
    centre_lps_mm: NDArray[np.float64],
    back_mm: float,
) -> tuple[Instrument, ...]:
    """Things in and under the patient.

    Args:
        plans: as `cases` draws them.
        labels: of the patient; "fixation" needs its vertebrae.
        centre_lps_mm: (3,) what the pictures are aimed at; wires pass by it.
        back_mm: P coordinate of the patient's back; the table lies under it.
    """
    made: list[Instrument] = []
    for plan in plans:
        if plan["kind"] == "fixation":
            if labels is None:
                raise InputError("instruments: fixation needs a label map with vertebrae.")
            centroids = labels.centroids_lps_mm()
            made += spinal_fixation([centroids[n] for n in plan["vertebrae"]], plan["seed"])
        elif plan["kind"] == "wires":
            random = np.random.default_rng(plan["seed"])
            for _ in range(plan["count"]):
                direction = random.normal(size=3)
                direction /= np.linalg.norm(direction)
                middle = centre_lps_mm + random.uniform(-40.0, 40.0, 3)
                arm = 0.5 * random.uniform(80.0, 150.0) * direction
                ends = [
                    (float(p[0]), float(p[1]), float(p[2])) for p in (middle - arm, middle + arm)
                ]
                made.append(kirschner_wire(ends[0], ends[1], float(random.uniform(1.6, 3.0))))
        else:
            top = (float(centre_lps_mm[0]), back_mm + 2.0, float(centre_lps_mm[2]))
            made.append(table_slab(top))
    return tuple(made)


def vary(
    ct: CTVolume, labels: LabelMap | None, variant: VariantSpec, centre_lps_mm: Sequence[float]
) -> tuple[CTVolume, LabelMap | None]:
    """The patient on the table: contrast, then motion, then another stature.

    Raises:
        InputError: contrast or deformation without labels; an unknown structure.
    """
    if labels is None and (variant.contrast != "as_ct" or variant.deformation is not None):
        raise InputError(f"variant {variant.name}: contrast and deformation need a label map.")
    if labels is not None:
        if variant.contrast == "removed":
            ct = remove_contrast(ct, labels)
        elif variant.contrast == "added":
            vessels = matching_names(labels, variant.vessels)
            ct = add_contrast(ct, labels, vessels, enhancement_hu=variant.enhancement_hu)
        if variant.deformation is not None:
            fixed = matching_names(labels, variant.fixed) if variant.fixed else []
            config = DeformationConfig(**variant.deformation)
            ct = deform_ct(ct, labels, fixed, config, variant.deformation_seed)
    if variant.stretch is not None:
        stretch = np.eye(4)
        stretch[:3, :3] = np.diag(variant.stretch)
        centre = np.asarray(centre_lps_mm)
        stretch[:3, 3] = centre - stretch[:3, :3] @ centre
        grid = stretch @ ct.lps_from_index
        ct = replace(ct, lps_from_index=grid, sha256="")
        labels = None if labels is None else replace(labels, lps_from_index=grid)
    return ct, labels


class _Hashable:
    """A variant as a key: equal when its content is."""

    def __init__(self, variant: VariantSpec) -> None:
        self.variant = variant
        self._key = json.dumps(asdict(variant), sort_keys=True, default=list)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)
