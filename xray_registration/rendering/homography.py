"""A camera turned about its focal spot sees the same rays: its picture is a re-sampled one.

A point p in the camera frame is R p in the frame of the turned camera, so pixel u of the one and
pixel u' of the other lie on the same ray when u' ~ K' R K^-1 u (Hartley and Zisserman, *Multiple
View Geometry*, section 8.4). Line integrals belong to rays: they are carried over unchanged. What
it costs is an interpolation between pixels, and no ray leaves the focal spot: a shift of the source
needs a new rendering.

One wide rendering thus gives many training images: any K, any roll, any tilt about the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import Camera

Interpolation = Literal["bilinear", "bicubic"]


def turned_pose(turned_from_camera: Tensor, camera_from_ct: Tensor) -> Tensor:
    """Pose (..., 4, 4) after a rotation (..., 3, 3) of the camera about its focal spot."""
    _check_rotations(turned_from_camera)
    top = turned_from_camera.to(camera_from_ct) @ camera_from_ct[..., :3, :]
    return torch.cat((top, camera_from_ct[..., 3:, :].expand_as(top[..., :1, :])), -2)


def resample_turned(
    images: Tensor,
    camera: Camera,
    turned_cameras: Camera | Sequence[Camera],
    turned_from_camera: Tensor,
    source: Sequence[int] | Tensor | None = None,
    interpolation: Interpolation = "bicubic",
) -> tuple[Tensor, Tensor]:
    """What cameras at the same focal spot, turned and with other intrinsics, see.

    Args:
        images: (B, H, W) of ``camera``: line integrals, or columns of a Jacobian's translations.
        camera: of all ``images``.
        turned_cameras: one for all N results, or N of the same size.
        turned_from_camera: (N, 3, 3) rotations, ``p_turned = R p_camera``.
        source: (N,) which of ``images`` each result is taken from; None when N = B, one from each.
        interpolation: "bicubic" is closer to a rendering, "bilinear" is faster.

    Returns:
        Images (N, H', W'), differentiable in ``images``, and whether (N, H', W') the pixel's ray
        was inside the given image; where not, the value is 0.

    Raises:
        InputError: shapes do not fit, or a matrix is no rotation.
    """
    _check_rotations(turned_from_camera)
    count = len(turned_from_camera)
    cameras = [turned_cameras] * count if isinstance(turned_cameras, Camera) else turned_cameras
    if images.ndim != 3 or tuple(images.shape[1:]) != (camera.height, camera.width):
        raise InputError(
            f"images have shape {tuple(images.shape)}; expected (B, {camera.height}, "
            f"{camera.width}) of the camera."
        )
    if len(cameras) != count or len({(c.width, c.height) for c in cameras}) != 1:
        raise InputError(
            f"{len(cameras)} turned cameras of the sizes (width, height) "
            f"{sorted({(c.width, c.height) for c in cameras})} for {count} rotations; expected one "
            "camera per rotation, all of one size."
        )
    if source is None and count != len(images):
        raise InputError(f"{count} rotations for {len(images)} images; say which with `source`.")
    picked = images if source is None else images[torch.as_tensor(source, device=images.device)]
    if interpolation not in ("bilinear", "bicubic"):
        raise InputError(f"interpolation is {interpolation!r}; expected 'bilinear' or 'bicubic'.")
    pixels, inside = _pixels(camera, cameras, turned_from_camera, images.device)
    size = pixels.new_tensor([max(camera.width - 1, 1), max(camera.height - 1, 1)])
    grid = torch.where(inside[..., None], 2 * pixels / size - 1, -3.0).to(images.dtype)
    result = F.grid_sample(picked[:, None], grid, interpolation, "border", align_corners=True)
    return torch.where(inside, result[:, 0], 0.0), inside


def covering_camera(
    turned_cameras: Camera | Sequence[Camera],
    turned_from_camera: Tensor,
    pixel_scale: float = 1.0,
    margin_px: int = 2,
) -> Camera:
    """The camera, not turned, whose image holds every ray of the turned ones.

    Args:
        turned_cameras: one for all, or one per rotation.
        turned_from_camera: (N, 3, 3), each less than a right angle off.
        pixel_scale: its focal length in pixels relative to the first turned camera's; above 1, the
            interpolation of ``resample_turned`` loses less.
        margin_px: more pixels on every side (the interpolation reads two).

    Raises:
        InputError: a ray would go sideways or backwards.
    """
    _check_rotations(turned_from_camera)
    count = len(turned_from_camera)
    cameras = [turned_cameras] * count if isinstance(turned_cameras, Camera) else turned_cameras
    first = cameras[0]
    focal = np.diag([first.fx * pixel_scale, first.fy * pixel_scale, 1.0])
    rotations = turned_from_camera.detach().to("cpu", torch.float64).numpy()
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for camera, rotation in zip(cameras, rotations, strict=True):
        right, bottom = camera.width - 1, camera.height - 1
        corners = np.array([(0, 0, 1), (right, 0, 1), (0, bottom, 1), (right, bottom, 1)])
        rays = corners @ np.linalg.inv(camera.K).T @ rotation
        if (rays[:, 2] <= 1e-3 * np.linalg.norm(rays, axis=1)).any():
            raise InputError(
                "a turned camera looks sideways or backwards: one flat image cannot hold its "
                "rays; expected rotations well below 90 degrees"
            )
        pixels = (rays / rays[:, 2:]) @ focal.T
        low = np.minimum(low, pixels[:, :2].min(0))
        high = np.maximum(high, pixels[:, :2].max(0))
    width, height = (int(n) for n in np.ceil(high - low) + 1 + 2 * margin_px)
    k = focal.copy()
    # the middle of what is needed lies in the middle of the image
    k[:2, 2] = (np.array([width, height]) - 1) / 2 - (low + high) / 2
    return Camera(k, width, height, first.sdd_mm)


def _pixels(
    camera: Camera,
    turned: Sequence[Camera],
    turned_from_camera: Tensor,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Where (N, H', W', 2) in ``camera``'s image the turned cameras' rays are; whether inside."""
    rotation = turned_from_camera.detach().to("cpu", torch.float64).numpy()
    inverses: NDArray[np.float64] = np.stack([np.linalg.inv(c.K) for c in turned])
    matrix = torch.from_numpy(camera.K @ rotation.transpose(0, 2, 1) @ inverses).to(device)
    height, width = turned[0].height, turned[0].width
    v = torch.arange(height, dtype=torch.float64, device=device)[:, None]
    u = torch.arange(width, dtype=torch.float64, device=device)[None, :]
    pixel = torch.stack((u.expand(height, width), v.expand(height, width), torch.ones_like(u + v)))
    mapped = (matrix @ pixel.flatten(1)).unflatten(-1, (height, width))
    depth = mapped[:, 2:]
    in_front = depth > 0
    pixels = mapped[:, :2] / torch.where(in_front, depth, 1.0)
    low, high = -0.5, torch.tensor([camera.width - 0.5, camera.height - 0.5], device=device)
    within = (pixels >= low) & (pixels <= high[:, None, None])
    return pixels.movedim(1, -1), within.all(1) & in_front[:, 0]


def _check_rotations(rotation: Tensor) -> None:
    if rotation.ndim < 2 or tuple(rotation.shape[-2:]) != (3, 3) or rotation.ndim > 3:
        raise InputError(
            f"turned_from_camera has shape {tuple(rotation.shape)}; expected (N, 3, 3)."
        )
    matrix = rotation.detach().double()
    eye = torch.eye(3, dtype=torch.float64, device=rotation.device)
    error = (matrix @ matrix.mT - eye).abs().amax()
    if not bool(error < 1e-4) or not bool((torch.linalg.det(matrix) > 0).all()):
        raise InputError(
            "turned_from_camera is not a rotation: expected orthonormal 3x3 of determinant +1."
        )
