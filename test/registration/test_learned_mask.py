"""Metal that the network of the package finds in a picture, and a registration that uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.registration import Registrar, RegistrationConfig, View
from xray_registration.registration.config import SHIPPED_MASK
from xray_registration.registration.learned_mask import loaded_mask

MakeColumn = Callable[[int | None], Any]


@pytest.fixture(scope="module")
def column(vertebral_column: MakeColumn) -> Any:
    return vertebral_column(2)


def _with_rod(column: Any) -> tuple[View, np.ndarray]:
    """The picture with a steel rod beside the spine, 6 mm thick, and where that is."""
    rod = np.zeros(column.attenuation.shape, dtype=bool)
    rod[:, 150:158] = True
    attenuation = column.attenuation + 2.0 * rod.astype(np.float32)
    return View(Radiograph(attenuation, column.mask, "attenuation"), column.camera), rod


def test_a_rod_is_found_and_little_else(column: Any) -> None:
    view, rod = _with_rod(column)
    mask = loaded_mask(SHIPPED_MASK, column.ct.bone_box_lps().mean(0), "cpu")
    pose = torch.from_numpy(column.pose)[None]
    left = mask.applied(view, pose).radiograph
    shown = np.array(column.mask)
    assert (left.mask & rod).sum() < 0.1 * (shown & rod).sum()
    assert (left.mask & ~rod).sum() > 0.7 * (shown & ~rod).sum()
    assert left.masked["found_by_network"] > 0
    # what the receiver has masked stays so
    assert not (np.array(left.mask) & ~shown).any()


def test_a_registration_with_it(column: Any) -> None:
    view, _ = _with_rod(column)
    start = column.pose.copy()
    start[:3, 3] += [2.0, -1.0, 5.0]
    config = RegistrationConfig(structures=("vertebrae_*",))
    assert config.mask_network == SHIPPED_MASK
    result = Registrar(column.ct, config, column.labels).register([view], start)
    assert np.abs(result.rig_from_ct - column.pose)[:2, 3].max() < 0.3


def test_it_is_for_structures() -> None:
    with pytest.raises(
        InputError, match=r"mask_network is 'mine\.json', but no structures are named"
    ):
        RegistrationConfig(mask_network="mine.json")


def test_a_picture_too_small_or_without_usable_pixels_stays_as_it_is(column: Any) -> None:
    mask = loaded_mask(SHIPPED_MASK, column.ct.bone_box_lps().mean(0), "cpu")
    pose = torch.from_numpy(column.pose)[None]
    view, _ = _with_rod(column)
    tiny = View(view.radiograph.cropped(100, 100, 20, 20), column.camera.cropped(100, 100, 20, 20))
    assert mask.applied(tiny, pose) is tiny
    nothing = replace(view.radiograph, mask=np.zeros_like(column.mask))
    blind = replace(view, radiograph=nothing)
    assert mask.applied(blind, pose) is blind


def test_a_checkpoint_that_is_not_there(column: Any, tmp_path: Path) -> None:
    config = RegistrationConfig(
        structures=("vertebrae_*",), mask_network=str(tmp_path / "none.json")
    )
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        Registrar(column.ct, config, column.labels)
