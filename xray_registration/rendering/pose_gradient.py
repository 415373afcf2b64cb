"""The gradient of a similarity with respect to the pose, as something that can be trained.

With e(I) a scalar similarity of an image and J = dI/dxi from the projector, the chain rule gives
de/dxi = J^T de/dI. J does not depend on what e does with the image; so a loss on de/dxi (gradient
matching: it shall point where a geodesic distance's gradient points) reaches e's own parameters
through de/dI, by a second reverse pass through e alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xray_registration.errors import InputError


def similarity_and_pose_gradient(
    similarity: Callable[[Tensor], Tensor], image: Tensor, jacobian: Tensor
) -> tuple[Tensor, Tensor]:
    """A similarity and its derivative with respect to the increment of each pose.

    Args:
        similarity: images (B, H, W) to (B,); the b-th value may depend on the b-th image only.
            Any parameters that it holds may require gradients.
        image: (B, H, W), of ``Projector.image_and_jacobian``. With a volume that requires a
            gradient both it and the Jacobian lead there as well.
        jacobian: (B, 6, H, W).

    Returns:
        The similarity (B,) and its gradient (B, 6) with respect to (v mm, w rad). Both carry a
        graph; a loss on either reaches the similarity's parameters.

    Raises:
        InputError: shapes do not fit, or the similarity does not depend on the image.
    """
    if image.ndim != 3 or tuple(jacobian.shape) != (len(image), 6, *image.shape[1:]):
        raise InputError(
            f"image {tuple(image.shape)} and jacobian {tuple(jacobian.shape)}; expected (B, H, W) "
            "and (B, 6, H, W)."
        )
    with torch.enable_grad():
        seen = image if image.requires_grad else image.detach().requires_grad_()
        value = similarity(seen)
        if tuple(value.shape) != (len(image),):
            raise InputError(
                f"the similarity gave shape {tuple(value.shape)}; expected one value for each of "
                f"{len(image)} images."
            )
        by_image = None
        if value.requires_grad:
            (by_image,) = torch.autograd.grad(
                value.sum(), seen, create_graph=True, allow_unused=True
            )
        if by_image is None:
            raise InputError("the similarity does not depend on the image: it has no graph to it.")
        return value, pose_gradient(by_image, jacobian)


def pose_gradient(gradient_by_image: Tensor, jacobian: Tensor) -> Tensor:
    """J^T de/dI: (B, H, W) and (B, 6, H, W) to (B, 6)."""
    return torch.einsum("bhw,bqhw->bq", gradient_by_image, jacobian)
