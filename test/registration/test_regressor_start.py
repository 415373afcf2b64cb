"""Proposals of a checkpoint for one and for several views; refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.canonical import CanonicalCamera
from xray_registration.learning.checkpoint import AGNOSTIC, save_checkpoint
from xray_registration.learning.network import NetworkConfig
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.regressor import KIND, facts_of, pose_network
from xray_registration.registration import View
from xray_registration.registration.regressor_start import RegressorStart

CAMERA = Camera.from_detector(64, 64, 298 / 64, 1020.0)
SPACE = PoseSpace((3.0, 80.0, -170.0))


def _ct(sha256: str) -> CTVolume:
    return CTVolume(np.zeros((4, 4, 4), np.int16), np.eye(4), path="ct.nii", sha256=sha256)


def _checkpoint(folder: Path, sha256: str) -> Path:
    """Untrained, which is enough for everything but accuracy."""
    settings, canonical = NetworkConfig(8, (1, 1, 1, 1), 3, 16), CanonicalCamera(32)
    torch.manual_seed(3)
    network = pose_network(settings, canonical, SPACE)
    path = folder / "regressor.json"
    facts = {"kind": KIND, "ct_sha256": sha256, **facts_of(SPACE, canonical, settings)}
    save_checkpoint(path, network.state_dict(), facts, half=True)
    return path


def _view(seed: int = 0, camera_from_rig: np.ndarray | None = None) -> View:
    image = np.random.default_rng(seed).random((64, 64)).astype(np.float32)
    radiograph = Radiograph(image, np.ones((64, 64), bool), "attenuation")
    rig = np.eye(4) if camera_from_rig is None else camera_from_rig
    return View(radiograph, CAMERA, rig)


def test_starts_are_rigid_and_in_view(tmp_path: Path) -> None:
    start = RegressorStart(_checkpoint(tmp_path, "ab" * 32), _ct("ab" * 32))
    poses, weights = start.propose([_view()], 12)
    assert poses.shape == (12, 4, 4)
    assert weights.shape == (12,)
    assert weights.sum() == pytest.approx(1.0)
    assert (np.diff(weights) <= 1e-12).all()
    for pose in poses:
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        centre = pose[:3, :3] @ np.array(SPACE.isocentre_lps_mm) + pose[:3, 3]
        u, v = CAMERA.project(centre)
        assert 0 < u < 64
        assert 0 < v < 64


def test_several_views_speak_of_one_rig(tmp_path: Path) -> None:
    start = RegressorStart(_checkpoint(tmp_path, "ab" * 32), _ct("ab" * 32))
    alone, _ = start.propose([_view()], 6)
    moved = np.eye(4)
    moved[:3, 3] = (5.0, 0.0, -8.0)
    # the same picture from a rig that is told to be elsewhere: the pose follows
    elsewhere, _ = start.propose([_view(camera_from_rig=moved)], 6)
    np.testing.assert_allclose(moved @ elsewhere, alone, atol=1e-9)
    both, weights = start.propose([_view(0), _view(1, moved)], 6)
    assert both.shape == (6, 4, 4)
    assert np.isfinite(weights).all()


def test_refusals(tmp_path: Path) -> None:
    path = _checkpoint(tmp_path, "ab" * 32)
    with pytest.raises(InputError, match="trained for the CT"):
        RegressorStart(path, _ct("cd" * 32))
    with pytest.raises(InputError, match=r"no start pose.*xray-registration train"):
        RegressorStart.for_ct(_ct("cd" * 32))
    with pytest.raises(InputError, match="no views"):
        RegressorStart(path, _ct("ab" * 32)).propose([])
    anyone = RegressorStart(_checkpoint(tmp_path, AGNOSTIC), _ct("cd" * 32))
    assert anyone.is_agnostic


def test_a_description_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    settings, canonical = NetworkConfig(8, (1, 1, 1, 1), 3, 16), CanonicalCamera(32)
    network = pose_network(settings, canonical, SPACE)
    path = tmp_path / "regressor.json"
    facts = facts_of(SPACE, canonical, NetworkConfig(16, (1, 1, 1, 1), 3, 16))
    save_checkpoint(path, network.state_dict(), {"kind": KIND, "ct_sha256": AGNOSTIC, **facts})
    with pytest.raises(InputError, match="does not describe a regressor of this version"):
        RegressorStart(path, _ct("cd" * 32))
