"""Which voxels of a CT are the patient, and not the couch, a gown or a head holder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xray_registration.imaging.volume import CTVolume

_BODY_HU = -500.0
_BODY_GRID_MM = 3.0
_SMALLEST_PART = 0.05  # a body part holds at least this share of the largest one's voxels


def patient_mask(ct: CTVolume) -> NDArray[np.bool_]:
    """(D, H, W) bool: the body with its air inside (lungs, bowel) and a few mm around its skin.

    Found on a 3 mm grid: what exceeds -500 HU, thin sheets (couch, gown) opened away, large parts
    kept, holes filled in each transverse slice.
    """
    from scipy import ndimage

    strides = np.maximum(1, np.round(_BODY_GRID_MM / ct.spacing_mm)).astype(int)[::-1]
    coarse = ct.hu[:: strides[0], :: strides[1], :: strides[2]] > _BODY_HU
    # padded by repetition: a body cut off by the volume's face goes on beyond it
    opened = ndimage.binary_opening(np.pad(coarse, 2, mode="edge"), iterations=1)
    solid = opened[2:-2, 2:-2, 2:-2]
    labelled, count = ndimage.label(solid)
    if count == 0:
        solid = coarse  # nothing thicker than the opening: a phantom of wires, keep it all
    else:
        sizes = np.bincount(labelled.ravel())
        sizes[0] = 0
        solid = (sizes >= _SMALLEST_PART * sizes.max())[labelled]
    # array axis (k, j, i) that runs along the patient's long axis, whatever the volume's
    # orientation
    axial = 2 - int(np.argmax(np.abs(ct.lps_from_index[2, :3] / ct.spacing_mm)))
    planes = np.moveaxis(solid, axial, 0)
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in planes])
    cube = np.ones((3, 3, 3), dtype=bool)  # gives back the corners that the opening took
    body = ndimage.binary_dilation(np.moveaxis(filled, 0, axial), cube, iterations=2)
    for axis, stride in enumerate(strides):
        nearest = (np.arange(ct.hu.shape[axis]) + stride // 2) // stride
        body = np.take(body, np.minimum(nearest, body.shape[axis] - 1), axis=axis)
    return body
