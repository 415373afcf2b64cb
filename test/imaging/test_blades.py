"""Blades behind which there is scattered light; no blades where there is only anatomy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from xray_registration.imaging.blades import field_between_blades
from xray_registration.imaging.radiograph import make_radiograph

SIZE = 512


def trunk() -> np.ndarray:
    """Line integral of a trunk that fills the picture, with spine, ribs and two rods."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    x = x - SIZE / 2
    body = 2.2 + 0.8 * np.cos(x / 200) + y / 500
    spine = 0.8 * (np.abs(x) < 35) * (1 + 0.2 * np.sin(y / 12))
    ribs = 0.3 * (np.abs(np.sin((y + 0.25 * np.abs(x)) / 18)) > 0.8)
    rods = 1.5 * ((np.abs(np.abs(x - 0.1 * y) - 45) < 7) & (np.abs(y - 250) < 90))
    return body + spine + ribs + rods


def counts(
    field: np.ndarray,
    scatter_to_primary: float = 0.8,
    photons: float = 4000.0,
    body: np.ndarray | None = None,
) -> np.ndarray:
    rng = np.random.default_rng(5)
    primary = np.exp(-(trunk() if body is None else body)) * field
    scatter = scatter_to_primary * ndimage.gaussian_filter(primary, 60.0, mode="constant")
    return rng.poisson(photons * (primary + scatter)).astype(float)


def turned_field(half_width: float, half_height: float, angle: float = 0.08) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE].astype(float) - SIZE / 2
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return (np.abs(u - 15) < half_width) & (np.abs(v) < half_height)


@pytest.mark.parametrize("half_sides", [(110, 170), (150, 200), (170, 300)])
@pytest.mark.parametrize("scatter", [0.4, 0.8])
def test_blades_under_scatter_are_found(half_sides: tuple[int, int], scatter: float) -> None:
    field = turned_field(*half_sides)
    found = field_between_blades(counts(field, scatter), counts=True)
    assert found is not None
    assert np.mean(found[~field]) < 0.01
    assert np.mean(found[field]) > 0.85


def test_a_display_that_stretches_the_dark_is_understood() -> None:
    field = turned_field(120, 180)
    shown = np.log(np.maximum(counts(field), 1.0))
    found = field_between_blades(shown, counts=False)
    assert found is not None
    assert np.mean(found[~field]) < 0.02
    assert np.mean(found[field]) > 0.85


def test_anatomy_and_rods_are_no_blades() -> None:
    assert field_between_blades(counts(np.ones((SIZE, SIZE), bool)), counts=True) is None


def test_open_beam_beside_the_patient_is_no_field() -> None:
    x = np.arange(SIZE, dtype=float)
    line = np.where(np.abs(x - 230) < 180, trunk(), 0.0)
    light = np.random.default_rng(1).poisson(4000 * np.exp(-line)).astype(float)
    assert field_between_blades(light, counts=True) is None


def test_flat_and_tiny_pictures_have_none() -> None:
    assert field_between_blades(np.ones((300, 300)), counts=True) is None
    assert field_between_blades(np.random.default_rng(0).uniform(size=(12, 40)), True) is None


def test_the_radiograph_masks_what_the_blades_cover() -> None:
    field = turned_field(120, 180)
    radiograph = make_radiograph(counts(field), "intensity")
    assert radiograph.masked["collimated"] > 0.5
    assert np.mean(radiograph.mask[~field]) < 0.01


def assert_found(found: np.ndarray | None, field: np.ndarray) -> None:
    assert found is not None
    assert np.mean(found[~field]) < 0.01
    assert np.mean(found[field]) > 0.85


def test_leaking_radiation_past_the_patient_hides_no_blade() -> None:
    y = np.mgrid[:SIZE, :SIZE][0].astype(float)
    pelvis = np.where(y < 430, trunk() + 2.0, 0.0)  # below: air, lit by what the blades let through
    field = turned_field(120, 140)
    light = counts(np.where(field, 1.0, 0.01), 0.4, body=pelvis)
    assert np.median(light[440:]) > np.median(light[field])
    assert_found(field_between_blades(light, counts=True), field)


def test_air_beside_the_patient_in_the_field_takes_no_contrast_from_the_blades() -> None:
    x = np.mgrid[:SIZE, :SIZE][1].astype(float)
    field = turned_field(130, 170)
    light = np.where(field & (x < 190), 1.0, 0.1 + 0.015 * field)
    light += np.random.default_rng(2).normal(0.0, 0.001, light.shape)
    assert_found(field_between_blades(light, counts=False), field)


@pytest.mark.parametrize("turn", [0.0, 0.5])
def test_the_fourth_blade_may_be_outside_of_the_picture(turn: float) -> None:
    field = turned_field(130, 170, turn)
    cut = np.roll(field, 150, axis=0)
    cut[:150] = False
    assert_found(field_between_blades(counts(cut), counts=True), cut)


def test_one_straight_edge_alone_is_no_blade() -> None:
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    body = trunk() + 1.5 * (x + 0.5 * y < 300)
    light = counts(np.ones((SIZE, SIZE), bool), body=body)
    assert field_between_blades(light, counts=True) is None
