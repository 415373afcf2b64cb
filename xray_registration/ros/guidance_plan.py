"""Planned trajectories of instruments: a YAML file in CT coordinates, and their frames.

    trajectories:
      - name: t8_left
        entry_mm: [12.0, 80.0, -140.0]     # on the skin or bone, CT coordinates (ct_axes), mm
        target_mm: [4.0, 50.0, -142.0]

A trajectory's frame has +z along the instrument, from entry to target, and the patient's left as
near to +x as that allows (when the instrument points along it: posterior).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from xray_registration.errors import InputError
from xray_registration.geometry.frames import lps_from_ct_axes

Matrix = npt.NDArray[np.float64]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_KEYS = {"name", "entry_mm", "target_mm"}
_SHORTEST_MM = 1.0
# A direction within about 5 degrees of the patient's left takes its +x from another axis.
_ALONG_LEFT = 0.996


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A straight way into the patient; ends (3,) in LPS mm."""

    name: str
    entry_lps_mm: Matrix
    target_lps_mm: Matrix

    @property
    def length_mm(self) -> float:
        """From entry to target."""
        return float(np.linalg.norm(self.target_lps_mm - self.entry_lps_mm))

    @property
    def ct_from_entry(self) -> Matrix:
        """(4, 4) LPS mm: the trajectory's frame with its origin at the entry."""
        return self._frame(self.entry_lps_mm)

    @property
    def ct_from_target(self) -> Matrix:
        """(4, 4) LPS mm: the same axes with the origin at the target."""
        return self._frame(self.target_lps_mm)

    def _frame(self, origin: Matrix) -> Matrix:
        z = (self.target_lps_mm - self.entry_lps_mm) / self.length_mm
        left, posterior = np.eye(3)[:2]
        near = posterior if abs(z @ left) > _ALONG_LEFT else left
        x = near - (near @ z) * z
        x /= np.linalg.norm(x)
        frame = np.eye(4)
        frame[:3] = np.c_[x, np.cross(z, x), z, origin]
        return frame


def read_plan(path: str, ct_axes: str) -> tuple[Trajectory, ...]:
    """The trajectories of a file, whose coordinates have the axes ``ct_axes``.

    Raises:
        InputError: not readable; unknown keys; names that are no ROS names or occur twice; points
            that are not three finite numbers, or nearer than 1 mm to each other.
    """
    file = Path(path).expanduser()
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{file}: cannot be read as a plan: {error}") from error
    entries = data.get("trajectories") if isinstance(data, dict) else None
    if not isinstance(entries, list) or set(data) != {"trajectories"}:
        raise InputError(f"{file}: expected the one key 'trajectories' with a list")
    lps_from_ct = lps_from_ct_axes(ct_axes)[:3, :3]
    plan = tuple(
        _trajectory(entry, lps_from_ct, f"{file}: trajectory {n}")
        for n, entry in enumerate(entries)
    )
    seen: set[str] = set()
    for trajectory in plan:
        if trajectory.name in seen:
            raise InputError(f"{file}: the name '{trajectory.name}' occurs twice")
        seen.add(trajectory.name)
    return plan


def _trajectory(entry: Any, lps_from_ct: Matrix, where: str) -> Trajectory:
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        raise InputError(f"{where} is {entry!r}; expected the keys {', '.join(sorted(_KEYS))}")
    name = str(entry["name"])
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{where}: the name '{name}' cannot be part of a topic; expected letters, digits and "
            "single underscores, beginning with a letter"
        )
    entry_mm, target_mm = (
        _point(entry[key], f"{where}: {key}") for key in sorted(_KEYS - {"name"})
    )
    trajectory = Trajectory(name, lps_from_ct @ entry_mm, lps_from_ct @ target_mm)
    if trajectory.length_mm < _SHORTEST_MM:
        raise InputError(
            f"{where}: entry and target are {trajectory.length_mm:g} mm apart; at least "
            f"{_SHORTEST_MM:g} mm are expected"
        )
    return trajectory


def _point(value: Any, where: str) -> Matrix:
    try:
        point = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        point = np.empty(0)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError(f"{where} is {value!r}; expected three finite numbers")
    return point
