"""One vertebra off: known, tried, and told apart or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.registration import Reason, Registrar, RegistrationConfig, View
from xray_registration.registration.wrong_level import level_shifts

HEIGHT_MM = 24.0
MakeColumn = Callable[[int | None], Any]


def registered(column: Any) -> Any:
    view = View(Radiograph(column.attenuation, column.mask, "attenuation"), column.camera)
    registrar = Registrar(column.ct, RegistrationConfig(), label_map=column.labels)
    return registrar.register([view], column.pose)


def test_neighbours_are_those_of_the_vertebra_at_the_isocentre(
    vertebral_column: MakeColumn,
) -> None:
    column = vertebral_column(None)
    up, down = level_shifts(column.labels, column.ct.bone_box_lps().mean(0))
    assert (up.level, up.taken_for) == ("vertebrae_T7", "vertebrae_T6")
    assert (down.level, down.taken_for) == ("vertebrae_T7", "vertebrae_T8")
    np.testing.assert_allclose(up.ct_from_ct[:3, 3], [0, 0, HEIGHT_MM], atol=1e-6)
    np.testing.assert_allclose(down.ct_from_ct[:3, 3], [0, 0, -HEIGHT_MM], atol=1e-6)


def test_without_two_vertebrae_there_is_nothing_to_confuse() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 1, 1], labels[2, 2, 2] = 1, 2
    bones = LabelMap(labels, np.eye(4), {1: "vertebrae_T7", 2: "sternum"})
    assert level_shifts(bones, np.zeros(3)) == []


def test_equal_vertebrae_are_refused_and_both_are_named(vertebral_column: MakeColumn) -> None:
    result = registered(vertebral_column(None))
    assert result.reason is Reason.AMBIGUOUS, result.reason_text
    assert not result.accepted
    assert 0.0 < result.probability <= 0.5
    assert "vertebrae_T7" in result.reason_text
    assert any(name in result.reason_text for name in ("vertebrae_T6", "vertebrae_T8"))


def test_a_mark_on_one_of_them_tells_them_apart(vertebral_column: MakeColumn) -> None:
    result = registered(vertebral_column(3))
    assert result.accepted, result.reason_text


def test_a_start_one_vertebra_off_ends_at_the_right_one(vertebral_column: MakeColumn) -> None:
    """Where the levels differ, a start at the wrong one is put right or refused, never accepted."""
    column = vertebral_column(3)
    shift, _ = level_shifts(column.labels, column.ct.bone_box_lps().mean(0))
    view = View(Radiograph(column.attenuation, column.mask, "attenuation"), column.camera)
    registrar = Registrar(column.ct, RegistrationConfig(), label_map=column.labels)
    result = registrar.register([view], column.pose @ shift.ct_from_ct)
    centre = np.append(column.ct.bone_box_lps().mean(0), 1.0)
    off_mm = np.linalg.norm(((result.rig_from_ct - column.pose) @ centre)[:3])
    assert off_mm < 1.0 or not result.accepted, result.reason_text
