"""Changes of axes and units at the borders of the library.

Inside, the CT frame is LPS (DICOM, ITK: +x patient Left, +y Posterior, +z Superior) in mm. RAS
(NIfTI, 3D Slicer) and metres (ROS) are met only in files and on the wire, and turned here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError

CT_AXES = ("lps", "ras")

LPS_FROM_RAS: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0])
"""4x4 lps_from_ras; its own inverse."""
LPS_FROM_RAS.flags.writeable = False


def lps_from_ct_axes(ct_axes: str) -> NDArray[np.float64]:
    """4x4 lps_from_ct for a CT frame whose axes are called ``ct_axes`` ("lps" or "ras", any case).

    Raises:
        InputError: another name.
    """
    axes = ct_axes.lower() if isinstance(ct_axes, str) else ct_axes
    if axes == "lps":
        return np.eye(4)
    if axes == "ras":
        return LPS_FROM_RAS.copy()
    raise InputError(
        f'ct_axes is {ct_axes!r}; expected "lps" (DICOM, ITK) or "ras" (NIfTI, 3D Slicer)'
    )


def to_lps(target_from_ct: ArrayLike, ct_axes: str) -> NDArray[np.float64]:
    """target_from_lps (..., 4, 4) of a pose whose source is the CT frame in ``ct_axes``."""
    return np.asarray(target_from_ct, np.float64) @ lps_from_ct_axes(ct_axes)


def from_lps(target_from_lps: ArrayLike, ct_axes: str) -> NDArray[np.float64]:
    """target_from_ct (..., 4, 4), CT frame in ``ct_axes``, of a pose whose source is LPS."""
    # lps_from_ct is its own inverse for both names
    return np.asarray(target_from_lps, np.float64) @ lps_from_ct_axes(ct_axes)


def metres_from_mm(target_from_source_mm: ArrayLike) -> NDArray[np.float64]:
    """The same rigid transform (..., 4, 4) with its translation in metres."""
    return _scaled_translation(target_from_source_mm, 1e-3)


def mm_from_metres(target_from_source_m: ArrayLike) -> NDArray[np.float64]:
    """The same rigid transform (..., 4, 4) with its translation in millimetres."""
    return _scaled_translation(target_from_source_m, 1e3)


def _scaled_translation(target_from_source: Any, factor: float) -> NDArray[np.float64]:
    result = np.array(target_from_source, np.float64)
    if result.shape[-2:] != (4, 4):
        raise InputError(f"a transform has shape {result.shape}; expected (..., 4, 4)")
    result[..., :3, 3] *= factor
    return result
