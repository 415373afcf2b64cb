"""Pose and relative geometry together: parts by finite differences, limits, and real pictures."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.registration import (
    Level,
    Reason,
    Registrar,
    RegistrationConfig,
    RigUncertainty,
    SpreadConfig,
    View,
)
from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.covariance import pose_covariance
from xray_registration.registration.least_squares.residual import Linearisation, pose_units
from xray_registration.registration.levenberg_marquardt import minimise
from xray_registration.registration.rig_refinement import (
    JointResidual,
    Retraction,
    geometry_prior,
    marginal,
    views_of,
)

CENTRE = torch.tensor([10.0, -20.0, 150.0], dtype=torch.float64)
WIDTH = RigUncertainty(translation_mm=2.0, rotation_deg=1.0)
CONFIG = LevenbergMarquardtConfig(huber=0.0, min_step_mm=1e-9, min_decrease=1e-15)


def _random_poses(count: int, mm: float = 100.0, rad: float = 1.0) -> Tensor:
    scale = torch.tensor([mm] * 3 + [rad] * 3, dtype=torch.float64)
    return se3.se3_exp(scale * torch.randn(count, 6, dtype=torch.float64))


class Pinhole:
    """Stands for an `Objective` of one camera: projections of points (N, 3), in tenths of mm."""

    def __init__(self, camera_from_ct: Tensor, points: Tensor, noise: float = 0.0) -> None:
        self.points = points
        self.seen = self._project(camera_from_ct[None])[0]
        self.seen = self.seen + noise * torch.randn_like(self.seen)

    def _project(self, poses: Tensor) -> Tensor:
        moved = se3.transform_points(poses, self.points)
        return 1000.0 * moved[..., :2] / (1000.0 + moved[..., 2:])

    def __call__(self, poses: Tensor, _: Tensor) -> Linearisation:
        def residual(xi: Tensor, pose: Tensor) -> Tensor:
            moved = se3.left_increment(pose[None], xi[None], CENTRE)
            return (self._project(moved)[0] - self.seen).flatten()

        zero = poses.new_zeros(len(poses), 6)
        change = torch.func.vmap(torch.func.jacrev(residual))(zero, poses).mT
        value = torch.func.vmap(residual)(zero, poses)
        return value, change, torch.ones_like(value)


def _rig(views: int = 3, noise: float = 0.0) -> tuple[JointResidual, Tensor, Tensor]:
    """A residual, the true state (1, V, 4, 4), and the first camera's place."""
    rig = _random_poses(1, 20.0, 0.2)
    cameras = _random_poses(views, 60.0, 0.8)
    points = CENTRE + 60 * torch.randn(30, 3, dtype=torch.float64)
    objectives: Any = [Pinhole(camera @ rig[0], points, noise) for camera in cameras]
    return JointResidual(objectives, cameras[0]), torch.cat((rig, cameras[1:]))[None], cameras[0]


def test_the_jacobian_is_the_derivative_along_the_retraction() -> None:
    residual, truth, _ = _rig()
    retract = Retraction(CENTRE)
    state = retract(truth, 0.02 * torch.randn(1, 18, dtype=torch.float64))
    place = torch.arange(1)
    _, jacobian, weight = residual(state, place)
    assert jacobian.shape == (1, 18, 3 * 60)
    assert weight.shape == (1, 3 * 60)
    for column in range(18):
        xi = torch.zeros(1, 18, dtype=torch.float64)
        xi[0, column] = 1e-5
        ends = [residual(retract(state, sign * xi), place)[0] for sign in (-1, 1)]
        numeric = (ends[1] - ends[0])[0] / 2e-5
        torch.testing.assert_close(jacobian[0, column], numeric, rtol=1e-5, atol=1e-6)


def test_prior_rows_and_their_derivative() -> None:
    mean, rig = _random_poses(2, 60.0, 0.8), _random_poses(1, 20.0, 0.2)[0]
    held = se3.transform_points(rig, CENTRE[None])[0]
    prior = geometry_prior(mean, held, CENTRE, WIDTH, 1.0)
    xi = torch.tensor([[3.0, 0, -1, 0, 0.02, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    state = torch.cat((rig[None], se3.left_increment(mean, xi, held)))[None]
    rows, change = prior.rows(state)
    expected = xi / torch.tensor([2.0] * 3 + [np.radians(1.0)] * 3).double()
    torch.testing.assert_close(rows[0], expected.flatten(), rtol=1e-9, atol=1e-9)
    assert change.shape == (1, 18, 12)
    assert float(change[0, :6].abs().max()) == 0  # the pose itself has no prior
    retract = Retraction(CENTRE)
    moved = 1e-6 * torch.randn(1, 18, dtype=torch.float64)
    ends = [prior.rows(retract(state, sign * moved))[0] for sign in (-1, 1)]
    numeric = (ends[1] - ends[0])[0] / 2
    torch.testing.assert_close((moved @ change[0])[0], numeric, rtol=1e-6, atol=1e-10)


def test_marginal_is_the_first_block_of_the_inverse() -> None:
    root = torch.randn(2, 18, 40, dtype=torch.float64)
    hessian = root @ root.mT
    torch.testing.assert_close(
        torch.linalg.inv(marginal(hessian)), torch.linalg.inv(hessian)[:, :6, :6]
    )


def _joint(residual: JointResidual, start: Tensor, mean: Tensor, width: RigUncertainty) -> Any:
    held = se3.transform_points(start[0, :1], CENTRE[None])[0, 0]
    prior = geometry_prior(mean, held, CENTRE, width, 1.0)
    units = pose_units(CONFIG, start.shape[1])
    return minimise(residual, Retraction(CENTRE), start, 60, CONFIG, units, prior)


def test_a_wrong_geometry_is_found_and_a_sure_one_is_kept() -> None:
    residual, truth, _ = _rig(noise=0.01)
    xi = torch.tensor([[2.0, -1, 1, 0.01, 0, -0.01], [0, 1, -2, 0, 0.02, 0]], dtype=torch.float64)
    held = se3.transform_points(truth[0, :1], CENTRE[None])[0, 0]
    given = truth.clone()
    given[0, 1:] = se3.left_increment(truth[0, 1:], xi, held)
    loose = _joint(residual, given, given[0, 1:], RigUncertainty(5.0, 5.0))
    sure = _joint(residual, given, given[0, 1:], RigUncertainty(1e-4, 1e-4))
    torch.testing.assert_close(loose.poses, truth, rtol=0, atol=0.5)
    torch.testing.assert_close(sure.poses[0, 1:], given[0, 1:], rtol=0, atol=1e-2)
    assert float(loose.cost) < 1e-2 * float(sure.cost)


def test_covariance_adds_the_information_of_pictures_and_prior() -> None:
    """(J'WJ / variance + Lambda)^-1, its first block: with dependence taken into account."""
    residual, truth, _ = _rig(2, noise=0.05)
    found = _joint(residual, truth, truth[0, 1:], WIDTH)
    _, jacobian, _ = residual(found.poses, torch.arange(1))
    information = (jacobian @ jacobian.mT)[0] / found.variance
    sigma = torch.tensor([2.0] * 3 + [np.radians(1.0)] * 3, dtype=torch.float64)
    information[6:, 6:] += torch.diag(1 / sigma**2)
    alone = replace(found, hessian=marginal(found.hessian))
    expected = torch.linalg.inv(information)[:6, :6].numpy()
    # to 1 %: the deviations are small, but their derivative is not quite the identity
    np.testing.assert_allclose(
        pose_covariance(alone, 0.0), expected, rtol=0.01, atol=0.01 * np.abs(expected).min()
    )
    sure = _joint(residual, truth, truth[0, 1:], RigUncertainty(1e-6, 1e-6))
    sure = replace(sure, hessian=marginal(sure.hessian))
    assert np.linalg.det(pose_covariance(sure, 0.0)) < 0.5 * np.linalg.det(expected)


@pytest.fixture(scope="module")
def usual(thorax: Any) -> Registrar:
    """Two levels and one attempt."""
    levels = (Level(5.0, 5.0, 15), Level(2.5, 3.5, 8))
    return Registrar(thorax.ct, RegistrationConfig(levels=levels, spread=SpreadConfig(count=0)))


@pytest.fixture(scope="module")
def refining(usual: Registrar) -> Registrar:
    """Shares the volumes of the usual one."""
    registrar = copy.copy(usual)
    registrar.config = replace(registrar.config, rig_uncertainty=WIDTH)
    return registrar


def _two_views(thorax: Any, error: Tensor) -> tuple[list[View], np.ndarray]:
    """AP and lateral; the second one's camera_from_rig is wrong by ``error``, about the isocentre.

    The first camera is the rig.
    """
    truth = thorax.pose("ap")
    right = thorax.pose("lateral") @ np.linalg.inv(truth)
    held = torch.from_numpy(truth[:3, :3] @ thorax.centre + truth[:3, 3])
    wrong = se3.left_increment(torch.from_numpy(right), error, held).numpy()
    views = [thorax.view("ap"), replace(thorax.view("lateral"), camera_from_rig=wrong)]
    return views, right


def test_real_pictures_of_a_rig_that_is_not_as_it_was_said_to_be(
    thorax: Any, usual: Registrar, refining: Registrar
) -> None:
    truth = thorax.pose("ap")
    error = torch.tensor([1.5, -1.0, 2.0, 0.012, -0.01, 0.015], dtype=torch.float64)
    views, right = _two_views(thorax, error)
    start = thorax.start(truth, 6.0, 3.0)
    fixed, result = (registrar.register(views, start) for registrar in (usual, refining))
    assert fixed.camera_from_rig is None
    assert result.camera_from_rig is not None
    before, after = (thorax.error_mm(r.rig_from_ct, truth) for r in (fixed, result))
    assert after < 0.65 * before
    np.testing.assert_array_equal(result.camera_from_rig[0], np.eye(4))
    place = truth[:3, :3] @ thorax.centre + truth[:3, 3]
    gap = se3.perturbation_between(
        torch.from_numpy(right),
        torch.from_numpy(result.camera_from_rig[1]),
        torch.from_numpy(place),
    )
    assert float(gap[:3].norm()) < 0.5 * float(error[:3].norm())
    assert min(result.view_similarities) > min(fixed.view_similarities)
    kept = views_of(result, views)
    np.testing.assert_array_equal(kept[1].camera_from_rig, result.camera_from_rig[1])
    assert result.to_dict()["camera_from_rig_refined"][0] == np.eye(4).tolist()


def test_a_geometry_beyond_belief_is_refused(thorax: Any, refining: Registrar) -> None:
    truth = thorax.pose("ap")
    far = torch.tensor([6.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    sure = copy.copy(refining)
    sure.config = replace(refining.config, rig_uncertainty=RigUncertainty(0.5, 0.5))
    result = sure.register(_two_views(thorax, far)[0], truth)
    assert result.reason is Reason.RIG_DEVIATES
    assert not result.accepted
    assert result.reason_text.startswith("view 2 would have to lie")


def test_one_view_has_no_relative_geometry(
    thorax: Any, usual: Registrar, refining: Registrar
) -> None:
    start = thorax.start(thorax.pose("ap"), 3.0, 1.0)
    fixed, result = (r.register([thorax.view("ap")], start) for r in (usual, refining))
    assert result.camera_from_rig is None
    np.testing.assert_array_equal(result.rig_from_ct, fixed.rig_from_ct)


def test_from_plain_values() -> None:
    data = {"rig_uncertainty": {"translation_mm": 2.0, "rotation_deg": 1.0}}
    config = RegistrationConfig.from_dict(data)
    assert config.rig_uncertainty == WIDTH
    assert RegistrationConfig.from_dict(config.to_dict()) == config
    assert RegistrationConfig.from_dict({"rig_uncertainty": None}).rig_uncertainty is None
    with pytest.raises(InputError, match="rotation_deg is 0"):
        RigUncertainty(1.0, 0.0)
    with pytest.raises(InputError, match="rig_uncertainty: unknown"):
        RegistrationConfig.from_dict({"rig_uncertainty": {"sigma": 1}})
