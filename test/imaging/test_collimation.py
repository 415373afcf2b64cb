"""The open field: found where there are blades or an intensifier, not where there is anatomy."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.imaging import masks
from xray_registration.imaging.attenuation import mu_from_hu
from xray_registration.imaging.collimation import open_field
from xray_registration.imaging.radiograph import make_radiograph

H, W = 500, 620
SHAPES = ["four_blades", "one_blade", "turned_blades", "circle", "octagon", "circle_and_blades"]


def field_of(shape):
    """(H, W) True where the beam passes."""
    y, x = np.mgrid[:H, :W].astype(float)
    x, y = x - W / 2, y - H / 2
    u, v = np.cos(0.3) * x + np.sin(0.3) * y, np.cos(0.3) * y - np.sin(0.3) * x
    octagon = [np.cos(a) * x + np.sin(a) * y for a in np.arange(8) * np.pi / 4]
    return {
        "open": np.ones((H, W), bool),
        "four_blades": (np.abs(x - 10) < 250) & (np.abs(y + 5) < 190),
        "one_blade": x > -250,
        "turned_blades": (np.abs(u) < 230) & (np.abs(v) < 170),
        "circle": np.hypot(x, y) < 243,
        "octagon": np.max(octagon, axis=0) < 235,
        "circle_and_blades": (np.hypot(x, y) < 245) & (np.abs(y) < 180),
    }[shape]


def anatomy():
    """A trunk with ribs and a spine that runs through the picture, dark at the bottom."""
    y, x = np.mgrid[:H, :W].astype(float)
    x = x - W / 2
    trunk = 3.0 * np.sqrt(np.maximum(0, 1 - (x / (260 + 0.1 * y)) ** 2)) * (0.6 + y / 900)
    spine = 1.5 * (np.abs(x) < 35) * (1 + 0.2 * np.sin(y / 12))
    ribs = 0.6 * (np.abs(np.sin((y + 0.25 * np.abs(x)) / 18)) > 0.8) * (trunk > 1.2)
    return trunk + spine + ribs


def exposure(line_integral, field, dose=40_000, leak=0.004):
    rng = np.random.default_rng(11)
    beam = dose * np.exp(-line_integral) * field + dose * leak
    return np.clip(rng.poisson(beam) + rng.normal(0, 8, beam.shape), 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["intensity", "attenuation", "bone_dark", "bone_bright"])
def test_collimated_borders_are_masked_and_little_else(shape, kind):
    field, line_integral = field_of(shape), anatomy()
    counts = exposure(line_integral, field)
    if kind == "intensity":
        found = make_radiograph(counts, "intensity")
    elif kind == "attenuation":
        found = make_radiograph(-np.log(np.maximum(counts, 1) / 40_000), "attenuation")
    else:
        shown = 255.0 * np.sqrt(counts / counts.max())
        shown = (shown if kind == "bone_dark" else 255 - shown).astype(np.uint8)
        found = make_radiograph(shown, "display", polarity=kind)
    assert found.masked["collimated"] > 0.9 * np.mean(~field)
    assert not (found.mask & ~field).any()
    assert np.mean(field & ~found.mask) < 0.05  # a margin for the penumbra


@pytest.mark.parametrize("shape", SHAPES)
def test_shutter_painted_black_over_bright_bone(shape):
    field = field_of(shape)
    shown = (20 + 50 * anatomy()) * field
    found = make_radiograph(shown.clip(0, 255).astype(np.uint8), "display")
    assert not (found.mask & ~field).any()


@pytest.mark.parametrize("kind", ["intensity", "attenuation"])
def test_anatomy_without_collimation_is_left_alone(kind):
    counts = exposure(anatomy(), np.ones((H, W)))
    raw = counts if kind == "intensity" else -np.log(np.maximum(counts, 1) / 40_000)
    assert "collimated" not in make_radiograph(raw, kind).masked


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_real_anatomy_without_collimation_is_left_alone(example_ct, axis):
    """Parallel projections of the example CT along all three axes, as intensities."""
    part = mu_from_hu(example_ct.hu[:, ::4, ::4])
    spacing = np.array([2.5, 2.8, 2.8])
    line_integral = part.sum(axis=axis) * spacing[axis]
    line_integral = np.kron(line_integral, np.ones((3, 3)))
    counts = np.random.default_rng(0).poisson(30_000 * np.exp(-line_integral))
    assert "collimated" not in make_radiograph(counts, "intensity").masked


def test_bright_oval_anatomy_in_darkness_is_not_a_field():
    """A head on black, bone bright: convex and sharp, but neither lines nor a circle."""
    y, x = np.mgrid[:H, :W].astype(float)
    head = np.sqrt(np.maximum(0, 1 - ((x - 300) / 160) ** 2 - ((y - 250) / 220) ** 2))
    assert open_field(head + 0.3 * (head > 0), np.ones((H, W), bool)) is None


def test_masked_pixels_are_not_looked_at():
    field = field_of("circle")
    counts = exposure(anatomy(), field).astype(float)
    usable = np.ones((H, W), bool)
    usable[200:240, 300:340] = False
    counts[~usable] = np.nan
    found = open_field(counts, usable)
    assert found is not None
    assert not (found & ~field).any()


def test_small_and_flat_images_have_no_field():
    assert open_field(np.zeros((64, 64)), np.ones((64, 64), bool)) is None
    assert open_field(np.eye(16), np.ones((16, 16), bool)) is None
    assert open_field(np.eye(64), np.zeros((64, 64), bool)) is None


def test_automatic_masks_can_be_switched_off():
    counts = exposure(anatomy(), field_of("circle"))
    assert make_radiograph(counts, "intensity", auto_mask=False).mask.all()


def test_plateau():
    rng = np.random.default_rng(0)
    smooth = rng.normal(1000, 100, (200, 200))
    every = np.ones(smooth.shape, bool)
    assert not masks.plateau(smooth, every).any()
    assert not masks.plateau(np.rint(smooth / 20), every).any()  # coarse, not clipped
    clipped = np.minimum(smooth, 1100)
    np.testing.assert_array_equal(masks.plateau(clipped, every), smooth >= 1100)
    assert not masks.plateau(clipped, smooth < 1100).any()


def test_i0_fallback_on_dark_pictures():
    value, origin = masks.estimate_i0(np.zeros(1000), None, 0.0)
    assert value > 0
    assert origin
