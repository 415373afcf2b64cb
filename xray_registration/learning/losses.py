"""What networks are trained with; all differentiable in the networks' weights.

The regressor: likelihood of its mixture, the geodesic of its mean, and how well the picture that
its pose renders matches. The similarity network (method.md, section 4): its gradient, or the
Levenberg-Marquardt step that it leads to, must point to the true pose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, se3
from xray_registration.learning import pose_metrics
from xray_registration.learning.network import Mixture
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.registration.config import LevenbergMarquardtConfig
from xray_registration.registration.least_squares.residual import Linearisation
from xray_registration.registration.least_squares.unrolled import unrolled_steps
from xray_registration.rendering import Projector

Metric = Literal["se3", "so4", "so4_chordal"]
Similarity = Callable[[Tensor], Tensor]
"""Moving pictures (B, H, W) to the similarity epsilon (B,), lower is better."""
ResidualAndJacobian = Callable[[Tensor, Tensor], Linearisation]
"""Pictures (B, H, W), their derivative (B, 6, H, W) to r (B, M), dr (B, 6, M), weights (B, M)."""

_AS_REGISTRATION = LevenbergMarquardtConfig()


def pose_distance(
    a: Tensor, b: Tensor, isocentre_lps_mm: Tensor, metric: Metric = "se3", sdd_mm: float = 1020.0
) -> Tensor:
    """Distance (...) of poses (..., 4, 4): mm for "se3", rad on SO(4) times SDD / 2 for the others.

    On SO(4) the isocentre's place at ``b`` is the reference and e = 2 / SDD.
    """
    if metric == "se3":
        return pose_metrics.se3_geodesic(a, b, isocentre_lps_mm)
    if metric not in ("so4", "so4_chordal"):
        raise InputError(f"metric is {metric!r}; expected se3, so4 or so4_chordal.")
    place = (b[..., :3, :3] @ isocentre_lps_mm[:, None])[..., 0] + b[..., :3, 3]
    on_sphere = [
        pose_metrics.so4_from_pose(pose, isocentre_lps_mm, 2.0 / sdd_mm, place.detach())
        for pose in (a, b)
    ]
    distance = pose_metrics.so4_geodesic if metric == "so4" else pose_metrics.so4_chordal
    return 0.5 * sdd_mm * distance(*on_sphere)


def regressor_loss(
    mixture: Mixture, numbers: Tensor, space: PoseSpace, geodesic_weight: float = 0.0
) -> Tensor:
    """Negative log likelihood, plus the geodesic (in units of 30 mm) of the mixture's mean.

    The likelihood alone hardly trains what is hard: its gradient with respect to a mean is
    1 / scale, and the scale of an unlearned number is large. (Measured: after 32 000 pictures the
    depth was still at its prior.) The geodesic pulls most where the error in mm is largest.
    """
    loss = -mixture.log_density(numbers).mean()
    if geodesic_weight:
        estimate, truth = space.decode(mixture.mean), space.decode(numbers)
        centre = space.centre.to(numbers)
        distance = pose_metrics.se3_geodesic(estimate, truth, centre, space.rotation_scale_mm)
        loss = loss + geodesic_weight * distance.mean() / 30.0
    return loss


def image_term(
    projector: Projector, camera_from_ct: Tensor, camera: Camera, fixed: Tensor
) -> Tensor:
    """1 - NCC (B,) of what poses (B, 4, 4) render with pictures (B, H, W): gradient to the poses.

    What DiffPose adds to the geodesic. It costs a rendering with Jacobian per picture, more than
    the network's own step here, so the recipe leaves it out.
    """
    moving = projector.image(camera_from_ct, camera)
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (moving, fixed.to(moving)))
    norms = (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)
    return 1.0 - (a * b).sum(1) / norms


def gradient_matching_loss(
    similarity: Similarity,
    projector: Projector,
    camera: Camera,
    poses: Tensor,
    true_poses: Tensor,
    metric: Metric = "se3",
    unit: bool = True,
) -> Tensor:
    """The similarity's gradient with respect to the pose against the geodesic's; double backward.

    Args:
        similarity: epsilon of rendered pictures, its fixed pictures inside.
        projector, camera: render ``poses``.
        poses, true_poses: (B, 4, 4).
        metric: of the geodesic.
        unit: compare directions of the translation's and the rotation's gradient apart (free of
            scale); False: the whole gradients, the geodesic's squared half as a quadratic bowl.

    Returns:
        (B,): 0 where the gradients agree.
    """
    centre = torch.from_numpy(projector.isocentre_lps_mm).to(poses)
    xi = torch.zeros(len(poses), 6, dtype=poses.dtype, device=poses.device, requires_grad=True)
    moved = se3.left_increment(poses.detach(), xi, centre)
    value = similarity(projector.image(moved, camera))
    (learned,) = torch.autograd.grad(value.sum(), xi, create_graph=True)
    xi = torch.zeros_like(xi, requires_grad=True)  # another graph, which may be freed
    moved = se3.left_increment(poses.detach(), xi, centre)
    distance = pose_distance(moved, true_poses, centre, metric)
    wanted_of = distance if unit else 0.5 * distance**2
    (wanted,) = torch.autograd.grad(wanted_of.sum(), xi)
    if not unit:
        return (learned - wanted).norm(dim=1)
    terms = [
        1.0 - torch.nn.functional.cosine_similarity(learned[:, part], wanted[:, part], dim=1)
        for part in (slice(0, 3), slice(3, 6))
    ]
    return terms[0] + terms[1]


def lm_step_loss(
    residual: ResidualAndJacobian,
    projector: Projector,
    camera: Camera,
    poses: Tensor,
    true_poses: Tensor,
    steps: int = 1,
    metric: Metric = "se3",
    config: LevenbergMarquardtConfig = _AS_REGISTRATION,
) -> Tensor:
    """Distance (B,) to the truth after ``steps`` Levenberg-Marquardt steps, unrolled.

    The steps are those of a registration (robust kernel, damping, bounds), but none is refused: a
    network whose steps lead away must hear of it.

    The projector's own second derivative is left out: its Jacobian counts as independent of the
    pose. A later step's residual does depend on the pose that an earlier step has reached (it would
    undo most of what that one did wrong), to first order, which is the Jacobian that is there.
    """
    centre = torch.from_numpy(projector.isocentre_lps_mm).to(poses)

    def linearise(moved: Tensor, _: Tensor) -> Linearisation:
        at = moved.detach()
        with torch.no_grad():
            image, jacobian = projector.image_and_jacobian(at, camera)
        if moved.requires_grad:
            # 0, but with a gradient
            xi = se3.perturbation_between(at, moved, centre).to(jacobian)
            image = image + torch.einsum("bq,bqhw->bhw", xi - xi.detach(), jacobian)
        return residual(image, jacobian)

    def retract(moved: Tensor, xi: Tensor) -> Tensor:
        return se3.left_increment(moved, xi, centre)

    reached = unrolled_steps(linearise, retract, poses, steps, config, refuse=False)
    return pose_distance(reached, true_poses, centre, metric)
