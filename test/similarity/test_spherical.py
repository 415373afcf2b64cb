"""The learned similarity: manifold identities, exact least squares, exact Jacobian, masks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.similarity.encoder import EncoderConfig
from xray_registration.similarity.manifold import (
    GEOMETRIES,
    epsilon,
    exponential,
    likeness,
    residual,
)
from xray_registration.similarity.spherical import SphericalResidual

SIZE = 32
SMALL = EncoderConfig(channels=3, width=8, layers=1, heads=2)


def _features(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(2, 5, 4, 4, dtype=torch.float64)


def _network(geometry: str = "sphere") -> SphericalResidual:
    return SphericalResidual(SMALL, geometry).double()  # type: ignore[arg-type]


def test_points_lie_on_the_sphere_and_do_not_fold() -> None:
    for scale in (0.0, 1e-8, 1.0, 50.0):
        points = exponential(_features(scale), "sphere")
        torch.testing.assert_close(points.norm(dim=1), torch.ones(2, 4, 4).double())
        assert points[:, -1].min() >= -1.0
    at_zero = exponential(torch.zeros(1, 5, 1, 1), "sphere")
    torch.testing.assert_close(at_zero[0, :, 0, 0], torch.tensor([0.0, 0, 0, 0, 0, 1]))


def test_epsilon_is_exactly_half_the_squared_residual() -> None:
    a, b = (exponential(_features(), "sphere") for _ in range(2))
    torch.testing.assert_close(
        epsilon(a, b, "sphere"), 0.5 * residual(a, b, "sphere").square().sum(1)
    )
    torch.testing.assert_close(epsilon(a, b, "sphere"), 1 - torch.cos(_angle(a, b)))


def test_the_logarithms_have_the_length_of_the_distance() -> None:
    a, b = (exponential(_features(), "sphere") for _ in range(2))
    torch.testing.assert_close(residual(a, b, "sphere_log").norm(dim=1), _angle(a, b))
    # it is a tangent vector at the moving point, and leads to the fixed one
    r = residual(a, b, "sphere_log")
    torch.testing.assert_close((r * a).sum(1), torch.zeros(2, 4, 4).double(), atol=1e-9, rtol=0)
    d = _angle(a, b)[:, None]
    torch.testing.assert_close(a * torch.cos(d) - r * torch.sin(d) / d, b)
    p, q = (exponential(_features(), "hyperbolic") for _ in range(2))
    inner = p[:, -1] * q[:, -1] - (p[:, :-1] * q[:, :-1]).sum(1)
    torch.testing.assert_close(residual(p, q, "hyperbolic").norm(dim=1), torch.acosh(inner))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equal_features_are_no_residual_and_have_finite_gradients(geometry: str) -> None:
    features = _features().requires_grad_()
    points = exponential(features, geometry)
    fixed = points.detach()
    assert residual(points, fixed, geometry).abs().max() < 1e-7
    torch.testing.assert_close(likeness(points, fixed, geometry), torch.ones(2, 4, 4).double())
    (first,) = torch.autograd.grad(epsilon(points, fixed, geometry).sum(), features)
    assert first.isfinite().all()
    opposite = exponential(-features, geometry)
    assert residual(points, opposite, geometry).isfinite().all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_jacobian_by_forward_mode_is_the_derivative(geometry: str) -> None:
    network = _network(geometry)
    mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
    mask[:, :6] = False
    with torch.no_grad():
        target = network.target(torch.rand(SIZE, SIZE, dtype=torch.float64), mask)
        moving = torch.rand(2, SIZE, SIZE, dtype=torch.float64)
        columns = torch.randn(2, 6, SIZE, SIZE, dtype=torch.float64)
        value, change = network.with_jacobian(moving, columns, target)
        torch.testing.assert_close(value, network(moving, target))
        step = 1e-6
        for column in range(6):
            ahead, behind = (
                network(moving + sign * step * columns[:, column], target) for sign in (1, -1)
            )
            expected = (ahead - behind) / (2 * step)
            torch.testing.assert_close(change[:, column], expected, atol=1e-6, rtol=1e-5)
    assert value[..., :6].abs().max() == 0


def test_the_window_does_not_matter_and_what_is_masked_neither() -> None:
    network = _network()
    mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
    mask[-8:] = False
    fixed, moving = (torch.rand(n, SIZE, SIZE, dtype=torch.float64) for n in (1, 2))
    plain = network.target(fixed[0], mask)
    other = torch.where(mask, 30 * fixed[0] - 5, 1e4)
    changed = network.target(other, mask)
    torch.testing.assert_close(plain.points, changed.points)
    torch.testing.assert_close(network(moving, plain), network(0.1 * moving + 3, changed))
    assert plain.weight[-10:].max() == 0


def test_correlation_is_one_for_itself() -> None:
    network = _network()
    network.fixed_encoder.load_state_dict(network.moving_encoder.state_dict())
    picture = torch.rand(SIZE, SIZE, dtype=torch.float64)
    mask = torch.ones(SIZE, SIZE, dtype=torch.bool)
    target = network.target(picture, mask)
    weight = torch.ones(1, SIZE, SIZE, dtype=torch.float64)
    likeness_ = network.correlation(picture[None], target, weight)
    torch.testing.assert_close(likeness_, torch.ones(1).double())
    assert network.correlation(torch.rand_like(picture)[None], target, weight) < 0.999


def test_bad_values() -> None:
    with pytest.raises(InputError, match="geometry"):
        SphericalResidual(SMALL, "torus")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="width"):
        EncoderConfig(width=12)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Great-circle distance, by half angles: exact near 0 and near pi."""
    half = torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))
    assert float(half.max()) <= math.pi / 2
    return 2 * half
