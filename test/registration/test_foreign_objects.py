"""Metal that the CT does not show is masked; what the CT shows is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from xray_registration.imaging.radiograph import Radiograph
from xray_registration.registration.foreign_objects import (
    CLOSE,
    ROUGH,
    Caution,
    without_foreign_objects,
)
from xray_registration.registration.view import View
from xray_registration.rendering import AttenuationVolume, JosephProjector


@pytest.fixture(scope="module")
def column(vertebral_column: Callable[[int | None], Any]) -> Any:
    return vertebral_column(None)


@pytest.fixture(scope="module")
def projector(column: Any) -> JosephProjector:
    return JosephProjector(AttenuationVolume.from_ct(column.ct))


def view_of(column: Any, added: np.ndarray | None = None) -> View:
    attenuation = column.attenuation if added is None else column.attenuation + added
    return View(
        Radiograph(attenuation.astype(np.float32), np.ones_like(column.mask), "attenuation"),
        column.camera,
    )


def rod(column: Any) -> np.ndarray:
    """8 mm wide on the detector, beside the spine."""
    y, x = np.mgrid[:256, :256].astype(float)
    return 1.5 * ((np.abs(x - 0.05 * y - 152) < 4) & (np.abs(y - 128) < 60))


def test_a_rod_is_masked_also_from_a_pose_some_millimetres_off(
    column: Any, projector: JosephProjector
) -> None:
    pose = column.pose.copy()
    pose[:2, 3] += 2.0
    metal = rod(column)
    found = without_foreign_objects(view_of(column, metal), projector, torch.from_numpy(pose)[None])
    masked = ~found.radiograph.mask
    assert masked[metal > 0].mean() > 0.95
    assert masked[metal == 0].mean() < 0.08
    assert found.radiograph.masked["foreign"] == pytest.approx(masked.mean())


@pytest.mark.parametrize("caution", [ROUGH, CLOSE])
def test_a_screw_is_masked_over_the_bones_as_well(
    column: Any, projector: JosephProjector, caution: Caution
) -> None:
    y, x = np.mgrid[:256, :256].astype(float)
    screw = 0.9 * ((np.abs(y - 110 - 0.3 * (x - 128)) < 5) & (x > 108) & (x < 168))
    pose = torch.from_numpy(column.pose)[None]
    found = without_foreign_objects(view_of(column, screw), projector, pose, caution)
    over_bones = (screw > 0) & (x < 140)
    assert (~found.radiograph.mask)[over_bones].mean() > 0.9
    assert (~found.radiograph.mask)[screw == 0].mean() < 0.08


@pytest.mark.parametrize("caution", [ROUGH, CLOSE])
def test_bones_that_the_ct_shows_stay(
    column: Any, projector: JosephProjector, caution: Caution
) -> None:
    pose = torch.from_numpy(column.pose)[None]
    found = without_foreign_objects(view_of(column), projector, pose, caution)
    assert found.radiograph.mask.mean() > 0.98


def test_what_was_masked_stays_masked(column: Any, projector: JosephProjector) -> None:
    view = view_of(column, rod(column))
    blocked = view.radiograph.mask.copy()
    blocked[:100] = False
    view = replace(view, radiograph=replace(view.radiograph, mask=blocked))
    found = without_foreign_objects(view, projector, torch.from_numpy(column.pose)[None])
    assert not found.radiograph.mask[:100].any()
