"""Gradients weighted by noise and clutter: exact derivative, gains, background, masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.similarity import WeightedGradientResidual, WeightedTarget
from xray_registration.similarity.filters import blurred

HEIGHT, WIDTH, COLUMNS = 52, 60, 6
RESIDUAL = WeightedGradientResidual(window_px=4.0, gain_px=12.0, tile_px=8)


def _picture(seed: int, count: int = 1) -> Tensor:
    """(count, H, W) as smooth as an anatomy, float64."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, HEIGHT, WIDTH, dtype=torch.float64, generator=generator)
    return blurred(white, 2.0)


def _noise(seed: int, sigma: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sigma * torch.randn(HEIGHT, WIDTH, dtype=torch.float64, generator=generator)


def _masks() -> dict[str, Tensor]:
    everything = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    with_rod = everything.clone()
    with_rod[:, :9] = False
    with_rod[20:24, 5:40] = False
    return {"all": everything, "blade and rod": with_rod}


MASKS = _masks()
BONES, BACKGROUND = _picture(1), _picture(2)
FIXED = (0.7 * BONES + 0.5 * BACKGROUND)[0]


def _held(
    fixed: Tensor = FIXED, mask: str = "all", residual: WeightedGradientResidual = RESIDUAL
) -> WeightedTarget:
    return residual.held(residual.target(fixed, MASKS[mask]), BONES, BACKGROUND)


@pytest.mark.parametrize("mask", MASKS)
def test_jacobian_against_finite_differences(mask: str) -> None:
    target = _held(FIXED + _noise(3, 0.02), mask)
    moving, columns, step = _picture(4), _picture(5, COLUMNS)[None], 1e-4
    value, change = RESIDUAL.with_jacobian(moving, columns, target)
    assert value.shape == (1, 2, HEIGHT, WIDTH)
    assert change.shape == (1, COLUMNS, 2, HEIGHT, WIDTH)
    torch.testing.assert_close(value, RESIDUAL(moving, target))
    for column in range(COLUMNS):
        ahead = RESIDUAL(moving + step * columns[:, column], target)
        behind = RESIDUAL(moving - step * columns[:, column], target)
        expected = (ahead - behind) / (2 * step)
        torch.testing.assert_close(change[:, column], expected, rtol=1e-6, atol=1e-6)


def test_each_start_has_its_own_gain_and_background() -> None:
    bones, background = _picture(6, 2), _picture(7, 2)
    plain = RESIDUAL.target(FIXED, MASKS["all"])
    both = RESIDUAL.held(plain, bones, background)
    moving, columns = _picture(8, 2), _picture(9, 2 * COLUMNS).view(2, COLUMNS, HEIGHT, WIDTH)
    value, change = RESIDUAL.with_jacobian(moving, columns, both)
    for n in range(2):
        one = RESIDUAL.held(plain, bones[n : n + 1], background[n : n + 1])
        for target in (one, both.at(torch.tensor([n]))):
            alone = RESIDUAL.with_jacobian(moving[n : n + 1], columns[n : n + 1], target)
            torch.testing.assert_close(alone[0][0], value[n])
            torch.testing.assert_close(alone[1][0], change[n])


def test_the_bones_gain_is_theirs_and_not_that_of_a_background_that_does_not_fit() -> None:
    unlike = _picture(10)[0]
    target = _held(0.7 * BONES[0] + unlike)
    assert target.gain is not None
    assert float(target.gain.mean()) == pytest.approx(0.7, abs=0.07)


def test_a_background_of_any_strength_leaves_no_residual() -> None:
    """Where a tile has some of it; the clutter that weighs down is left out here."""
    residual = WeightedGradientResidual(window_px=4.0, gain_px=12.0, tile_px=8, clutter=0.0)
    for strength in (0.0, 0.5, 2.0):
        fixed = (0.7 * BONES + strength * BACKGROUND)[0]
        target = residual.held(residual.target(fixed, MASKS["all"]), BONES, BACKGROUND)
        left = float(residual(BONES, target).square().mean())
        without = float(residual(torch.zeros_like(BONES), target).square().mean())
        assert left < 0.02 * without
        weight = target.weight[None]
        assert float(residual.correlation(BONES, target, weight)) > 0.99
        assert float(residual.correlation(-BONES, target, weight)) < -0.99


def test_the_residual_of_noise_has_variance_one_at_any_dose() -> None:
    """So a place counts by the inverse of its variance: half of this picture is worse."""
    sigma = torch.full((HEIGHT, WIDTH), 0.2, dtype=torch.float64)
    sigma[:, WIDTH // 2 :] = 0.5
    nothing = torch.zeros_like(BONES)
    target = RESIDUAL.target(sigma * _noise(11, 1.0), MASKS["all"])
    left = RESIDUAL(nothing, RESIDUAL.held(target, nothing, nothing))[0]
    for part in (left[..., 2 : WIDTH // 2 - 12], left[..., WIDTH // 2 + 12 : -2]):
        assert float(part.square().mean()) == pytest.approx(1.0, rel=0.6)


def test_clutter_weighs_down_what_lies_before_it() -> None:
    patchy = BACKGROUND * (torch.arange(WIDTH) >= WIDTH // 2)
    target = RESIDUAL.held(RESIDUAL.target(FIXED, MASKS["all"]), BONES, patchy)
    assert target.scale is not None
    clear, cluttered = target.scale[0, :, 8:16], target.scale[0, :, -16:-8]
    assert float(cluttered.mean()) < 0.5 * float(clear.mean())


def test_brightness_and_contrast_do_not_matter() -> None:
    fixed = FIXED + _noise(12, 0.02)
    moving = _picture(13)
    plain, windowed = _held(fixed), _held(700.0 * fixed - 12.0)
    torch.testing.assert_close(RESIDUAL(moving, plain), RESIDUAL(moving, windowed))


def test_nothing_under_the_mask_is_felt() -> None:
    usable = MASKS["blade and rod"]

    def held(spoiled: float) -> tuple[Tensor, WeightedTarget]:
        outside = spoiled * _noise(14, 1.0)
        fixed, bones, behind = (
            torch.where(usable, image, image + outside)
            for image in (FIXED, BONES[0], BACKGROUND[0])
        )
        target = RESIDUAL.target(fixed, usable)
        return bones[None], RESIDUAL.held(target, bones[None], behind[None])

    (bones, plain), (other_bones, other) = held(0.0), held(1e3)
    torch.testing.assert_close(RESIDUAL(bones, plain), RESIDUAL(other_bones, other))
    assert float(RESIDUAL(bones, plain)[..., plain.weight == 0].abs().max()) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_and_fully_masked_pictures_stay_finite(dtype: torch.dtype) -> None:
    flat = torch.full((1, HEIGHT, WIDTH), 2.0, dtype=dtype)
    for mask in (*MASKS.values(), torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)):
        target = RESIDUAL.held(RESIDUAL.target(flat[0], mask), flat, flat)
        value, change = RESIDUAL.with_jacobian(flat, torch.zeros_like(flat)[:, None], target)
        assert bool(torch.isfinite(value).all())
        assert bool(torch.isfinite(change).all())
        assert float(RESIDUAL.correlation(flat, target, target.weight[None])) == 0.0


@pytest.mark.parametrize(
    "values",
    [
        {"smoothing_px": -1.0},
        {"window_px": 0.0},
        {"gain_px": float("nan")},
        {"tile_px": 1},
        {"clutter": -0.1},
    ],
)
def test_impossible_parameters_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected smoothing >= 0, windows > 0"):
        WeightedGradientResidual(**values)
