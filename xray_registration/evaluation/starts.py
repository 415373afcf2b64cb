"""Starts: poses whose true error is known, because it was made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.evaluation.protocol_parts import StartSpec
from xray_registration.evaluation.targets import TargetSet

Array = NDArray[np.float64]


def perturbed_to_mtre(
    rig_from_ct: Array,
    targets: TargetSet,
    spec: StartSpec,
    wanted_mm: float,
    random: np.random.Generator,
) -> Array:
    """A start whose true mTRE is ``wanted_mm``: a random 6-DoF motion, scaled.

    Six normal numbers give a rotation vector and a shift about the targets' centre; both are
    multiplied by the one factor that makes the mTRE right (bisection).

    Raises:
        InputError: no such start within the largest rotation (an mTRE beyond all reason).
    """
    centre = rig_from_ct[:3, :3] @ targets.centre_lps_mm + rig_from_ct[:3, 3]
    arms = targets.points_lps_mm @ rig_from_ct[:3, :3].T + rig_from_ct[:3, 3] - centre
    for _ in range(100):
        shift = random.normal(0.0, spec.sigma_mm, 3)
        turn = np.radians(random.normal(0.0, spec.sigma_deg, 3))
        largest = float(np.radians(spec.largest_rotation_deg) / np.linalg.norm(turn))
        if _mtre_mm(arms, largest * shift, largest * turn) < wanted_mm:
            continue
        low, high = 0.0, largest
        while high - low > 1e-9 * largest:
            middle = 0.5 * (low + high)
            too_near = _mtre_mm(arms, middle * shift, middle * turn) < wanted_mm
            low, high = (middle, high) if too_near else (low, middle)
        return _moved(rig_from_ct, high * shift, high * turn, centre)
    raise InputError(
        f"no start of {wanted_mm:.1f} mm turns less than {spec.largest_rotation_deg:g} degrees; "
        "raise sigma_mm against sigma_deg."
    )


def _mtre_mm(arms: Array, shift: Array, turn: Array) -> float:
    """Mean distance that points at ``arms`` (N, 3) from the centre move."""
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_rotvec(turn).as_matrix()
    return float(np.linalg.norm(arms @ rotation.T - arms + shift, axis=1).mean())


def _moved(rig_from_ct: Array, shift: Array, turn: Array, centre_rig: Array) -> Array:
    """Turned by the rotation vector about a point of the rig, then shifted."""
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_rotvec(turn).as_matrix()
    moved = rig_from_ct.copy()
    moved[:3, :3] = rotation @ rig_from_ct[:3, :3]
    moved[:3, 3] = rotation @ (rig_from_ct[:3, 3] - centre_rig) + centre_rig + shift
    return moved
