"""The surface of bone as triangles, coarse enough to be sent about and shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.patient import patient_mask
from xray_registration.imaging.volume import CTVolume
from xray_registration.optional import require

_FINEST_MM = 1.5
# HU on either side of the threshold over which a voxel fades in.
_FADE_HU = 100.0
# Part of a block that must be bone: less than half, or ribs would be lost in blocks of their size.
_LEVEL = 0.35
# Pieces of fewer triangles than this share of all are specks (calcifications, noise).
_SPECK = 0.002


@dataclass(frozen=True, eq=False)
class Surface:
    """``vertices_lps_mm`` (n, 3) and ``triangles`` (m, 3) of indices, counter-clockwise outside."""

    vertices_lps_mm: NDArray[np.float64]
    triangles: NDArray[np.int64]


def bone_surface(
    ct: CTVolume, bone_hu: float, max_triangles: int, labels: LabelMap | None = None
) -> Surface:
    """Where bone begins, by marching cubes (scikit-image).

    Bone is what the label map has a name for: its edges know nothing of contrast medium. Without
    one, or with unnamed labels (label_<number>) only, it is what exceeds ``bone_hu`` within the
    patient. It is averaged over ever larger blocks until ``max_triangles`` suffice.

    Raises:
        InputError: there is no bone.
        MissingDependencyError: no scikit-image.
    """
    measure = require("skimage.measure", pip="scikit-image")
    bone = _bone(ct, bone_hu, labels)
    size_mm = _FINEST_MM
    while True:
        blocks = np.maximum(1, np.rint(size_mm / ct.spacing_mm)).astype(int)  # along i, j, k
        coarse = _averaged(bone, blocks[::-1])
        if float(coarse.max(initial=0.0)) <= _LEVEL:
            raise InputError(
                f"{ct.path or 'CT volume'}: nothing reaches {bone_hu:g} HU on a grid of "
                f"{size_mm:.1f} mm: there is no surface of bone."
            )
        # a rim of air closes the surface where the volume ends
        kji, triangles, _, _ = measure.marching_cubes(np.pad(coarse, 1), _LEVEL)
        kept = _without_specks(triangles, len(kji))
        if len(kept) <= max_triangles:
            break
        # triangles go with the area over the block's face
        size_mm *= max(1.1, 0.9 * (len(kept) / max_triangles) ** 0.5)
    index = (kji[:, ::-1] - 1.0 + 0.5) * blocks - 0.5  # centres of blocks in voxels
    used, renumbered = np.unique(kept, return_inverse=True)
    faces: NDArray[np.int64] = renumbered.reshape(-1, 3).astype(np.int64)
    # marching_cubes turns its triangles for (k, j, i) axes; (i, j, k) mirrors, a LAS affine again
    if np.linalg.det(ct.lps_from_index[:3, :3]) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    return Surface(ct.lps_of_index(index[used]), faces)


def _bone(ct: CTVolume, bone_hu: float, labels: LabelMap | None) -> NDArray[np.float32]:
    """(D, H, W) 0 to 1."""
    named = [] if labels is None else [n for n in labels.names.values() if n[:6] != "label_"]
    if labels is not None and named:
        return labels.mask_of(named).astype(np.float32)
    share = (ct.hu.astype(np.float32) - bone_hu) / (2.0 * _FADE_HU) + _LEVEL
    return np.asarray(np.clip(share, 0.0, 1.0) * patient_mask(ct), dtype=np.float32)


def _averaged(values: NDArray[np.float32], blocks: NDArray[np.int64]) -> NDArray[np.float32]:
    """Means over blocks; what is left over at the upper ends is dropped."""
    shape = np.array(values.shape) // blocks
    d, h, w = shape * blocks
    a, b, c = (int(v) for v in blocks)
    parts = values[:d, :h, :w].reshape(shape[0], a, shape[1], b, shape[2], c)
    return np.asarray(parts.mean(axis=(1, 3, 5)), dtype=np.float32)


def _without_specks(triangles: NDArray[np.int64], vertices: int) -> NDArray[np.int64]:
    from scipy import sparse

    edges = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    graph = sparse.coo_matrix((np.ones(len(edges), bool), edges.T), shape=(vertices, vertices))
    _, piece = sparse.csgraph.connected_components(graph, directed=False)
    of_triangle = piece[triangles[:, 0]]
    counts = np.bincount(of_triangle)
    return triangles[(counts >= _SPECK * len(triangles))[of_triangle]]
