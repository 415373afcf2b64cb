"""Rays of a posed camera in the index space of a volume, in float64.

A ray is ``p_camera = z (x, y, 1)`` with ``(x, y, 1) = K^-1 (u, v, 1)``, so its parameter z is the
depth in mm. In index space it is ``s + z d``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xray_registration.rendering.attenuation_volume import AttenuationVolume

# Names of the three axes of a layout: along the rays, across image rows, along image rows.
Layout = tuple[int, int, int]


@dataclass(frozen=True)
class RayGeometry:
    """One pose. Index vectors are in the order of ``layout``: (along, across, fast).

    Attributes:
        layout: which of the index axes i, j, k (0, 1, 2) plays which part.
        source: (3,) focal spot, index units.
        index_from_ray: (3, 3), maps (x, y, 1) to the index-space direction d.
        camera_from_gradient: (3, 3), maps a gradient with respect to index to camera axes, mm^-1.
        isocentre_camera_mm: (3,).
        ray_from_pixel: (3, 3), K^-1.
    """

    layout: Layout
    source: NDArray[np.float64]
    index_from_ray: NDArray[np.float64]
    camera_from_gradient: NDArray[np.float64]
    isocentre_camera_mm: NDArray[np.float64]
    ray_from_pixel: NDArray[np.float64]


def dominant_axis(camera_from_ct: NDArray[np.float64], volume: AttenuationVolume) -> int:
    """The index axis (0, 1, 2) that the optical axis runs along: Joseph's stepping axis.

    Joseph, IEEE Trans. Med. Imaging 1 (1982) 192: one sample in every slice across that axis.
    """
    optical_index = volume.index_from_mm @ camera_from_ct[2, :3]
    return int(np.abs(optical_index).argmax())


def ray_geometry(
    camera_from_ct: NDArray[np.float64],
    ray_from_pixel: NDArray[np.float64],
    volume: AttenuationVolume,
    isocentre_lps_mm: NDArray[np.float64],
    axis: int,
) -> RayGeometry:
    """The geometry of one pose (4, 4) with K^-1 (3, 3) and the stepping axis given."""
    rotation, translation = camera_from_ct[:3, :3], camera_from_ct[:3, 3]
    index_from_mm = volume.index_from_mm
    index_from_ray = index_from_mm @ rotation.T
    source = index_from_mm @ (-rotation.T @ translation - volume.lps_from_index[:3, 3])
    layout = _layout(axis, index_from_ray)
    pick = list(layout)
    return RayGeometry(
        layout=layout,
        source=source[pick],
        index_from_ray=index_from_ray[pick],
        # chain rule: d/d(mm) = index_from_mm^T d/d(index), then into camera axes
        camera_from_gradient=(rotation @ index_from_mm.T)[:, pick],
        isocentre_camera_mm=rotation @ isocentre_lps_mm + translation,
        ray_from_pixel=ray_from_pixel,
    )


def _layout(axis: int, index_from_ray: NDArray[np.float64]) -> Layout:
    """Of the two axes across the rays, the fast one is that along which image rows run.

    Neighbouring pixels of a row then read neighbouring memory.
    """
    first, second = (k for k in (0, 1, 2) if k != axis)
    along_rows = np.abs(index_from_ray[:, 0])
    if along_rows[first] >= along_rows[second]:
        return axis, second, first
    return axis, first, second


def group_by_layout(geometries: Sequence[RayGeometry]) -> dict[Layout, list[int]]:
    """Positions in the batch that share a layout of the volume in memory."""
    groups: dict[Layout, list[int]] = {}
    for position, geometry in enumerate(geometries):
        groups.setdefault(geometry.layout, []).append(position)
    return groups
