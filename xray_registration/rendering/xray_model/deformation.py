"""A patient who has moved since the CT: everything but chosen bones is bent by a smooth random
field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import AIR_HU, CTVolume
from xray_registration.rendering.xray_model.checks import require_range, require_same_grid

_FIELD_GRID_MM = 4.0  # the displacement is smooth: it is kept on a grid of about this spacing


@dataclass(frozen=True)
class DeformationConfig:
    """Size and shape of the motion.

    Attributes:
        amplitude_mm: length of the largest displacement anywhere.
        wavelength_mm: distance of the random control points; smaller = more wrinkled.
        blend_mm: width of the zone around the fixed bones in which the motion grows from zero.

    Raises:
        InputError: out of range, or so steep that the field would fold (amplitude against blend
            or wavelength).
    """

    amplitude_mm: float = 8.0
    wavelength_mm: float = 80.0
    blend_mm: float = 20.0

    def __post_init__(self) -> None:
        require_range("amplitude_mm", self.amplitude_mm, 0.0, 50.0)
        require_range("wavelength_mm", self.wavelength_mm, 20.0, 1000.0)
        require_range("blend_mm", self.blend_mm, 2.0, 500.0)
        # Slopes: smoothstep 1.5 a / b, cubic spline through random control points up to about 2 a
        # / w.
        slope = (
            1.5 * self.amplitude_mm / self.blend_mm + 2.0 * self.amplitude_mm / self.wavelength_mm
        )
        if slope > 1.0:
            raise InputError(
                f"amplitude_mm {self.amplitude_mm:g} with blend_mm {self.blend_mm:g} and "
                f"wavelength_mm {self.wavelength_mm:g} folds tissue over itself (slope "
                f"{slope:.2f}; at most 1 is accepted); use a smaller amplitude or wider zones"
            )


def deform_ct(
    ct: CTVolume,
    labels: LabelMap,
    fixed: Iterable[str],
    config: DeformationConfig,
    seed: int,
) -> CTVolume:
    """The CT with everything but the structures ``fixed`` moved smoothly.

    The value at x becomes the value at x + u(x) (trilinear; air from beyond the volume), |u| at
    most ``amplitude_mm``. Every voxel of a fixed structure keeps its value exactly. Same seed,
    same field.

    Raises:
        InputError: labels on another grid, an unknown name.
    """
    from scipy import ndimage

    require_same_grid(ct, labels)
    mask = labels.mask_of(tuple(fixed))
    strides = np.maximum(1, np.round(_FIELD_GRID_MM / ct.spacing_mm)).astype(int)[::-1]
    field = _displacement_mm(mask, ct.spacing_mm[::-1], strides, config, seed)
    index_from_mm = np.linalg.inv(ct.lps_from_index[:3, :3])[::-1]  # rows in array order k, j, i
    shift = np.einsum("ac,c...->a...", index_from_mm, field)  # displacement in voxels, LPS axes in
    result = np.empty_like(ct.hu)
    coarse = [np.arange(n) / stride for n, stride in zip(ct.hu.shape, strides, strict=True)]
    rows, columns = np.meshgrid(np.arange(ct.hu.shape[1]), np.arange(ct.hu.shape[2]), indexing="ij")
    for k in range(
        ct.hu.shape[0]
    ):  # slice by slice: the full-size field would weigh 12 bytes a voxel
        plane_shift = [_plane(component, coarse, k) for component in shift]
        where = np.stack((k + plane_shift[0], rows + plane_shift[1], columns + plane_shift[2]))
        reach = float(np.abs(plane_shift[0]).max())
        low = max(0, int(np.floor(k - reach)))
        high = min(ct.hu.shape[0], int(np.ceil(k + reach)) + 2)
        where[0] -= low
        values = ndimage.map_coordinates(
            ct.hu[low:high], where, output=np.float32, order=1, mode="constant", cval=AIR_HU
        )
        values = np.where(mask[k], ct.hu[k], values)
        result[k] = np.rint(values) if np.issubdtype(result.dtype, np.integer) else values
    return replace(ct, hu=result, sha256="")


def _displacement_mm(
    mask: NDArray[np.bool_],
    spacing_kji_mm: NDArray[np.float64],
    strides: NDArray[np.int_],
    config: DeformationConfig,
    seed: int,
) -> NDArray[np.float32]:
    """(3, d, h, w) displacement along L, P, S in mm on every ``strides``-th voxel, zero on
    ``mask``.
    """
    from scipy import ndimage

    # Each coarse node answers for all voxels up to the next ones: none of the mask may slip
    # through.
    touched = mask
    for axis, stride in enumerate(strides):
        touched = ndimage.maximum_filter1d(touched, 2 * int(stride) + 1, axis=axis, mode="constant")
    counts = [-(-n // stride) + 1 for n, stride in zip(mask.shape, strides, strict=True)]
    nodes = [
        np.minimum(np.arange(c) * s, n - 1)
        for c, s, n in zip(counts, strides, mask.shape, strict=True)
    ]
    fixed = touched[np.ix_(*nodes)]
    cell_mm = strides * spacing_kji_mm
    distance = ndimage.distance_transform_edt(~fixed, sampling=cell_mm) if fixed.any() else np.inf
    ratio = np.clip(distance / config.blend_mm, 0.0, 1.0)
    weight = ratio * ratio * (3.0 - 2.0 * ratio)
    random = np.random.default_rng(seed)
    controls = [
        max(2, int(np.ceil(c * d / config.wavelength_mm)) + 1) for c, d in zip(counts, cell_mm)
    ]
    field = np.stack(
        [_spread(random.standard_normal([n + 2 for n in controls]), counts) for _ in range(3)]
    )
    field *= weight
    largest = float(np.sqrt((field**2).sum(axis=0)).max())
    return (field * (config.amplitude_mm / max(largest, 1e-12))).astype(np.float32)


def _spread(controls: NDArray[np.float64], counts: list[int]) -> NDArray[np.float64]:
    """Cubic interpolation of control values to a grid of ``counts``; one control beyond each
    side.
    """
    from scipy import ndimage

    axes = [np.linspace(1.0, n - 2.0, c) for n, c in zip(controls.shape, counts, strict=True)]
    return ndimage.map_coordinates(controls, np.meshgrid(*axes, indexing="ij"), order=3)


def _plane(
    field: NDArray[np.float32], coarse: list[NDArray[np.float64]], k: int
) -> NDArray[np.float32]:
    """Trilinear interpolation of one coarse component to the full (H, W) of slice ``k``."""
    low = int(coarse[0][k])
    part = coarse[0][k] - low
    plane = (1.0 - part) * field[low] + part * field[low + 1]
    for axis in (0, 1):
        begin = coarse[axis + 1].astype(int)
        share = coarse[axis + 1] - begin
        share = share[:, None] if axis == 0 else share[None, :]
        plane = (1.0 - share) * np.take(plane, begin, axis=axis) + share * np.take(
            plane, begin + 1, axis=axis
        )
    return np.asarray(plane, dtype=np.float32)
