"""Planned trajectories: the file and their frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.ros.guidance_plan import Trajectory, read_plan

GOOD = "{name: t8_left, entry_mm: [1.0, 2.0, 3.0], target_mm: [1.0, 2.0, 43.0]}"


def _plan(folder: Path, text: str) -> str:
    path = folder / "plan.yaml"
    path.write_text(text)
    return str(path)


def test_a_plan_in_both_axes(tmp_path: Path) -> None:
    path = _plan(tmp_path, f"trajectories: [{GOOD}]")
    [lps] = read_plan(path, "lps")
    [ras] = read_plan(path, "ras")
    assert lps.name == "t8_left"
    assert lps.length_mm == pytest.approx(40.0)
    np.testing.assert_allclose(lps.entry_lps_mm, [1, 2, 3])
    np.testing.assert_allclose(ras.target_lps_mm, [-1, -2, 43])


@pytest.mark.parametrize("direction", [[0, 0, 40], [40, 0, 0], [-30, 0.1, 0], [3, 20, -7]])
def test_the_frame_looks_along_the_instrument(direction: list[float]) -> None:
    entry = np.array([10.0, 20.0, 30.0])
    trajectory = Trajectory("a", entry, entry + direction)
    frame = trajectory.ct_from_entry
    np.testing.assert_allclose(frame[:3, :3].T @ frame[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(frame[:3, :3]) == pytest.approx(1.0)
    along = frame @ [0.0, 0.0, trajectory.length_mm, 1.0]
    np.testing.assert_allclose(along[:3], trajectory.target_lps_mm)
    np.testing.assert_allclose(trajectory.ct_from_target[:3, 3], trajectory.target_lps_mm)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trajectories: [", "cannot be read"),
        ("- 1", "trajectories"),
        (f"trajectories: [{GOOD}]\nunit: mm", "the one key"),
        ("trajectories: [{name: a, entry_mm: [1, 2, 3]}]", "entry_mm, name, target_mm"),
        (f"trajectories: [{GOOD}, {GOOD}]", "t8_left' occurs twice"),
        (f"trajectories: [{GOOD.replace('t8_left', '8 left')}]", "8 left"),
        (f"trajectories: [{GOOD.replace('43.0', '3.5')}]", "0.5 mm apart"),
        (f"trajectories: [{GOOD.replace('43.0', '.nan')}]", "three finite numbers"),
        (f"trajectories: [{GOOD.replace('[1.0, 2.0, 3.0]', '[1.0, 2.0]')}]", "entry_mm"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = _plan(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_plan(path, "lps")
    assert words in str(error.value)
    assert path in str(error.value)
