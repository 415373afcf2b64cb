"""The C-arm's angle at a frame of a rotational run (DICOM PositionerPrimaryAngleIncrement).

The standard says "incremental change for each frame", and manufacturers write three things into a
value for every frame: ``steps`` from the frame before, ``offsets`` from the first frame, or
``absolute`` angles. What the numbers themselves rule out is ruled out; what is then still open is
refused, and asked for, unless all readings agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError

READINGS = ("steps", "offsets", "absolute")

# A run does not turn further than this in all, nor faster than this from frame to frame.
_LARGEST_TURN_DEG, _LARGEST_STEP_DEG = 300.0, 10.0
_AGREE_DEG = 0.25
_FEW = 4


def angle_at_frame(
    first_deg: float,
    increments: NDArray[np.float64],
    frame: int,
    frames: int,
    name: str,
    reading: str | None = None,
) -> float:
    """Angle of frame ``frame`` in degrees.

    Args:
        first_deg: the angle tag.
        increments: (1,) a step from frame to frame, (frames - 1,) steps or (frames,) any reading.
        frame, frames: number from 0, and how many there are.
        name: file and tag, for messages.
        reading: one of READINGS; None: what the values allow.

    Raises:
        InputError: another number of values; values that allow several readings which differ by
            more than 0.25 degrees at this frame; an unknown reading.
    """
    if reading not in (None, *READINGS):
        raise InputError(f"increments is {reading!r}; expected {', '.join(READINGS)}.")
    if increments.size == 1:
        return first_deg + frame * float(increments[0])
    if increments.size not in (frames, frames - 1):
        raise InputError(
            f"{name} holds {increments.size} values for {frames} frames; expected 1, {frames - 1} "
            f"or {frames}."
        )
    if increments.size == frames - 1:
        return first_deg + float(increments[:frame].sum())
    angles = {
        "steps": first_deg + float(increments[1 : frame + 1].sum()),
        "offsets": first_deg + float(increments[frame]),
        "absolute": float(increments[frame]),
    }
    if reading is not None:
        return angles[reading]
    possible = _possible(first_deg, increments)
    found = [angles[option] for option in possible]
    if max(found) - min(found) <= _AGREE_DEG:
        return found[0]
    listed = ", ".join(f"{option}: {angles[option]:.2f}" for option in possible)
    raise InputError(
        f"{name}: {increments.size} values from {increments.min():g} to {increments.max():g} can "
        f"be read in several ways (frame {frame} in degrees: {listed}); say which one holds "
        "(increments: steps, offsets or absolute)."
    )


def _possible(first_deg: float, values: NDArray[np.float64]) -> list[str]:
    at_rest = float(np.ptp(values)) < _AGREE_DEG
    if abs(values[0] - first_deg) < _AGREE_DEG < abs(first_deg) and not at_rest:
        return ["absolute"]
    possible = []
    turned = np.abs(np.cumsum(values[1:])).max()
    if turned <= _LARGEST_TURN_DEG and np.abs(values[1:]).max() <= _LARGEST_STEP_DEG:
        possible.append("steps")
    # Steps of an even turn look like a jump that nothing follows when read as offsets.
    even = values.size >= _FEW and np.ptp(values[1:]) <= 0.5 * np.abs(np.median(values[1:]))
    if abs(values[0]) < _AGREE_DEG and not (even and not at_rest):
        possible.append("offsets")
    return possible or ["steps", "offsets", "absolute"]
