"""Two residuals in one."""

from __future__ import annotations

import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.similarity import GradientResidual
from xray_registration.similarity.encoder import EncoderConfig
from xray_registration.similarity.spherical import SphericalResidual
from xray_registration.similarity.stacked import StackedResidual


@pytest.fixture
def parts() -> tuple[GradientResidual, SphericalResidual]:
    torch.manual_seed(3)
    learned = SphericalResidual(EncoderConfig(channels=3, width=8, layers=1, heads=2))
    return GradientResidual(), learned.requires_grad_(False)


def test_the_rows_of_both(parts: tuple[GradientResidual, SphericalResidual]) -> None:
    gradient, learned = parts
    stack = StackedResidual(gradient, learned, share=0.3)
    random = torch.Generator().manual_seed(1)
    fixed = torch.randn(32, 40, generator=random)
    moving = torch.randn(2, 32, 40, generator=random)
    jacobian = torch.randn(2, 6, 32, 40, generator=random)
    mask = torch.ones(32, 40, dtype=torch.bool)
    mask[:, :7] = False
    target = stack.target(fixed, mask)
    r, change = stack.with_jacobian(moving, jacobian, target)
    assert r.shape == (2, 6, 32, 40)
    assert change.shape == (2, 6, 6, 32, 40)
    for part, rows, share in ((gradient, slice(0, 2), 0.7), (learned, slice(2, 6), 0.3)):
        own = part.target(fixed, mask)
        own_r, own_change = part.with_jacobian(moving, jacobian, own)
        assert r[:, rows] == pytest.approx(share**0.5 * own_r.numpy(), abs=1e-6)
        assert change[:, :, rows] == pytest.approx(share**0.5 * own_change.numpy(), abs=1e-5)
        # what either must not use, the stack does not
        assert bool((target.weight <= own.weight).all())
        assert stack.reach_px >= part.reach_px
    everywhere = torch.ones_like(moving)
    likeness = stack.correlation(moving, target, everywhere)
    assert bool((likeness.abs() < 1).all())
    assert stack.correlation(fixed[None], target, everywhere[:1]) > likeness.max()


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_stack_of_one_is_none(
    parts: tuple[GradientResidual, SphericalResidual], share: float
) -> None:
    with pytest.raises(InputError, match="share"):
        StackedResidual(*parts, share=share)
