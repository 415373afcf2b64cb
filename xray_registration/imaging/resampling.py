"""Area resampling of an image with masked pixels."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_HALF_COVERED = 0.5 - 1e-6


def area_resample(
    image: NDArray[np.float32], mask: NDArray[np.bool_], width: int, height: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Shrink (H, W) to (height, width) by exact area averages over the usable pixels.

    Pixel edges of the whole image are kept, so K changes as in `Camera.resized`, for any ratio; at
    whole ratios this is the block mean. Masked pixels have no weight.

    Returns:
        image: (height, width) float32; where nothing was usable, the plain average.
        mask: True where usable pixels cover at least half of the area.
    """
    rows = _overlaps(image.shape[0], height)
    columns = _overlaps(image.shape[1], width)

    def average(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(columns @ (rows @ values).T).T

    plain = average(image)
    if mask.all():
        return plain, np.ones((height, width), dtype=np.bool_)
    covered = average(mask.astype(np.float32))
    weighted = average(np.where(mask, image, np.float32(0.0)))
    some = covered > 1e-6
    result = np.where(some, weighted / np.where(some, covered, np.float32(1.0)), plain)
    return result.astype(np.float32), covered >= _HALF_COVERED


@functools.lru_cache(maxsize=32)
def _overlaps(source: int, target: int) -> csr_matrix:
    """(target, source) sparse weights: share of each target pixel that a source pixel covers."""
    from scipy import sparse

    edges = np.arange(target + 1) * (source / target)
    first = np.floor(edges[:-1] + 1e-9).astype(int)
    last = np.minimum(np.ceil(edges[1:] - 1e-9).astype(int), source)
    rows, columns, weights = [], [], []
    for n in range(target):
        pixels = np.arange(first[n], last[n])
        overlap = np.minimum(pixels + 1, edges[n + 1]) - np.maximum(pixels, edges[n])
        rows.append(np.full(pixels.size, n))
        columns.append(pixels)
        weights.append(overlap / overlap.sum())
    return sparse.csr_matrix(
        (
            np.concatenate(weights).astype(np.float32),
            (np.concatenate(rows), np.concatenate(columns)),
        ),
        shape=(target, source),
    )
