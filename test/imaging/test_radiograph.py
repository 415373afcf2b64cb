"""make_radiograph: kinds, polarity, I0, masks, bad input; resampling of the result."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.imaging.radiograph import Radiograph, make_radiograph

H, W = 120, 160


@pytest.fixture
def line_integral():
    """A body with a bone in open air: (H, W) attenuation, 0 in the background."""
    y, x = np.mgrid[:H, :W].astype(np.float64)
    body = 2.0 * np.sqrt(np.maximum(0, 1 - ((x - 80) / 60) ** 2 - ((y - 60) / 50) ** 2))
    bone = 1.5 * np.exp(-(((x - 70) / 8) ** 2)) * (body > 0.5)
    return body + bone


@pytest.fixture
def counts(line_integral):
    """Poisson counts, background 20 000, in 16 bit, unsaturated."""
    rng = np.random.default_rng(2)
    return rng.poisson(20_000 * np.exp(-line_integral)).astype(np.uint16)


def test_intensity_with_given_i0(line_integral):
    found = make_radiograph(300.0 * np.exp(-line_integral), "intensity", i0=300.0, auto_mask=False)
    np.testing.assert_allclose(found.attenuation, line_integral, atol=1e-5)
    assert found.attenuation.dtype == np.float32
    assert (found.i0, found.i0_origin) == (300.0, "given")
    assert found.mask.all()


def test_i0_from_the_open_background(counts, line_integral):
    found = make_radiograph(counts, "intensity")
    assert found.i0 == pytest.approx(20_000, rel=0.01)
    assert "open beam" in found.i0_origin
    body = line_integral > 0.5
    assert np.abs(found.attenuation - line_integral)[body].mean() < 0.05


def test_i0_of_a_saturated_background_is_the_saturation_level(line_integral):
    raw = np.minimum(6000 * np.exp(-line_integral), 4095).astype(np.uint16)
    found = make_radiograph(raw, "intensity")
    assert found.i0 == 4095
    assert "saturation" in found.i0_origin
    np.testing.assert_array_equal(found.mask, raw < 4095)
    assert found.masked["saturated"] == pytest.approx(np.mean(raw == 4095))


def test_i0_without_any_background_says_so():
    y, x = np.mgrid[:H, :W]
    inside = 2.0 + 1.0 * np.sin(x / 15) + 0.8 * np.cos(y / 11)
    raw = np.random.default_rng(0).poisson(50_000 * np.exp(-inside))
    found = make_radiograph(raw, "intensity")
    assert raw.max() * 0.8 < found.i0 <= raw.max()
    assert found.i0_origin


def test_unsaturated_image_keeps_every_pixel(counts):
    assert make_radiograph(counts, "intensity").mask.all()


def test_given_saturation_level(counts):
    found = make_radiograph(counts, "intensity", saturation_level=15_000)
    np.testing.assert_array_equal(found.mask, counts < 15_000)


def test_dead_pixels_are_masked_and_finite(counts):
    counts[10, 20] = counts[50, 60] = 0
    found = make_radiograph(counts, "intensity", i0=20_000)
    assert not found.mask[10, 20]
    assert not found.mask[50, 60]
    assert np.count_nonzero(~found.mask) == 2
    assert np.isfinite(found.attenuation).all()
    assert found.masked["dead"] == pytest.approx(2 / (H * W))


def test_attenuation_is_taken_as_it_is(line_integral):
    found = make_radiograph(line_integral, "attenuation")
    np.testing.assert_allclose(found.attenuation, line_integral, rtol=1e-6)
    assert found.mask.all()
    assert found.i0 is None


@pytest.mark.parametrize("polarity", [None, "bone_bright", "bone_dark"])
def test_display_is_scaled_with_bone_bright(line_integral, polarity):
    shown = 40 + 50 * line_integral
    raw = 255 - shown if polarity == "bone_dark" else shown
    found = make_radiograph(raw, "display", polarity=polarity, auto_mask=False)
    expected = line_integral / line_integral.max()
    np.testing.assert_allclose(found.attenuation, expected, atol=1e-6)


def test_both_clipped_ends_of_a_display_window_are_masked(line_integral):
    raw = np.clip(255 * (line_integral - 0.5) / 2.0, 0, 255).astype(np.uint8)
    found = make_radiograph(raw, "display")
    np.testing.assert_array_equal(found.mask, (raw > 0) & (raw < 255))


def test_nan_pixels_are_refused_with_count_and_place(counts):
    raw = counts.astype(np.float32)
    raw[3, 7] = raw[5, 5] = np.nan
    raw[9, 9] = np.inf
    with pytest.raises(
        InputError, match=r"cam0: NaN or infinite values in 3 of 19200 pixels.*row 3, column 7"
    ):
        make_radiograph(raw, "intensity", source="cam0")


def test_nan_pixels_under_a_mask_are_welcome(counts):
    raw = counts.astype(np.float32)
    raw[3, 7] = np.nan
    mask = np.ones(raw.shape, bool)
    mask[3, 7] = False
    found = make_radiograph(raw, "intensity", mask=mask)
    assert np.isfinite(found.attenuation).all()
    np.testing.assert_array_equal(found.mask, mask)
    assert found.masked["given"] == pytest.approx(1 / raw.size)


@pytest.mark.parametrize("kind", ["intensity", "attenuation", "display"])
def test_constant_image_is_refused(kind):
    with pytest.raises(InputError, match="value 7: a constant image"):
        make_radiograph(np.full((H, W), 7.0), kind)


def test_image_constant_under_its_mask_is_refused(counts):
    mask = np.zeros(counts.shape, bool)
    mask[:10, :10] = True
    counts[:10, :10] = 500
    with pytest.raises(InputError, match="constant image"):
        make_radiograph(counts, "intensity", mask=mask)


def test_negative_intensities_are_refused(line_integral):
    with pytest.raises(InputError, match=r"smallest intensity is -0\.5.*'attenuation'"):
        make_radiograph(line_integral - 0.5, "intensity")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("photo", {}, "image kind 'photo'.*intensity, attenuation, display"),
        ("display", {"polarity": "negative"}, "polarity 'negative'.*bone_dark, bone_bright"),
        ("intensity", {"polarity": "bone_bright"}, "contradicts the kind 'intensity'"),
        ("attenuation", {"polarity": "bone_dark"}, "contradicts the kind 'attenuation'"),
        ("display", {"i0": 5.0}, "i0 belongs to the kind 'intensity'"),
        ("intensity", {"i0": 0.0}, r"i0 is 0\.0"),
        ("intensity", {"i0": float("nan")}, "i0 is nan"),
        ("intensity", {"mask": np.ones((3, 3))}, r"mask has shape \(3, 3\)"),
        ("intensity", {"mask": np.zeros((H, W))}, "leaves no pixel"),
        ("intensity", {"saturation_level": 1.0}, "only 0.00 % of the pixels are usable"),
    ],
)
def test_contradictions_are_refused(counts, kind, options, message):
    with pytest.raises(InputError, match=message):
        make_radiograph(counts, kind, **options)


def test_grey_colour_images(counts):
    grey = make_radiograph(counts, "intensity")
    for channels in (2, 3, 4):
        coloured = np.repeat(counts[..., None], channels, axis=2)
        if channels in (2, 4):
            coloured[..., -1] = 65535  # opaque
        found = make_radiograph(coloured, "intensity")
        np.testing.assert_array_equal(found.attenuation, grey.attenuation)
    coloured = np.repeat(counts[..., None], 3, axis=2)
    coloured[4, 4, 1] += 9
    with pytest.raises(InputError, match="colour image"):
        make_radiograph(coloured, "intensity")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((2, 30, 30)), r"shape \(2, 30, 30\)"),
        (np.zeros(30), r"shape \(30,\)"),
        (np.zeros((4, 30)), "at least 8"),
        (np.zeros((30, 30), complex), "complex"),
        (np.zeros((30, 30), bool), "bool"),
    ],
)
def test_arrays_that_are_no_image(raw, message):
    with pytest.raises(InputError, match=message):
        make_radiograph(raw, "intensity")


def test_result_is_read_only_and_input_untouched(counts):
    before = counts.copy()
    found = make_radiograph(counts, "intensity")
    np.testing.assert_array_equal(counts, before)
    with pytest.raises(ValueError, match="read-only"):
        found.attenuation[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        found.mask[0, 0] = False


def test_radiograph_checks_its_arrays():
    with pytest.raises(InputError, match="one \\(H, W\\) for both"):
        Radiograph(np.zeros((8, 8)), np.ones((8, 9), bool), "display")
    with pytest.raises(InputError, match="NaN"):
        Radiograph(np.full((8, 8), np.nan), np.ones((8, 8), bool), "display")


def test_crop_flip_rotate(counts):
    found = make_radiograph(counts, "intensity", saturation_level=15_000)
    part = found.cropped(10, 20, 50, 40)
    np.testing.assert_array_equal(part.attenuation, found.attenuation[20:60, 10:60])
    np.testing.assert_array_equal(part.mask, found.mask[20:60, 10:60])
    np.testing.assert_array_equal(found.flipped_horizontally().mask, found.mask[:, ::-1])
    turned = found.rotated_90(1)
    assert (turned.width, turned.height) == (H, W)
    np.testing.assert_array_equal(turned.attenuation, np.rot90(found.attenuation))
    with pytest.raises(InputError, match="leaves the 160x120 image"):
        found.cropped(120, 0, 50, 40)
