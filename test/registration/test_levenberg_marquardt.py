"""The optimiser on problems whose minimum is known: point sets moved rigidly, with noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.levenberg_marquardt import (
    Linearisation,
    Minimum,
    Termination,
    minimise,
)

CENTRE = torch.tensor([10.0, -20.0, 150.0], dtype=torch.float64)
PLAIN = LevenbergMarquardtConfig(huber=0.0, min_step_mm=1e-7, min_decrease=1e-14)
TRUE_XI = torch.tensor([4.0, -7.0, 12.0, 0.1, -0.2, 0.05], dtype=torch.float64)
START = torch.eye(4, dtype=torch.float64)


@dataclass
class PointSets:
    """Residual: points moved by the pose, minus where they were measured; B x 3N."""

    points: Tensor  # (N, 3)
    measured: Tensor  # (N, 3)
    weight: Tensor  # (N,)
    calls: list[Tensor] = field(default_factory=list)
    jacobian_factor: float = 1.0

    def __call__(self, poses: Tensor, places: Tensor) -> Linearisation:
        assert len(poses) == len(places)
        self.calls.append(poses.clone())
        moved = se3.transform_points(poses, self.points)
        lever = moved - se3.transform_points(poses, CENTRE[None])
        change = torch.zeros(len(poses), 6, *self.points.shape, dtype=torch.float64)
        for axis in range(3):
            unit = torch.eye(3, dtype=torch.float64)[axis]
            change[:, axis] = unit
            change[:, 3 + axis] = torch.linalg.cross(unit.expand_as(lever), lever)
        weight = self.weight[:, None].expand(-1, 3).reshape(1, -1).expand(len(poses), -1)
        residual = (moved - self.measured).flatten(1)
        return residual, self.jacobian_factor * change.flatten(2), weight


def retract(poses: Tensor, xi: Tensor) -> Tensor:
    return se3.left_increment(poses, xi, CENTRE)


def problem(noise_mm: float = 0.5, outliers: int = 0, count: int = 60) -> PointSets:
    points = CENTRE + 60 * torch.randn(count, 3, dtype=torch.float64)
    truth = retract(START[None], TRUE_XI[None])[0]
    measured = se3.transform_points(truth, points)
    measured = measured + noise_mm * torch.randn_like(measured)
    measured[:outliers] += torch.tensor([80.0, 0.0, 40.0], dtype=torch.float64)
    return PointSets(points, measured, torch.ones(count, dtype=torch.float64))


def run(
    sets: Callable[[Tensor, Tensor], Linearisation],
    config: LevenbergMarquardtConfig = PLAIN,
    start: Tensor = START,
    max_iterations: int = 100,
) -> Minimum:
    return minimise(sets, retract, start.view(-1, 4, 4), max_iterations, config)


def best_rigid(source: Tensor, target: Tensor) -> Tensor:
    """The least-squares pose in closed form (Kabsch, Acta Cryst. A 32 (1976) 922)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, _, vt = torch.linalg.svd(b.T @ a)
    flip = torch.diag(torch.tensor([1.0, 1.0, torch.linalg.det(u @ vt).item()]).double())
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = u @ flip @ vt
    pose[:3, 3] = target.mean(0) - pose[:3, :3] @ source.mean(0)
    return pose


def _start_cost(sets: PointSets) -> float:
    residual, _, _ = sets(START[None], torch.arange(1))
    return 0.5 * float((residual**2).sum())


def random_starts(count: int, mm: float = 40.0, rad: float = 0.5) -> Tensor:
    scale = torch.tensor([mm] * 3 + [rad] * 3, dtype=torch.float64)
    xi = scale * (2 * torch.rand(count, 6, dtype=torch.float64) - 1)
    return retract(START.expand(count, 4, 4), xi)


def test_finds_the_closed_form_minimum_from_afar() -> None:
    sets = problem()
    minimum = run(sets, start=random_starts(5))
    expected = best_rigid(sets.points, sets.measured).expand(5, 4, 4)
    torch.testing.assert_close(minimum.poses, expected, rtol=0, atol=1e-6)
    assert minimum.poses.dtype == torch.float64
    assert all(why is Termination.STEP for why in minimum.termination)
    residual = se3.transform_points(expected[0], sets.points) - sets.measured
    assert float(minimum.cost[0]) == pytest.approx(0.5 * float((residual**2).sum()))


def test_hessian_is_that_of_the_minimum_per_mm_and_rad() -> None:
    sets = problem()
    minimum = run(sets)
    _, jacobian, _ = sets(minimum.poses, torch.arange(1))
    torch.testing.assert_close(
        minimum.hessian, jacobian @ jacobian.transpose(1, 2), rtol=1e-5, atol=1e-3
    )


def test_variance_is_that_of_the_noise() -> None:
    minimum = run(problem(noise_mm=0.5, count=4000))
    assert float(minimum.variance) == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("huber", [0.0, 1.5])
def test_a_batch_equals_each_alone(huber: float) -> None:
    sets = problem(outliers=6)
    config = replace(PLAIN, huber=huber, min_step_mm=1e-3, min_decrease=1e-9)
    starts = torch.cat((random_starts(3), best_rigid(sets.points, sets.measured)[None]))
    together = run(sets, config, starts)
    assert len(set(together.iterations.tolist())) > 1  # they end at different times
    for n, start in enumerate(starts):
        alone = run(sets, config, start)
        torch.testing.assert_close(together.poses[n], alone.poses[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(together.hessian[n], alone.hessian[0])
        assert together.iterations[n] == alone.iterations[0]
        assert together.termination[n] is alone.termination[0]


def test_the_start_is_not_written_to() -> None:
    start = START[None].clone()
    run(problem(), start=start)
    assert torch.equal(start[0], START)


def test_the_cost_never_rises() -> None:
    sets = problem()
    # a Jacobian that is 60 % too small makes full steps overshoot: some must be refused
    sets.jacobian_factor = 0.4
    start = random_starts(4)
    costs = torch.stack(
        [run(sets, start=start, max_iterations=count).cost for count in range(1, 25)]
    )
    assert bool((costs[1:] <= costs[:-1]).all())
    assert bool((costs[1:] == costs[:-1]).any()), "no step was refused: the test shows nothing"
    assert bool((costs[-1] < 1e-2 * costs[0]).all())


def test_outliers_are_weighted_as_scipy_does() -> None:
    sets = problem(outliers=9)
    config = replace(PLAIN, huber=1.5)
    minimum = run(sets, config)
    limit = 1.5 * float(minimum.variance.sqrt())

    def residual(xi: np.ndarray) -> np.ndarray:
        pose = retract(minimum.poses, torch.from_numpy(xi)[None])
        return (se3.transform_points(pose, sets.points) - sets.measured).flatten().numpy()

    expected = least_squares(
        residual, np.zeros(6), loss="huber", f_scale=limit, x_scale=[1, 1, 1, 0.01, 0.01, 0.01],
        xtol=1e-14, ftol=1e-14, gtol=1e-14,
    )  # fmt: skip
    assert np.abs(expected.x[:3]).max() < 1e-4
    assert np.abs(expected.x[3:]).max() < 1e-6
    assert float(minimum.cost) == pytest.approx(expected.cost, rel=1e-6)


def test_outliers_move_the_robust_minimum_less() -> None:
    sets = problem(outliers=9)
    truth = retract(START[None], TRUE_XI[None])

    def error_mm(config: LevenbergMarquardtConfig) -> float:
        pose = run(sets, config).poses
        moved = se3.transform_points(pose, sets.points) - se3.transform_points(truth, sets.points)
        return float(moved.norm(dim=-1).mean())

    plain, robust = error_mm(PLAIN), error_mm(replace(PLAIN, huber=1.5))
    assert robust < 0.1 * plain
    assert robust < 1.0


def test_what_has_no_weight_does_not_count() -> None:
    sets = problem(outliers=9)
    sets.weight[:9] = 0
    minimum = run(sets, replace(PLAIN, huber=1.5))
    clean = PointSets(sets.points[9:], sets.measured[9:], sets.weight[9:])
    torch.testing.assert_close(minimum.poses, run(clean, replace(PLAIN, huber=1.5)).poses)


@pytest.mark.parametrize("rotation_scale_mm", [1.0, 5e3])
def test_the_path_does_not_depend_on_the_units_of_rotation(rotation_scale_mm: float) -> None:
    """Marquardt's scaling; unbounded steps, as the bound has to be in some metric."""
    sets = problem()
    free = replace(PLAIN, max_step_mm=1e9)
    for count in (1, 2, 4):
        usual = run(sets, free, max_iterations=count)
        other = run(sets, replace(free, rotation_scale_mm=rotation_scale_mm), max_iterations=count)
        # the floor of the damping, 1e-6 of the largest diagonal element, is not invariant
        torch.testing.assert_close(usual.poses, other.poses, rtol=0, atol=0.1)
    ends = [run(sets, replace(free, rotation_scale_mm=scale)) for scale in (100, rotation_scale_mm)]
    torch.testing.assert_close(ends[0].poses, ends[1].poses, rtol=0, atol=1e-5)


def test_no_step_is_longer_than_the_bound() -> None:
    sets = problem()
    config = replace(PLAIN, max_step_mm=3.0)
    start = random_starts(1)
    minimum = run(sets, config, start)
    units = torch.tensor([1.0] * 3 + [config.rotation_scale_mm] * 3).double()
    path = torch.cat(sets.calls)
    steps = se3.perturbation_between(path[:-1], path[1:], CENTRE) * units
    assert float(steps.norm(dim=-1).max()) == pytest.approx(3.0, rel=1e-6)
    torch.testing.assert_close(
        minimum.poses[0], best_rigid(sets.points, sets.measured), rtol=0, atol=1e-5
    )


def test_directions_that_nothing_sees_stay_where_they_are() -> None:
    """Points on one line: a turn about it changes nothing, and the normal matrix is singular."""
    line = torch.linspace(-80, 80, 30).double()[:, None] * torch.tensor([0.0, 0.0, 1.0]).double()
    points = CENTRE + line
    sets = PointSets(
        points,
        points + torch.tensor([5.0, -3.0, 8.0]).double(),
        torch.ones(len(points)).double(),
    )
    minimum = run(sets)
    assert bool(torch.isfinite(minimum.poses).all())
    assert float(minimum.cost) < 1e-6
    xi = se3.perturbation_between(START[None], minimum.poses, CENTRE)[0]
    assert xi.tolist() == pytest.approx([5.0, -3.0, 8.0, 0, 0, 0], abs=1e-4)
    assert float(torch.linalg.eigvalsh(minimum.hessian)[0, 0]) == pytest.approx(0.0, abs=1e-6)


def test_nothing_to_see_at_all_ends_at_the_start() -> None:
    sets = problem()
    sets.weight[:] = 0
    minimum = run(sets)
    assert torch.equal(minimum.poses[0], START)
    assert minimum.termination == (Termination.STEP,)
    assert float(minimum.cost) == 0


def test_terminates_at_the_iteration_limit() -> None:
    minimum = run(problem(), replace(PLAIN, max_step_mm=1.0), max_iterations=4)
    assert minimum.termination == (Termination.ITERATIONS,)
    assert minimum.iterations.tolist() == [5]  # the start's linearisation and four steps


def test_terminates_after_three_small_decreases() -> None:
    minimum = run(problem(), replace(PLAIN, max_step_mm=1.0, min_decrease=0.99))
    assert minimum.termination == (Termination.DECREASE,)
    assert minimum.iterations.tolist() == [4]


@pytest.mark.parametrize("min_step_mm", [0.01, 1e-300])
def test_stalls_where_no_step_helps(min_step_mm: float) -> None:
    """A Jacobian of the wrong sign: heavy damping, not a minimum, makes the steps short."""
    sets = problem()
    sets.jacobian_factor = -1.0
    minimum = run(sets, replace(PLAIN, min_step_mm=min_step_mm))
    assert minimum.termination == (Termination.STALLED,)
    assert torch.equal(minimum.poses[0], START)


def test_a_rejected_step_at_the_minimum_is_no_stall() -> None:
    sets = problem()
    best = run(sets).poses
    minimum = run(sets, replace(PLAIN, min_step_mm=0.01), start=best)
    assert minimum.termination == (Termination.STEP,)


class _NotFinite:
    """The point sets with NaN in the chosen part, at chosen places or beyond a plane."""

    def __init__(self, sets: PointSets, part: int, bad: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.sets, self.part, self.bad = sets, part, bad

    def __call__(self, poses: Tensor, places: Tensor) -> Linearisation:
        assert bool(torch.isfinite(poses).all()), "asked for a pose that is not finite"
        values = [part.clone() for part in self.sets(poses, places)]
        values[self.part][self.bad(poses, places), ..., 0] = float("nan")
        return values[0], values[1], values[2]


@pytest.mark.parametrize("part", [0, 1])
def test_a_start_that_is_not_finite_ends_alone(part: int) -> None:
    sets, starts = problem(), random_starts(3)
    minimum = run(_NotFinite(sets, part, lambda _, places: places == 1), start=starts)
    assert minimum.termination[1] is Termination.NOT_FINITE
    assert torch.equal(minimum.poses[1], starts[1])
    assert int(minimum.iterations[1]) == 1
    for n in (0, 2):
        torch.testing.assert_close(minimum.poses[n], run(sets, start=starts[n]).poses[0])


@pytest.mark.parametrize("part", [0, 1])
def test_steps_into_the_not_finite_are_refused(part: int) -> None:
    """The minimum is 12 mm along z; what lies beyond 6 mm cannot be evaluated."""

    def bad(poses: Tensor, _: Tensor) -> Tensor:
        return se3.transform_points(poses, CENTRE[None])[:, 0, 2] > CENTRE[2] + 6

    minimum = run(_NotFinite(problem(), part, bad))
    assert bool(torch.isfinite(minimum.poses).all())
    assert not bool(bad(minimum.poses, torch.arange(1)).any())
    assert float(minimum.cost) < 0.5 * _start_cost(problem())


def test_does_the_same_twice() -> None:
    sets, starts = problem(outliers=5), random_starts(3)
    a, b = (run(sets, replace(PLAIN, huber=1.5), starts) for _ in range(2))
    assert torch.equal(a.poses, b.poses)
    assert torch.equal(a.hessian, b.hessian)


def test_float32_residuals_are_good_enough() -> None:
    sets = problem()

    def single(poses: Tensor, places: Tensor) -> Linearisation:
        residual, jacobian, weight = sets(poses, places)
        return residual.float(), jacobian.float(), weight.float()

    minimum = run(single, replace(PLAIN, min_step_mm=0.01))
    expected = best_rigid(sets.points, sets.measured)
    torch.testing.assert_close(minimum.poses[0], expected, rtol=0, atol=0.01)
