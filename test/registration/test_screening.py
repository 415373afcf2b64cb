"""Shifts found by cross-correlation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from test.registration.conftest import Thorax
from xray_registration.registration.screening import shifted_to_match
from xray_registration.registration.view import View


@pytest.mark.parametrize("rig_is_camera", [True, False])
def test_a_shift_across_the_beam_is_undone(thorax: Thorax, rig_is_camera: bool) -> None:
    camera_from_rig = np.eye(4) if rig_is_camera else thorax.pose("lateral")
    view = View(thorax.radiograph("ap"), thorax.camera, camera_from_rig)
    truth = thorax.pose("ap")
    shifted = np.stack((truth, truth, truth))
    shifted[1, :3, 3] += (22.0, -31.0, 0.0)
    shifted[2, :3, 3] += (-17.0, 8.0, 0.0)
    given = torch.from_numpy(np.linalg.inv(camera_from_rig) @ shifted)
    with torch.no_grad():
        level = thorax.registrar.coarsest
        poses = shifted_to_match(view, level, given, reach_mm=40.0)
        similarity = thorax.registrar.descent.similarity(level, [view], poses)
    found = torch.from_numpy(camera_from_rig) @ poses
    # to the pixel of the level, 5 mm; nothing else moves
    assert np.abs(found.numpy() - truth)[:, :2, 3].max() < 3.0
    assert found[:, :3, :3].numpy() == pytest.approx(shifted[:, :3, :3], abs=1e-12)
    assert found[:, 2, 3].numpy() == pytest.approx(shifted[:, 2, 3])
    assert similarity.min() > 0.8


def test_no_shift_is_longer_than_the_reach(thorax: Thorax) -> None:
    far = thorax.pose("ap")
    far[:3, 3] += (60.0, 0.0, 0.0)
    with torch.no_grad():
        level = thorax.registrar.coarsest
        poses = shifted_to_match(thorax.view(), level, torch.from_numpy(far)[None], reach_mm=20.0)
        similarity = thorax.registrar.descent.similarity(level, [thorax.view()], poses)
    assert np.abs((poses[0].numpy() - far)[:2, 3]).max() < 23.0
    assert similarity[0] < 0.8
