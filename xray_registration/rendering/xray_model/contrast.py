"""Contrast agent in the CT's vessels: taken out, or put in, as the patient on the table differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering.xray_model.checks import require_range, require_same_grid

_BONE_WORDS = (
    "vertebra", "rib", "sternum", "sacrum", "hip", "femur", "humerus", "scapula", "clavic", "skull",
    "costal", "radius", "ulna", "tibia", "fibula", "patella", "bone", "pelvis",
    "mandible", "cranium",
)  # fmt: skip


def bone_names(labels: LabelMap) -> tuple[str, ...]:
    """The structures of ``labels`` that are bone or cartilage, judged by their names."""
    return tuple(
        name for name in labels.names.values() if any(word in name.lower() for word in _BONE_WORDS)
    )


def remove_contrast(
    ct: CTVolume,
    labels: LabelMap,
    *,
    bones: Iterable[str] | None = None,
    threshold_hu: float = 150.0,
    blood_hu: float = 45.0,
    bone_margin_mm: float = 3.0,
) -> CTVolume:
    """The CT as if no contrast agent had been given.

    Voxels above ``threshold_hu`` outside the bones get ``blood_hu``; those from half-way between
    blood and the threshold on are pulled down as well, so that a vessel's blurred wall leaves no
    rim.

    Args:
        ct: the CT, Hounsfield units.
        labels: on the CT's grid.
        bones: names in ``labels`` to leave alone; None = every name that sounds like bone.
        threshold_hu: enhanced blood lies above it, other soft tissue below.
        blood_hu: blood without contrast.
        bone_margin_mm: voxels this close to a bone are left alone too (its blurred surface).

    Raises:
        InputError: labels on another grid, unknown or no bone names, numbers outside their range.
    """
    require_range("threshold_hu", threshold_hu, 80.0, 1000.0)
    require_range("blood_hu", blood_hu, 0.0, 80.0)
    require_range("bone_margin_mm", bone_margin_mm, 0.0, 50.0)
    kept = _near_bone(ct, labels, bones, bone_margin_mm)
    knee = 0.5 * (blood_hu + threshold_hu)
    hu = ct.hu.astype(np.float32)
    # from the knee to the threshold the value falls back to blood_hu: continuous, monotone on each
    # side
    fade = np.clip((hu - knee) / (threshold_hu - knee), 0.0, 1.0)
    changed = np.where(hu > knee, knee + (blood_hu - knee) * fade, hu)
    return _edited(ct, np.where(kept, hu, changed))


def add_contrast(
    ct: CTVolume, labels: LabelMap, vessels: Iterable[str], *, enhancement_hu: float = 250.0
) -> CTVolume:
    """The CT with ``enhancement_hu`` added to the soft tissue (-100..300 HU) inside ``vessels``.

    Raises:
        InputError: labels on another grid, unknown names, enhancement outside 0..2000 HU.
    """
    require_range("enhancement_hu", enhancement_hu, 0.0, 2000.0)
    require_same_grid(ct, labels)
    hu = ct.hu.astype(np.float32)
    inside = labels.mask_of(vessels) & (hu > -100.0) & (hu < 300.0)
    hu[inside] += enhancement_hu
    return _edited(ct, hu)


def _near_bone(
    ct: CTVolume, labels: LabelMap, bones: Iterable[str] | None, margin_mm: float
) -> NDArray[np.bool_]:
    from scipy import ndimage

    require_same_grid(ct, labels)
    names = bone_names(labels) if bones is None else tuple(bones)
    if not names:
        raise InputError(
            f"{labels.path or 'label map'}: no name in it sounds like bone "
            f"({', '.join(sorted(labels.names.values()))}); give bones="
        )
    near: NDArray[np.bool_] = labels.mask_of(names)
    for axis, spacing in enumerate(ct.spacing_mm[::-1]):
        # a box instead of a ball: separable, and a margin need not be round
        size = 2 * int(margin_mm / spacing) + 1
        if size > 1:
            near = ndimage.maximum_filter1d(near, size, axis=axis, mode="constant")
    return near


def _edited(ct: CTVolume, hu: NDArray[np.float32]) -> CTVolume:
    """``ct`` with other values, in its own type; no longer the file that its hash names."""
    if np.issubdtype(ct.hu.dtype, np.integer):
        hu = np.rint(hu).astype(ct.hu.dtype)
    return replace(ct, hu=hu, sha256="")
