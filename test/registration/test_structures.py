"""Named bones apart from the rest of the patient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import Level, Registrar, RegistrationConfig
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


def test_structures_and_what_is_around_them_are_rendered_in_thick_slices(column: Any) -> None:
    levels = (Level(1.25, 6.0, 3),)  # the patient is small: 2.3 mm, of voxels of 2 mm
    config = RegistrationConfig(structures=("vertebrae_T6",), structure_levels=levels)
    registrar = Registrar(column.ct, config, column.labels)
    for prepared in registrar._of_structures:
        assert prepared.background is not None
        for projector in (prepared.projector, prepared.background):
            coarser = projector._along(0).spacing_mm / projector.volume.spacing_mm
            assert coarser.tolist() == pytest.approx([2.0, 1.0, 1.0])
    for prepared in registrar._levels:  # the whole CT as it is
        assert prepared.projector._along(0) is prepared.projector.volume


def test_the_edge_of_a_bone_moves_with_it_though_its_label_ends_before() -> None:
    hu = np.full((3, 24, 24), 40, dtype=np.int16)
    hu[:, 8:16, 8:16] = 700
    hu[:, 7:17, 7:17] = np.maximum(hu[:, 7:17, 7:17], 300)  # partly bone
    labels = np.zeros(hu.shape, dtype=np.uint8)
    labels[:, 8:16, 8:16] = 1
    grid = np.diag([0.703, 0.703, 2.5, 1.0])
    ct = CTVolume(hu, grid)
    whole = AttenuationVolume.from_ct(ct, isolate_patient=False)
    _, rest = split(whole, ct, LabelMap(labels, grid, {1: "vertebrae_L1"}), ["vertebrae_L1"], 60.0)
    # nothing of the bone is left behind
    assert float(rest.mu_per_mm.max() - rest.mu_per_mm.min()) < 0.001


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
