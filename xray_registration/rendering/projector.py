"""What every projector does: a CT, poses and a camera in; line-integral images and Jacobians out.

The picture is the line integral of the linear attenuation, ``integral of mu ds`` (dimensionless,
bright bone): what ``-log(I / I0)`` of an ideal monochromatic radiograph would be.

The Jacobian is taken with respect to a left increment ``xi = (v mm, w rad)`` of ``camera_from_ct``
about the isocentre, in the axes of the camera (``geometry.se3.left_increment``). So tx, ty, rz move
the picture in its plane, and tz, rx, ry are depth and out-of-plane rotation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import Camera


class Projector(ABC):
    """Renders one CT volume for batches of poses. One view and one camera per call."""

    def __init__(self, isocentre_lps_mm: ArrayLike) -> None:
        centre = np.asarray(isocentre_lps_mm, dtype=np.float64)
        if centre.shape != (3,) or not np.isfinite(centre).all():
            raise InputError(f"isocentre_lps_mm is {centre.tolist()}; expected 3 finite numbers.")
        self._isocentre_lps_mm = centre

    @property
    def isocentre_lps_mm(self) -> NDArray[np.float64]:
        """The point (3,) in CT LPS mm that rotations leave where it is."""
        return self._isocentre_lps_mm

    @abstractmethod
    def image(
        self,
        camera_from_ct: Tensor,
        camera: Camera,
        sampling_axes: Sequence[int] | None = None,
    ) -> Tensor:
        """Line integrals (B, H, W) for ``camera_from_ct`` (B, 4, 4), CT in LPS mm.

        Differentiable in reverse mode with respect to ``camera_from_ct``, as long as that is moved
        on SE(3): the gradient has no component off the group.
        ``sampling_axes``: as from :meth:`sampling_axes`.
        """

    @abstractmethod
    def image_and_jacobian(
        self,
        camera_from_ct: Tensor,
        camera: Camera,
        sampling_axes: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The image (B, H, W) and its derivative (B, 6, H, W): three per mm, three per rad."""

    def sampling_axes(self, camera_from_ct: Tensor) -> Sequence[int] | None:
        """What a back end chooses from the pose, one entry per pose, to be held while optimising.

        A choice that flips between two iterations would put a step into the objective. None where
        the back end has no such choice.
        """
        return None


def checked_poses(camera_from_ct: Tensor) -> Tensor:
    """``camera_from_ct`` as (B, 4, 4), or an InputError. A single (4, 4) becomes a batch of one."""
    poses = camera_from_ct[None] if camera_from_ct.ndim == 2 else camera_from_ct
    if poses.ndim != 3 or poses.shape[-2:] != (4, 4):
        raise InputError(
            f"camera_from_ct has shape {tuple(camera_from_ct.shape)}; expected (B, 4, 4)."
        )
    if not bool(torch.isfinite(poses.detach()).all()):
        raise InputError("camera_from_ct has NaN or infinite entries.")
    return poses


class PoseGradient(torch.autograd.Function):
    """Gives an image that was rendered with its Jacobian a gradient to the pose matrix.

    Let g = (g_v, g_w) be the loss's gradient with respect to the increment. A matrix gradient
    (G_R, G_t) is sought with <G, dT> = g . xi for every tangent dT of the increment, which is
    dR = [w] R and dt = v - w x (R c) with c the isocentre. G_t = g_v and
    G_R = [g_w + (R c) x g_v]_x R / 2 satisfy it, since tr([h]^T [w]) = 2 h . w.

    With ``create_graph=True`` the pose gradient is itself differentiable in what the loss does with
    the image (an encoder's weights) and in the volume; the Jacobian counts as independent of the
    pose (its derivative, the image's second one, is not computed).
    """

    @staticmethod
    def forward(
        ctx: Any, camera_from_ct: Tensor, image: Tensor, jacobian: Tensor, isocentre: Tensor
    ) -> Tensor:
        ctx.save_for_backward(camera_from_ct, jacobian, isocentre)
        return image.clone()

    @staticmethod
    def backward(ctx: Any, grad_image: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """To the pose, and unchanged to the image, whose own graph may lead to the volume."""
        camera_from_ct, jacobian, isocentre = ctx.saved_tensors
        to_image = grad_image if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, to_image, None, None
        poses = camera_from_ct.detach()
        grad_xi = torch.einsum("bhw,bqhw->bq", grad_image, jacobian).to(poses)
        rotation = poses[:, :3, :3]
        lever = rotation @ isocentre.to(poses)
        axis = grad_xi[:, 3:] + torch.linalg.cross(lever, grad_xi[:, :3])
        # cross(axis, column) for each column of R
        grad_rotation = torch.linalg.cross(axis[:, :, None], rotation, dim=1) / 2
        top = torch.cat((grad_rotation, grad_xi[:, :3, None]), -1)
        return torch.cat((top, torch.zeros_like(top[:, :1])), 1), to_image, None, None
