"""The voxel values of a NIfTI file, read so that damage shows.

ITK's NIfTI reader fills a truncated file with zeros and turns NaN into 0, both in silence, so it is
asked for the geometry only. Header layout: the 348-byte C structure of NIfTI-1,
https://nifti.nimh.nih.gov/nifti-1. NIfTI-2, which ITK does not read, is refused by name.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError

_HEADER_SIZE = 348
_NIFTI_2_HEADER_SIZE = 540
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}


def read_nifti_pixels(path: Path) -> NDArray[Any]:
    """Values with scl_slope and scl_inter applied; axes reversed: (..., k, j, i).

    Raises:
        InputError: not NIfTI; damaged compression; fewer bytes than the header promises; colour,
            complex or other non-numeric voxels.
    """
    data = _contents(path)
    order = _byte_order(path, data)
    dims = struct.unpack_from(order + "8h", data, 40)
    (datatype,) = struct.unpack_from(order + "h", data, 70)
    offset, slope, intercept = struct.unpack_from(order + "3f", data, 108)
    if datatype not in _TYPES:
        raise InputError(
            f"{path}: NIfTI data type {datatype} (vector, colour or complex data); expected one "
            "number per voxel."
        )
    if not 1 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1:
        raise InputError(f"{path}: cannot be read as a volume: NIfTI dimensions {list(dims)}.")
    shape = tuple(int(n) for n in dims[1 : dims[0] + 1])
    dtype = np.dtype(order + _TYPES[datatype])
    start, count = int(offset), int(np.prod(shape, dtype=np.int64))
    needed = start + count * dtype.itemsize
    if start < _HEADER_SIZE or len(data) < needed:
        raise InputError(
            f"{path}: cannot be read as a volume: truncated, {len(data)} of {needed} bytes."
        )
    values = np.frombuffer(data, dtype, count, start).reshape(shape[::-1])
    values = values.astype(dtype.newbyteorder("="), copy=False)
    if slope != 0.0 and np.isfinite([slope, intercept]).all() and (slope, intercept) != (1.0, 0.0):
        return values * float(slope) + float(intercept)
    return values


def _contents(path: Path) -> bytes:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as stream:
                return stream.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read as a volume (corrupt or truncated gzip): {error}"
        ) from error


def _byte_order(path: Path, data: bytes) -> str:
    for order in "<>":
        if len(data) < _HEADER_SIZE:
            break
        (size,) = struct.unpack_from(order + "i", data, 0)
        if size == _HEADER_SIZE:
            return order
        if size == _NIFTI_2_HEADER_SIZE:
            raise InputError(f"{path}: NIfTI-2 cannot be read; save it as NIfTI-1.")
    raise InputError(f"{path}: cannot be read as a volume: not a NIfTI file.")
