"""Named bones apart from the rest of the patient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.registration import Registrar, RegistrationConfig
from xray_registration.registration.structures import (
    box_centre_lps_mm,
    matching_structures,
    split,
)
from xray_registration.rendering import AttenuationVolume, JosephProjector

MakeColumn = Callable[[int | None], Any]


@pytest.fixture(scope="module")
def column(vertebral_column: MakeColumn) -> Any:
    return vertebral_column(None)


def test_names_are_found_by_pattern_in_their_order(column: Any) -> None:
    assert matching_structures(column.labels, ["vertebrae_T1*", "vertebrae_T4"]) == [
        "vertebrae_T4",
        "vertebrae_T10",
    ]
    with pytest.raises(InputError, match="'rib_\\*' matches nothing"):
        matching_structures(column.labels, ["rib_*"])


def test_bones_and_rest_together_are_the_patient(column: Any) -> None:
    whole = AttenuationVolume.from_ct(column.ct)
    bones, rest = split(whole, column.ct, column.labels, ["vertebrae_T6", "vertebrae_T7"], 60.0)
    assert bones.mu_per_mm.shape[0] < rest.mu_per_mm.shape[0]
    pose = torch.from_numpy(column.pose)[None]
    pictures = [
        JosephProjector(volume).image(pose, column.camera) for volume in (whole, bones, rest)
    ]
    torch.testing.assert_close(pictures[1] + pictures[2], pictures[0], rtol=1e-3, atol=2e-3)
    # no edge of a cut-out: where a bone was, the rest is tissue and not air
    inside = column.labels.mask_of(["vertebrae_T6"])
    offset = np.round(column.ct.index_of_lps(rest.lps_from_index[:3, 3])).astype(int)
    k, j, i = np.argwhere(inside)[0] - offset[::-1]
    assert float(rest.mu_per_mm[k, j, i]) == pytest.approx(0.0218, abs=0.001)
    assert float(rest.mu_per_mm.min()) >= 0.0


def test_the_isocentre_is_that_of_the_structures(column: Any) -> None:
    config = RegistrationConfig(structures=("vertebrae_T5",))
    registrar = Registrar(column.ct, config, label_map=column.labels)
    expected = box_centre_lps_mm(column.labels, ["vertebrae_T5"])
    np.testing.assert_allclose(registrar.isocentre_lps_mm, expected)


def test_structures_need_a_label_map(column: Any) -> None:
    with pytest.raises(InputError, match="there is no label map"):
        Registrar(column.ct, RegistrationConfig(structures=("vertebrae_*",)))


def test_bones_of_another_grid_are_refused(column: Any, vertebral_column: MakeColumn) -> None:
    from dataclasses import replace

    other = replace(column.ct, hu=column.ct.hu[:-1])
    with pytest.raises(InputError, match="differs from the CT's"):
        split(AttenuationVolume.from_ct(other), other, column.labels, ["vertebrae_T6"], 60.0)
