"""Checks of numbers that come from outside.

Each InputError says which number it is (``name``), its value, and what is expected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xray_registration.errors import InputError

Array = NDArray[np.float64]

# A unit quaternion or axis written with few digits passes and is normalised.
UNIT_TOLERANCE = 1e-3


def check_rigid(
    matrix: Tensor | ArrayLike, name: str, tolerance: float = 1e-3
) -> NDArray[np.float64]:
    """The 4x4 rigid transform ``matrix`` as a new float64 array, or an InputError.

    Args:
        matrix: anything numpy can read as 4x4: nested lists, an array, a tensor.
        name: where it comes from (file and key, topic, parameter); starts the message.
        tolerance: largest accepted element of ``|R^T R - I|`` and of the last row's error. A matrix
            written with few digits passes and is replaced by the nearest rotation.

    Raises:
        InputError: not numeric, not 4x4, not finite, last row not 0 0 0 1, mirrored (det < 0),
            scaled or sheared.
    """
    if isinstance(matrix, Tensor):
        matrix = matrix.detach().cpu().numpy()
    try:
        result = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: not a matrix of 4 rows of 4 numbers ({error})") from error
    if result.shape != (4, 4):
        raise InputError(
            f"{name}: shape {result.shape}; expected a 4x4 matrix, 4 rows of 4 numbers"
        )
    if not np.isfinite(result).all():
        row, column = np.argwhere(~np.isfinite(result))[0]
        raise InputError(
            f"{name}: element [{row}][{column}] is {result[row, column]}; all must be finite"
        )
    if np.abs(result[3] - (0.0, 0.0, 0.0, 1.0)).max() > tolerance:
        hint = ""
        if np.abs(result[:, 3] - (0.0, 0.0, 0.0, 1.0)).max() <= tolerance:
            hint = "; the translation seems to be in the last row: give the transposed matrix"
        raise InputError(f"{name}: last row is {result[3].tolist()}; expected [0, 0, 0, 1]{hint}")
    rotation = result[:3, :3]
    determinant = float(np.linalg.det(rotation))
    gram = rotation.T @ rotation
    deviation = float(np.abs(gram - np.eye(3)).max())
    if determinant < 0.0:
        raise InputError(
            f"{name}: the rotation part is mirrored (determinant {determinant:.4g}, expected +1); "
            "a mirrored radiograph is flip_horizontal, not a rotation"
        )
    if deviation > tolerance:
        scale = float(np.sqrt(np.trace(gram) / 3.0))
        uniform = np.abs(gram - scale**2 * np.eye(3)).max() <= tolerance * max(1.0, scale**2)
        hint = f"; it holds a scale of {scale:.6g}" if uniform else ""
        raise InputError(
            f"{name}: the upper-left 3x3 is not a rotation: largest element of |R^T R - I| is "
            f"{deviation:.3g}, accepted up to {tolerance:g}{hint}"
        )
    if deviation > 1e-12:  # few digits: the nearest rotation (polar decomposition)
        u, _, vt = np.linalg.svd(rotation)
        result[:3, :3] = u @ vt
    result[3] = (0.0, 0.0, 0.0, 1.0)
    return result


def positive_int(value: Any, name: str) -> int:
    """``value`` as an int > 0 (5.0 passes, 5.5 and True do not)."""
    number = positive(value, name)
    if number != int(number):
        raise InputError(f"{name} is {value!r}; expected a positive whole number")
    return int(number)


def positive(value: Any, name: str) -> float:
    """``value`` as a finite float > 0."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {value!r}; expected a positive number") from error
    if isinstance(value, bool) or not math.isfinite(number) or number <= 0.0:
        raise InputError(f"{name} is {value!r}; expected a positive number")
    return number


def finite_numbers(value: ArrayLike, name: str) -> Array:
    """``value`` as a new float64 array of any shape without NaN and infinity."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {value!r} is not numeric") from error
    if not np.isfinite(array).all():
        raise InputError(f"{name}: {array.tolist()}; all numbers must be finite")
    return array


def vector3(value: ArrayLike, name: str) -> Array:
    """``value`` as a new float64 array (3,)."""
    array = finite_numbers(value, name)
    if array.shape != (3,):
        raise InputError(f"{name}: shape {array.shape}; expected 3 numbers")
    return array


def unit_vector(value: ArrayLike, name: str) -> Array:
    """``value`` as a float64 array (3,) of length exactly 1; it must be 1 within UNIT_TOLERANCE."""
    vector = vector3(value, name)
    length = float(np.linalg.norm(vector))
    if abs(length - 1.0) > UNIT_TOLERANCE:
        raise InputError(
            f"{name}: {vector.tolist()} has length {length:.6g}; expected a unit vector"
        )
    return np.asarray(vector / length, np.float64)
