"""The pose of the rig together with the views' relative geometry, where that is not known exactly.

The state is the rig's pose and, for every view beyond the first, its camera_from_rig: 6 + 6 (V - 1)
parameters. The first camera carries the rig. How far the others may move is a Gaussian prior
(`RigUncertainty`): without it two views would be registered each by itself, with a prior of no
width they are as rigid as `Registrar` takes them to be otherwise.

Balance: the prior's rows are deviations in standard deviations, weighted by the variance of a
picture's residual times the number of residuals that say the same (`least_squares.residual.Prior`,
`covariance.dependent_residuals`). Divided by these, the sum is the negative log of the posterior,
and its inverse Hessian is the covariance of all parameters; the block of the rig's pose in it is
the pose's covariance with the geometry's uncertainty in it (marginalised).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.registration.config import LevenbergMarquardtConfig, RigUncertainty
from xray_registration.registration.covariance import dependent_residuals
from xray_registration.registration.least_squares.residual import (
    Linearisation,
    Prior,
    pose_units,
)
from xray_registration.registration.levenberg_marquardt import Minimum, minimise
from xray_registration.registration.objective import Objective
from xray_registration.registration.prepared_patient import PreparedLevel
from xray_registration.registration.result import Reason, RegistrationResult
from xray_registration.registration.view import View

# In any of six directions: one right geometry in 2600 is further off, were the prior exact.
_MOST_SIGMAS = 4.0
_STEP = 1e-4  # mm and rad
MakeObjective = Callable[[PreparedLevel, list[View], Tensor], Objective]


@dataclass(frozen=True, eq=False)
class RefinedRig:
    """Attributes:
    views: the pictures with the camera_from_rig that were found.
    minimum: of the rig's pose alone, (1, 4, 4); its Hessian is the marginal one, see `marginal`.
    deviations: (V - 1, 6) of the further cameras from what was given, in standard deviations.
    iterations: over all levels.
    """

    views: list[View]
    minimum: Minimum
    deviations: NDArray[np.float64]
    iterations: int


def refined_rig(
    make_objective: MakeObjective,
    levels: Sequence[PreparedLevel],
    given: Sequence[View],
    views: Sequence[View],
    rig_from_ct: Tensor,
    isocentre_lps_mm: NDArray[np.float64],
    uncertainty: RigUncertainty,
    optimiser: LevenbergMarquardtConfig,
) -> RefinedRig:
    """Refine pose and geometry at each of the levels in turn.

    Args:
        make_objective: of one view whose rig is its camera.
        levels: one or more.
        given: the views as they were given: the prior's mean.
        views: the pictures, with the camera_from_rig to start from.
        rig_from_ct: (1, 4, 4) to start from.
        isocentre_lps_mm: (3,).
        uncertainty: the prior's width.
        optimiser: of every level.
    """
    centre = torch.from_numpy(isocentre_lps_mm)
    relative = torch.from_numpy(np.stack([view.camera_from_rig for view in views[1:]]))
    anchor = torch.from_numpy(np.array(views[0].camera_from_rig))
    state = torch.cat((rig_from_ct, relative))[None]
    units = pose_units(optimiser, len(views))
    mean = torch.from_numpy(np.stack([view.camera_from_rig for view in given[1:]]))
    held = se3.transform_points(rig_from_ct, centre[None])[0, 0]
    as_cameras = [replace(view, camera_from_rig=np.eye(4)) for view in views]
    iterations, minimum, prior = 0, None, None
    for prepared in levels:
        poses = _camera_from_ct(state, anchor)
        objectives = [
            make_objective(prepared, [view], pose)
            for view, pose in zip(as_cameras, poses, strict=True)
        ]
        dependent = dependent_residuals(prepared.residual.smoothing_px)
        prior = geometry_prior(mean, held, centre, uncertainty, dependent)
        minimum = minimise(
            JointResidual(objectives, anchor),
            Retraction(centre),
            state,
            prepared.level.max_iterations,
            optimiser,
            units,
            prior,
        )
        iterations += int(minimum.iterations.sum())
        state = minimum.poses
    assert minimum is not None  # there is always a level
    assert prior is not None
    cameras = [anchor, *state[0, 1:]]
    return RefinedRig(
        views=[
            replace(view, camera_from_rig=camera.numpy().copy())
            for view, camera in zip(views, cameras, strict=True)
        ],
        minimum=replace(minimum, poses=state[:, 0], hessian=marginal(minimum.hessian)),
        deviations=prior.rows(state)[0].view(-1, 6).numpy(),
        iterations=iterations,
    )


def with_rig(result: RegistrationResult, rig: RefinedRig) -> RegistrationResult:
    """The result with the geometry that was found; refused when that cannot be believed."""
    result = replace(result, camera_from_rig=tuple(view.camera_from_rig for view in rig.views))
    worst = np.abs(rig.deviations).max(1)
    if not result.accepted or worst.max() <= _MOST_SIGMAS:
        return result
    return replace(
        result,
        accepted=False,
        reason=Reason.RIG_DEVIATES,
        reason_text=(
            f"view {2 + int(worst.argmax())} would have to lie {worst.max():.1f} standard "
            f"deviations from its camera_from_rig; up to {_MOST_SIGMAS:g} are believed"
        ),
    )


def views_of(result: RegistrationResult, views: Sequence[View]) -> list[View]:
    """The views with the geometry that a registration has found."""
    if result.camera_from_rig is None:
        return list(views)
    return [
        replace(view, camera_from_rig=camera)
        for view, camera in zip(views, result.camera_from_rig, strict=True)
    ]


class JointResidual:
    """Residuals of all views as a function of (b, V, 4, 4): rig pose, further camera_from_rig."""

    def __init__(self, objectives: Sequence[Objective], anchor: Tensor) -> None:
        """One objective of each view's own camera; ``anchor`` (4, 4): the first camera's place."""
        self._objectives, self._anchor = objectives, anchor

    def __call__(self, states: Tensor, places: Tensor) -> Linearisation:
        """Residual (b, M), Jacobian (b, 6 V, M), weight (b, M)."""
        poses = _camera_from_ct(states, self._anchor)
        residuals, jacobians, weights = [], [], []
        for n, (objective, pose) in enumerate(zip(self._objectives, poses, strict=True)):
            r, change, weight = objective(pose, places)
            rig = states[:, n] if n else self._anchor.expand(len(states), 4, 4)
            turn = rig[:, :3, :3].to(change)
            # the pose's increment is in the rig's axes, the camera's own in the camera's
            of_pose = torch.cat([turn.mT @ part for part in change.split(3, 1)], 1)
            jacobian = change.new_zeros(len(r), 6 * len(poses), r.shape[1])
            jacobian[:, :6] = of_pose
            if n:
                jacobian[:, 6 * n : 6 * n + 6] = change
            residuals.append(r)
            jacobians.append(jacobian)
            weights.append(weight)
        return torch.cat(residuals, 1), torch.cat(jacobians, 2), torch.cat(weights, 1)


class Retraction:
    """Moves the pose, and the further cameras, all about the isocentre as it lies now.

    An increment of a camera_from_rig (camera axes) then moves the picture as the same increment of
    its camera_from_ct would, whose derivative is what an objective gives.
    """

    def __init__(self, isocentre_lps_mm: Tensor) -> None:
        self._centre = isocentre_lps_mm

    def __call__(self, states: Tensor, xi: Tensor) -> Tensor:
        """States (b, V, 4, 4) moved by (b, 6 V)."""
        steps = xi.unflatten(1, (-1, 6))
        place = se3.transform_points(states[:, 0], self._centre[None])
        pose = se3.left_increment(states[:, 0], steps[:, 0], self._centre)
        cameras = se3.left_increment(
            states[:, 1:], steps[:, 1:], place.expand(-1, states.shape[1] - 1, -1)
        )
        return torch.cat((pose[:, None], cameras), 1)


def geometry_prior(
    mean: Tensor, held_mm: Tensor, isocentre_lps_mm: Tensor, width: RigUncertainty, dependent: float
) -> Prior:
    """Of the further cameras.

    Args:
        mean: (V - 1, 4, 4) camera_from_rig as given.
        held_mm: (3,) point of the rig about which deviations are stated: where the isocentre was
            when the refinement began.
        isocentre_lps_mm: (3,).
        width: standard deviations.
        dependent: see `Prior`.
    """
    sigma = torch.tensor(
        [width.translation_mm] * 3 + [np.deg2rad(width.rotation_deg)] * 3, dtype=torch.float64
    )
    retract = Retraction(isocentre_lps_mm)

    def deviations(states: Tensor) -> Tensor:
        gone = se3.perturbation_between(mean.expand_as(states[:, 1:]), states[:, 1:], held_mm)
        return (gone / sigma).flatten(1)

    def rows(states: Tensor) -> tuple[Tensor, Tensor]:
        # central differences, all at once: exact to nine digits, and a fraction of what automatic
        # differentiation of these few numbers takes
        count = 6 * states.shape[1]
        steps = _STEP * torch.eye(count, dtype=states.dtype).repeat(len(states), 1)
        repeated = states.repeat_interleave(count, 0)
        ends = [deviations(retract(repeated, sign * steps)) for sign in (1, -1)]
        change = (ends[0] - ends[1]) / (2 * _STEP)
        return deviations(states), change.unflatten(0, (len(states), count))

    return Prior(rows, dependent)


def marginal(hessian: Tensor) -> Tensor:
    """(B, 6, 6) of (B, P, P): its inverse is the first block of the whole inverse."""
    first, rest, cross = hessian[:, :6, :6], hessian[:, 6:, 6:], hessian[:, :6, 6:]
    return first - cross @ torch.linalg.solve(rest, cross.mT)


def _camera_from_ct(states: Tensor, anchor: Tensor) -> list[Tensor]:
    """Per view (b, 4, 4) of states (b, V, 4, 4)."""
    rig = states[:, 0]
    return [anchor @ rig, *(states[:, n] @ rig for n in range(1, states.shape[1]))]
