"""The surface of bone as triangles, coarse enough to be sent about and shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.patient import patient_mask
from xray_registration.imaging.volume import AIR_HU, CTVolume
from xray_registration.optional import require

_FINEST_MM = 1.5
# Pieces of fewer triangles than this share of all are specks (calcifications, noise).
_SPECK = 0.004


@dataclass(frozen=True, eq=False)
class Surface:
    """``vertices_lps_mm`` (n, 3) and ``triangles`` (m, 3) of indices, counter-clockwise outside."""

    vertices_lps_mm: NDArray[np.float64]
    triangles: NDArray[np.int64]


def bone_surface(ct: CTVolume, bone_hu: float, max_triangles: int) -> Surface:
    """The isosurface at ``bone_hu`` inside the patient (marching cubes of scikit-image).

    The CT is averaged over ever larger blocks until the surface has no more than ``max_triangles``:
    averaging also takes away the noise that a threshold alone would turn into specks.

    Raises:
        InputError: nothing reaches ``bone_hu``.
        MissingDependencyError: no scikit-image.
    """
    measure = require("skimage.measure", pip="scikit-image")
    hu = np.where(patient_mask(ct), np.maximum(ct.hu, AIR_HU), AIR_HU).astype(np.float32)
    spacing = ct.spacing_mm
    size_mm = _FINEST_MM
    while True:
        blocks = np.maximum(1, np.rint(size_mm / spacing)).astype(int)  # along i, j, k
        coarse = _averaged(hu, blocks[::-1])
        if min(coarse.shape) < 2 or float(coarse.max()) <= bone_hu:
            raise InputError(
                f"{ct.path or 'CT volume'}: nothing reaches {bone_hu:g} HU on a grid of "
                f"{size_mm:.1f} mm: there is no surface of bone."
            )
        # a rim of air closes the surface where the volume ends
        padded = np.pad(coarse, 1, constant_values=AIR_HU)
        kji, triangles, _, _ = measure.marching_cubes(padded, bone_hu)
        kept = _without_specks(triangles, len(kji))
        if len(kept) <= max_triangles:
            break
        # triangles go with the area over the block's face
        size_mm *= max(1.1, 0.95 * (len(kept) / max_triangles) ** 0.5)
    index = (kji[:, ::-1] - 1.0 + 0.5) * blocks - 0.5  # centres of blocks in voxels
    used, renumbered = np.unique(kept, return_inverse=True)
    faces: NDArray[np.int64] = renumbered.reshape(-1, 3).astype(np.int64)
    # marching_cubes turns its triangles for (k, j, i) axes; (i, j, k) mirrors, a LAS affine again
    if np.linalg.det(ct.lps_from_index[:3, :3]) > 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    return Surface(ct.lps_of_index(index[used]), faces)


def _averaged(hu: NDArray[np.float32], blocks: NDArray[np.int64]) -> NDArray[np.float32]:
    """Means over blocks; what is left over at the upper ends is dropped."""
    shape = np.array(hu.shape) // blocks
    d, h, w = shape * blocks
    a, b, c = (int(v) for v in blocks)
    parts = hu[:d, :h, :w].reshape(shape[0], a, shape[1], b, shape[2], c)
    return np.asarray(parts.mean(axis=(1, 3, 5)), dtype=np.float32)


def _without_specks(triangles: NDArray[np.int64], vertices: int) -> NDArray[np.int64]:
    from scipy import sparse

    edges = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    graph = sparse.coo_matrix((np.ones(len(edges), bool), edges.T), shape=(vertices, vertices))
    _, piece = sparse.csgraph.connected_components(graph, directed=False)
    of_triangle = piece[triangles[:, 0]]
    counts = np.bincount(of_triangle)
    return triangles[(counts >= _SPECK * len(triangles))[of_triangle]]
