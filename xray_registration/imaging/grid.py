"""Checks of voxel grids that CTs and label maps share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError

SMALLEST_SPACING_MM = 0.02
LARGEST_SPACING_MM = 20.0
_ORTHOGONALITY = 1e-3  # cosine; a tilt of 0.06 degrees


def spacing_of(lps_from_index: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) distance between neighbours along i, j, k in mm."""
    return np.linalg.norm(lps_from_index[:3, :3], axis=0)


def check_affine(lps_from_index: ArrayLike, source: str) -> NDArray[np.float64]:
    """A read-only float64 copy of a grid's affine; left-handed axes are welcome.

    Raises:
        InputError: wrong shape, NaN, last row, sheared axes, or a spacing no CT in mm has.
    """
    affine = np.array(lps_from_index, dtype=np.float64)
    if affine.shape != (4, 4):
        raise InputError(f"{source}: lps_from_index has shape {affine.shape}, expected (4, 4).")
    if not np.all(np.isfinite(affine)):
        raise InputError(f"{source}: lps_from_index holds NaN or infinite values.")
    if not np.allclose(affine[3], [0.0, 0.0, 0.0, 1.0], atol=1e-9):
        raise InputError(
            f"{source}: the last row of lps_from_index is {affine[3].tolist()}, "
            "expected [0, 0, 0, 1]."
        )
    spacing = spacing_of(affine)
    if spacing.min() < SMALLEST_SPACING_MM or spacing.max() > LARGEST_SPACING_MM:
        shown = ", ".join(f"{s:.6g}" for s in spacing)
        hint = " Is it in metres?" if spacing.max() < SMALLEST_SPACING_MM else ""
        raise InputError(
            f"{source}: the voxel spacing ({shown}) mm is not that of a CT in millimetres "
            f"({SMALLEST_SPACING_MM:g} to {LARGEST_SPACING_MM:g} mm).{hint}"
        )
    direction = affine[:3, :3] / spacing
    skew = np.abs(direction.T @ direction - np.eye(3)).max()
    if skew > _ORTHOGONALITY:
        raise InputError(
            f"{source}: the index axes are not at right angles (cosine {skew:.4f}): a sheared "
            "grid, as from an uncorrected gantry tilt. Resample it onto a rectangular grid."
        )
    affine.setflags(write=False)
    return affine


def largest_grid_offset_mm(
    affine_a: NDArray[np.float64], affine_b: NDArray[np.float64], shape_ijk: tuple[int, int, int]
) -> float:
    """Largest distance (mm) between the same voxel's centres under two affines.

    The difference is affine in the index, so its length is largest at a corner of the grid.
    """
    last = np.array(shape_ijk, dtype=np.float64) - 1.0
    steps = np.array([[a, b, c, 1] for c in (0, 1) for b in (0, 1) for a in (0, 1)], dtype=float)
    corners = steps * np.append(last, 1.0)
    return float(np.linalg.norm((corners @ (affine_a - affine_b).T)[:, :3], axis=1).max())
