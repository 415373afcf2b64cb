"""The locally normalised gradient residual: exact derivative, invariances, masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.similarity import GradientResidual
from xray_registration.similarity.filters import blurred

HEIGHT, WIDTH, COLUMNS = 36, 44, 6
RESIDUALS = [
    GradientResidual(),
    GradientResidual(smoothing_px=0.0, window_px=2.0, floor=0.5),
    GradientResidual(smoothing_px=2.0, window_px=6.0, floor=0.01),
]


def _picture(*leading: int) -> Tensor:
    """Something as smooth as an anatomy, float64, above 0."""
    noise = torch.randn(*leading, HEIGHT, WIDTH, dtype=torch.float64)
    return 3 + blurred(noise.reshape(-1, HEIGHT, WIDTH), 2.0).view(*leading, HEIGHT, WIDTH)


def _masks() -> dict[str, Tensor]:
    everything = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    collimated = everything.clone()
    collimated[:, :9] = False
    collimated[-5:] = False
    with_rod = everything.clone()
    with_rod[10:14, 5:40] = False
    return {"all": everything, "collimated": collimated, "rod": with_rod}


MASKS = _masks()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("residual", RESIDUALS)
def test_jacobian_is_the_exact_derivative(residual: GradientResidual, mask: str) -> None:
    """Against automatic differentiation in float64: to rounding, the global floor included."""
    target = residual.target(_picture(), MASKS[mask])
    moving, columns = _picture(2), _picture(2, COLUMNS) - 3
    value, change = residual.with_jacobian(moving, columns, target)
    torch.testing.assert_close(value, residual(moving, target))
    for column in range(COLUMNS):
        _, expected = torch.autograd.functional.jvp(
            lambda image: residual(image, target), moving, columns[:, column]
        )
        torch.testing.assert_close(change[:, column], expected, rtol=1e-9, atol=1e-11)


def test_jacobian_against_finite_differences() -> None:
    residual, step = GradientResidual(), 1e-5
    target = residual.target(_picture(), MASKS["rod"])
    moving, columns = _picture(1), _picture(1, 1) - 3
    _, change = residual.with_jacobian(moving, columns, target)
    ahead = residual(moving + step * columns[:, 0], target)
    behind = residual(moving - step * columns[:, 0], target)
    torch.testing.assert_close(change[:, 0], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mask", MASKS)
def test_brightness_and_contrast_do_not_matter(mask: str) -> None:
    residual = GradientResidual()
    fixed, moving = _picture(), _picture(1)
    plain, windowed = (residual.target(x, MASKS[mask]) for x in (fixed, 700.0 * fixed - 12.0))
    torch.testing.assert_close(plain.normalised, windowed.normalised)
    torch.testing.assert_close(residual(moving, plain), residual(0.01 * moving + 5.0, windowed))
    weight = plain.weight[None]
    torch.testing.assert_close(
        residual.correlation(moving, plain, weight),
        residual.correlation(9 * moving - 1, windowed, weight),
    )


def test_a_smooth_shading_hardly_matters() -> None:
    residual = GradientResidual()
    fixed = _picture()
    shading = torch.linspace(0, 0.3, WIDTH, dtype=torch.float64).expand(HEIGHT, WIDTH)
    target = residual.target(fixed + shading, MASKS["all"])
    same = residual.correlation(fixed[None], target, target.weight[None])
    other = residual.correlation(_picture(1), target, target.weight[None])
    assert float(same) > 0.99 > 0.5 > float(other)


def test_equal_pictures_have_no_residual_and_correlate_fully() -> None:
    residual = GradientResidual()
    fixed = _picture()
    for mask in MASKS.values():
        target = residual.target(fixed, mask)
        inside = target.weight.expand(2, -1, -1) > 0
        assert float(residual(fixed[None], target)[0][inside].abs().max()) < 1e-12
        weight = target.weight[None]
        assert float(residual.correlation(fixed[None], target, weight)) == pytest.approx(1.0)
        assert float(residual.correlation(-fixed[None], target, weight)) == pytest.approx(-1.0)


@pytest.mark.parametrize("mask", ["collimated", "rod"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_nothing_under_the_mask_is_felt(residual: GradientResidual, mask: str) -> None:
    """Neither the fixed nor the moving picture's masked pixels reach a pixel that has weight."""
    usable = MASKS[mask]
    fixed, moving, columns = _picture(), _picture(1), _picture(1, COLUMNS) - 3

    def spoiled(images: Tensor) -> Tensor:
        return torch.where(usable, images, 1e3 * torch.randn_like(images))

    plain = residual.target(fixed, usable)
    spoiled_target = residual.target(spoiled(fixed), usable)
    assert torch.equal(plain.weight, spoiled_target.weight)
    assert float(plain.weight.sum()) > 500
    assert float(plain.weight[~usable].sum()) == 0
    value, change = residual.with_jacobian(moving, columns, plain)
    other_value, other_change = residual.with_jacobian(
        spoiled(moving), spoiled(columns), spoiled_target
    )
    assert torch.equal(value, other_value)
    assert torch.equal(change, other_change)
    assert float(value[..., plain.weight == 0].abs().max()) == 0


def test_a_batch_equals_its_members() -> None:
    residual = GradientResidual()
    target = residual.target(_picture(), MASKS["collimated"])
    moving, columns = _picture(3), _picture(3, COLUMNS)
    value, change = residual.with_jacobian(moving, columns, target)
    for n in range(3):
        one_value, one_change = residual.with_jacobian(
            moving[n : n + 1], columns[n : n + 1], target
        )
        torch.testing.assert_close(value[n : n + 1], one_value)
        torch.testing.assert_close(change[n : n + 1], one_change)


def test_half_the_squared_residual_is_one_minus_the_correlation() -> None:
    """Per unit of the normalised gradients' length, close to the optimum: what is minimised."""
    residual = GradientResidual(floor=1e-3)
    fixed = _picture()
    moving = fixed + 0.05 * (_picture() - 3)
    target = residual.target(fixed, MASKS["all"])
    half = 0.5 * (residual(moving[None], target) ** 2).sum()
    length = (target.normalised**2).sum()
    correlation = residual.correlation(moving[None], target, target.weight[None])
    assert float(half / length) == pytest.approx(float(1 - correlation), rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_pictures_stay_finite(dtype: torch.dtype) -> None:
    residual = GradientResidual()
    flat = torch.full((1, HEIGHT, WIDTH), 2.0, dtype=dtype)
    nothing = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for mask in (*MASKS.values(), nothing):
        target = residual.target(flat[0], mask)
        value, change = residual.with_jacobian(flat, torch.zeros_like(flat)[:, None], target)
        assert bool(torch.isfinite(value).all())
        assert bool(torch.isfinite(change).all())
        assert float(residual.correlation(flat, target, target.weight[None])) == 0.0


@pytest.mark.parametrize(
    "values", [{"smoothing_px": -1.0}, {"window_px": 0.0}, {"floor": 0.0}, {"floor": float("nan")}]
)
def test_impossible_parameters_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected smoothing >= 0, window > 0 and floor > 0"):
        GradientResidual(**values)
