"""Start poses of a stated distance from a true one, for demonstrations and experiments."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry import check_rigid, se3


def perturbed_pose(
    target_from_ct: ArrayLike,
    isocentre_lps_mm: ArrayLike,
    translation_mm: float,
    rotation_deg: float,
    seed: int,
) -> NDArray[np.float64]:
    """``target_from_ct`` (4, 4) moved by exactly these amounts about the isocentre (3,).

    The isocentre moves by ``translation_mm`` and the anatomy turns about it by ``rotation_deg``,
    each in a direction that is drawn evenly from the sphere.

    Raises:
        InputError: a negative or not finite amount, a pose that is not rigid.
    """
    for value, name in ((translation_mm, "translation_mm"), (rotation_deg, "rotation_deg")):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} is {value}; expected 0 or more.")
    pose = check_rigid(target_from_ct, "target_from_ct")
    centre = np.asarray(isocentre_lps_mm, dtype=np.float64)
    random = np.random.default_rng(seed)
    directions = random.normal(size=(2, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    turn = se3.so3_exp(torch.from_numpy(math.radians(rotation_deg) * directions[1])).numpy()
    moved = pose.copy()
    moved[:3, :3] = turn @ pose[:3, :3]
    place = pose[:3, :3] @ centre + pose[:3, 3] + translation_mm * directions[0]
    moved[:3, 3] = place - moved[:3, :3] @ centre
    return moved
