"""Covariances: against estimates of a linear model whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.registration.covariance import block_covariance, dependent_residuals

SHAPE = (2, 144, 144)


def linear_model(
    noise: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Residual at the least-squares estimate, Jacobian, weight, of one element."""
    jacobian = torch.randn(1, 6, noise.numel(), generator=generator, dtype=torch.float64)
    # smooth over the pixels, as a rendering's derivatives are
    maps = jacobian.view(6, 2, *SHAPE[1:])
    jacobian = torch.nn.functional.avg_pool2d(maps, 9, 1, 4).reshape(1, 6, -1)
    hessian = jacobian[0] @ jacobian[0].T
    step = torch.linalg.solve(hessian, jacobian[0] @ noise.flatten())
    residual = noise.flatten() - step @ jacobian[0]
    return residual[None], jacobian, torch.ones_like(residual)[None]


def correlated(generator: torch.Generator) -> torch.Tensor:
    """Noise (2, H, W) that is alike over some five pixels."""
    white = torch.randn(2, 1, SHAPE[1] + 4, SHAPE[2] + 4, generator=generator, dtype=torch.float64)
    return torch.nn.functional.avg_pool2d(white, 5, 1)[:, 0]


def test_blocks_see_that_neighbours_depend_on_each_other() -> None:
    normalised, naive = [], []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        noise = correlated(generator)
        residual, jacobian, weight = linear_model(noise, generator)
        hessian = (jacobian[0] @ jacobian[0].T).numpy()
        error = np.linalg.solve(hessian, (jacobian[0] @ noise.flatten()).numpy())
        stated = block_covariance((residual, jacobian, weight), [SHAPE], 0.0, 1.0)
        normalised.append(error @ np.linalg.solve(stated, error))
        naive.append(error @ hessian @ error / float(residual.var()))
    # 6 when right; blocks of finite size and number leave some of it out
    assert 4.0 < np.mean(normalised) < 10.0
    assert np.mean(naive) > 40.0


def test_inflation_multiplies_and_the_result_is_symmetric() -> None:
    generator = torch.Generator().manual_seed(7)
    linear = linear_model(correlated(generator), generator)
    once, twice = (block_covariance(linear, [SHAPE], 1.5, factor) for factor in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)
    assert once == pytest.approx(once.T)


def test_views_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(8)
    residual, jacobian, weight = linear_model(correlated(generator), generator)
    whole = block_covariance((residual, jacobian, weight), [SHAPE], 0.0, 1.0)
    doubled = (torch.cat([t, t], -1) for t in (residual, jacobian, weight))
    both = block_covariance(tuple(doubled), [SHAPE, SHAPE], 0.0, 1.0)  # type: ignore[arg-type]
    # the same picture as two independent ones: half the variance
    assert both == pytest.approx(whole / 2)


def test_a_direction_that_nothing_sees_is_infinite() -> None:
    generator = torch.Generator().manual_seed(9)
    residual, jacobian, weight = linear_model(correlated(generator), generator)
    jacobian[0, 4] = 0
    assert np.isinf(block_covariance((residual, jacobian, weight), [SHAPE], 0.0, 1.0)).all()


def test_how_many_residuals_say_the_same() -> None:
    assert dependent_residuals(0.0) == 1.0
    assert dependent_residuals(1.0) == pytest.approx(4 * np.pi)
