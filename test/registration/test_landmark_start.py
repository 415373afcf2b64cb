"""Poses from landmarks: exact without noise, near with it, and refusals that say what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, PositionerPose, camera_from_positioner
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.registration import View
from xray_registration.registration.landmark_start import LandmarkStart, read_pixels

CAMERA = Camera(np.array([[3500.0, 4.0, 250.0], [0, 3300.0, 240.0], [0, 0, 1]]), 512, 512, 1020.0)
CENTRE = np.array([5.0, -80.0, -160.0])
POSE = camera_from_positioner(PositionerPose(20.0, -8.0, 690.0, (5.0, -80.0, -160.0), 5.0))
RIG = camera_from_positioner(PositionerPose(-40.0, 0.0, 700.0))
# about the vertebrae: tips of processes, corners of bodies
_OFFSETS = [
    (0, 30, 0), (25, 5, 3), (-25, 5, 2), (0, -20, 22), (12, -15, -24), (-12, -18, -25), (4, 28, 48),
]  # fmt: skip
POINTS = {f"L{n}": CENTRE + offset for n, offset in enumerate(_OFFSETS)}


def _view(camera_from_rig: np.ndarray | None = None) -> View:
    radiograph = Radiograph(np.zeros((512, 512), np.float32), np.ones((512, 512), bool), "")  # type: ignore[arg-type]
    return View(radiograph, CAMERA, np.eye(4) if camera_from_rig is None else camera_from_rig)


def _picked(
    pose: np.ndarray,
    points: Mapping[str, np.ndarray] = POINTS,
    noise_px: float = 0.0,
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {
        name: CAMERA.project(pose[:3, :3] @ point + pose[:3, 3]) + noise_px * random.normal(size=2)
        for name, point in points.items()
    }


def _error_mm(pose: np.ndarray, truth: np.ndarray = POSE) -> float:
    points = np.c_[np.array(list(POINTS.values())), np.ones(len(POINTS))]
    return float(np.linalg.norm(points @ (pose - truth).T, axis=1).mean())


@pytest.mark.parametrize("count", [4, 6, 7])
def test_exact_picks_give_the_exact_pose(count: int) -> None:
    picked = dict(list(_picked(POSE).items())[:count])
    poses, weights = LandmarkStart(POINTS, [picked]).propose([_view()])
    assert _error_mm(poses[0]) < 1e-4
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] == weights.max()


def test_picks_some_pixels_off_give_a_start() -> None:
    poses, _ = LandmarkStart(POINTS, [_picked(POSE, noise_px=5.0)]).propose([_view()])
    assert min(_error_mm(pose) for pose in poses) < 30.0
    # across the beam far better than along it
    assert np.linalg.norm((poses[0] @ np.append(CENTRE, 1) - POSE @ np.append(CENTRE, 1))[:2]) < 2.0


def test_two_views_tell_depth_and_one_may_show_few() -> None:
    first, second = np.eye(4), camera_from_positioner(PositionerPose(70.0, 0.0, 700.0))
    rig_from_ct = POSE
    picks = [_picked(rig_from_ct, noise_px=5.0), _picked(second @ rig_from_ct, noise_px=5.0)]
    few = dict(list(picks[1].items())[:2])
    views = [_view(first), _view(second)]
    assert _error_mm(LandmarkStart(POINTS, picks).propose(views)[0][0]) < 4.0
    assert _error_mm(LandmarkStart(POINTS, [picks[0], few]).propose(views)[0][0]) < 8.0


def test_the_pose_is_that_of_the_rig() -> None:
    picked = _picked(RIG @ np.linalg.inv(RIG) @ POSE)
    poses, _ = LandmarkStart(POINTS, [picked]).propose([_view(RIG)])
    assert _error_mm(RIG @ poses[0]) < 1e-4


def test_landmarks_in_a_plane_propose_the_other_tilt_too() -> None:
    flat = {name: CENTRE + np.array([o[0], o[1], 0.0]) for name, o in zip(POINTS, _OFFSETS)}
    # seen across: the plane leans towards the camera
    pose = camera_from_positioner(PositionerPose(0.0, 55.0, 690.0, (5.0, -80.0, -160.0)))
    poses, _ = LandmarkStart(flat, [_picked(pose, flat, noise_px=1.0)]).propose([_view()])
    assert len(poses) == 2
    assert min(_error_mm(found, pose) for found in poses) < 12.0
    assert all(np.linalg.det(found[:3, :3]) == pytest.approx(1.0) for found in poses)


def test_too_few_on_a_line_and_unknown() -> None:
    picked = _picked(POSE)
    with pytest.raises(InputError, match=r"3 landmarks are picked.*at least 4"):
        LandmarkStart(POINTS, [dict(list(picked.items())[:3])]).propose([_view()])
    line = {f"L{n}": CENTRE + np.array([0.0, 0.5 * (n % 2), 25.0 * n]) for n in range(5)}
    with pytest.raises(InputError, match="lie on a line"):
        LandmarkStart(line, [_picked(POSE, line)]).propose([_view()])
    with pytest.raises(InputError, match="X9 picked in a picture, but not among"):
        LandmarkStart(POINTS, [{**picked, "X9": [1.0, 2.0]}])
    with pytest.raises(InputError, match=r"1 pictures.*2 views"):
        LandmarkStart(POINTS, [picked]).propose([_view(), _view()])


def test_picks_that_no_pose_explains_are_refused() -> None:
    names = list(POINTS)
    wide = {name: CENTRE + 3 * np.array(offset) for name, offset in zip(names, _OFFSETS)}
    picked = _picked(POSE, wide)
    shuffled = dict(zip(names, [picked[n] for n in (*names[3:], *names[:3])]))
    with pytest.raises(InputError, match=r"picks\.json: .*are the names right"):
        LandmarkStart(wide, [shuffled], "picks.json").propose([_view()])


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    path.write_text('{"landmarks_px": {"T7": [12.5, 40]}}')
    assert read_pixels(str(path))["T7"].tolist() == [12.5, 40.0]
    for text, words in [
        ('{"T7": [1, 2]}', "landmarks_px"),
        ('{"landmarks_px": {"T7": [1]}}', "'T7' is"),
        ('{"landmarks_px": {"T7": ["a", 2]}}', "'T7' is"),
        ("[", "not valid JSON"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=words) as error:
            read_pixels(str(path))
        assert str(path) in str(error.value)
