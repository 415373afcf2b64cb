"""Named bones apart from everything that moves against them.

The attenuation of a patient is split in two: what the bones have more than soft tissue would have
in their place, and the rest. Their line integrals add up to those of the whole CT, so the bones can
be moved before a background that stays, and no edge of a cut-out is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.attenuation import mu_from_hu
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering import AttenuationVolume

_SOFT_TISSUE_HU = 60.0
# Partial volume: a bone's edge reaches that far beyond its label. Left in the background, where it
# does not move, it hides the edge that does. (Not across thick slices: there the next voxel is more
# of something else.)
_SURFACE_MM = 1.0


def matching_structures(labels: LabelMap, patterns: Sequence[str]) -> list[str]:
    """The names in ``labels`` that match any of the patterns (``*`` and ``?``), in their order.

    Raises:
        InputError: a pattern that matches nothing.
    """
    names = list(labels.names.values())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"structures: {pattern!r} matches nothing in {labels.path or 'the label map'}; it "
                f"holds: {', '.join(sorted(names))}."
            )
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def split(
    volume: AttenuationVolume, ct: CTVolume, labels: LabelMap, names: Sequence[str], energy: float
) -> tuple[AttenuationVolume, AttenuationVolume]:
    """Bones (cropped to them) and the rest of ``volume``, which is a crop of ``ct``.

    Args:
        volume: at the CT's own resolution.
        ct: whose grid ``labels`` has.
        labels: with the bones.
        names: of the bones.
        energy: keV, of the attenuation in ``volume``.

    Raises:
        InputError: nothing of the bones attenuates more than soft tissue.
    """
    from scipy import ndimage

    if labels.labels.shape != ct.hu.shape:
        raise InputError(
            f"label map {labels.path}: shape {labels.labels.shape} differs from the CT's "
            f"{ct.hu.shape}; expected one grid."
        )
    reach = [int(_SURFACE_MM // s) for s in ct.spacing_mm[::-1]]
    box = np.ones([2 * n + 1 for n in reach], dtype=bool)
    bones = ndimage.binary_dilation(labels.mask_of(names), box)
    i, j, k = np.round(ct.index_of_lps(volume.lps_from_index[:3, 3])).astype(int)
    depth, height, width = volume.mu_per_mm.shape
    part = torch.from_numpy(bones[k : k + depth, j : j + height, i : i + width])
    soft = float(mu_from_hu(np.array([_SOFT_TISSUE_HU]), energy)[0])
    excess = (volume.mu_per_mm - soft).clamp_min(0) * part
    if not bool((excess > 0).any()):
        raise InputError(f"structures {list(names)}: none of their voxels is denser than tissue.")
    rest = replace(volume, mu_per_mm=volume.mu_per_mm - excess)
    return replace(volume, mu_per_mm=excess).cropped_to_matter(1e-3), rest


def box_centre_lps_mm(labels: LabelMap, names: Sequence[str]) -> NDArray[np.float64]:
    """Centre (3,) of the box around the structures."""
    return np.asarray(labels.box_lps_mm(names).mean(axis=0))
