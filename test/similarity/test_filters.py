"""Image filters against scipy and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from xray_registration.similarity import filters
from xray_registration.similarity.filters import (
    blurred,
    derivatives,
    dilated,
    doubled,
    eroded,
    gaussian_kernel,
    halved,
    masked_derivatives,
    tile_sums,
)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 4.0])
def test_kernel_is_symmetric_and_sums_to_one(sigma: float) -> None:
    kernel = gaussian_kernel(sigma, torch.zeros(1, dtype=torch.float64))
    assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(kernel, kernel.flip(0))
    assert len(kernel) == 2 * max(1, math.ceil(2.5 * sigma)) + 1


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.5])
def test_blur_equals_scipy_also_at_the_border(sigma: float) -> None:
    images = _noise(3, 17, 23)
    radius = math.ceil(2.5 * sigma)
    expected = [
        ndimage.gaussian_filter(image.numpy(), sigma, mode="nearest", radius=radius)
        for image in images
    ]
    torch.testing.assert_close(blurred(images, sigma), torch.stack([*map(torch.tensor, expected)]))


def test_blur_of_zero_width_changes_nothing() -> None:
    images = _noise(2, 5, 6)
    assert torch.equal(blurred(images, 0.0), images)


def test_blur_wider_than_the_image_keeps_a_constant() -> None:
    torch.testing.assert_close(blurred(torch.full((1, 4, 3), 7.0), 9.0), torch.full((1, 4, 3), 7.0))


@pytest.mark.parametrize("sigma", [0.6, 1.0, 3.0, 30.0])
def test_small_images_are_blurred_as_large_ones(sigma: float, monkeypatch) -> None:
    images = _noise(3, 19, 28)
    small = blurred(images, sigma)
    monkeypatch.setattr(filters, "_SMALL_PX", 0)
    torch.testing.assert_close(small, blurred(images, sigma))


@pytest.mark.parametrize("value", [2.0, 0.1, 1e4])
def test_blur_leaves_a_flat_image_exactly_flat(value: float) -> None:
    flat = torch.full((2, 40, 33), value)
    assert torch.equal(blurred(flat, 1.0), flat)


def test_halves_are_means_and_repeat_an_odd_end() -> None:
    images = _noise(2, 7, 9)
    blocks = torch.nn.functional.pad(images, (0, 1, 0, 1), mode="replicate")
    expected = blocks.view(2, 4, 2, 5, 2).mean((2, 4))
    torch.testing.assert_close(halved(images), expected)


def test_small_images_are_doubled_as_large_ones(monkeypatch) -> None:
    images = _noise(2, 7, 5)
    small = doubled(images, (13, 10))
    assert small.shape == (2, 13, 10)
    monkeypatch.setattr(filters, "_SMALL_PX", 0)
    torch.testing.assert_close(small, doubled(images, (13, 10)))


def test_derivatives_of_a_ramp_are_its_slopes() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    ramp = (2.0 * columns - 3.0 * rows)[None]
    along_x, along_y = derivatives(ramp)[0]
    torch.testing.assert_close(along_x[:, 1:-1], torch.full((6, 7), 2.0))
    torch.testing.assert_close(along_y[1:-1], torch.full((4, 9), -3.0))
    # the border is continued by its own value: half the slope
    torch.testing.assert_close(along_x[:, 0], torch.full((6,), 1.0))


def test_filters_are_linear() -> None:
    a, b = _noise(1, 12, 11), _noise(1, 12, 11)
    for apply in (lambda x: blurred(x, 1.3), derivatives):
        torch.testing.assert_close(apply(2.0 * a - b), 2.0 * apply(a) - apply(b))


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_erosion_and_dilation_equal_scipy(radius: int) -> None:
    mask = torch.rand(20, 31) > 0.1
    square = torch.ones(2 * radius + 1, 2 * radius + 1).numpy()
    shrunk = ndimage.binary_erosion(mask.numpy(), square, border_value=1)
    assert torch.equal(eroded(mask, radius), torch.from_numpy(shrunk))
    grown = ndimage.binary_dilation(~mask.numpy(), square)
    assert torch.equal(dilated(~mask, radius), torch.from_numpy(grown))


def test_erosion_with_two_radii() -> None:
    mask = torch.ones(9, 9, dtype=torch.bool)
    mask[4, 4] = False
    kept = eroded(mask, (1, 3))
    assert int((~kept).sum()) == 3 * 7
    assert not kept[3:6, 1:8].any()


def test_dilation_of_a_batch_is_that_of_each() -> None:
    masks = torch.rand(4, 15, 16) > 0.95
    assert torch.equal(dilated(masks, 2), torch.stack([dilated(mask, 2) for mask in masks]))


def test_tile_sums_fill_up_the_last_tiles_with_nothing() -> None:
    sums = tile_sums(torch.ones(1, 5, 7, dtype=torch.float64), 3)
    assert sums[0].tolist() == [[9.0, 9.0, 3.0], [6.0, 6.0, 2.0]]


def test_nothing_under_a_mask_comes_through() -> None:
    image, mask = _noise(1, 20, 24), torch.ones(20, 24, dtype=torch.float64)
    mask[:, 12:] = 0
    other = torch.where(mask > 0, image, 1e3)
    usable = mask.clone()
    usable[:, 10:] = 0
    found = [masked_derivatives(x, 1.0, mask, usable) for x in (image, other)]
    torch.testing.assert_close(found[0], found[1])
    assert float(found[0][..., 10:].abs().max()) == 0.0
    whole = masked_derivatives(image, 1.0, None, torch.ones_like(mask))
    torch.testing.assert_close(whole, derivatives(blurred(image, 1.0)))
