"""What a registration is given, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import check_rigid
from xray_registration.registration.view import View


def checked_starts(
    views: Sequence[View], starts: ArrayLike, corners_lps_mm: NDArray[np.float64]
) -> Tensor:
    """Starts (4, 4) or (S, 4, 4) as (S, 4, 4) float64.

    Raises:
        InputError: no views; a start that is not rigid, or with which a view shows nothing of the
            box ``corners_lps_mm`` (8, 3).
    """
    if not views:
        raise InputError("no views were given; expected one or more.")
    try:
        matrices = np.asarray(starts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"rig_from_ct_start is not made of numbers: {error}") from error
    if matrices.ndim == 2:
        matrices = matrices[None]
    if matrices.ndim != 3 or not len(matrices):
        raise InputError(
            f"rig_from_ct_start has shape {matrices.shape}; expected (4, 4) or (S, 4, 4)."
        )
    names = [f"rig_from_ct_start[{n}]" for n in range(len(matrices))]
    if len(matrices) == 1:
        names = ["rig_from_ct_start"]
    rigid = np.stack([check_rigid(m, name) for m, name in zip(matrices, names, strict=True)])
    for matrix in rigid:
        _check_in_view(views, matrix, corners_lps_mm)
    return torch.from_numpy(rigid)


def is_in_view(
    views: Sequence[View], rig_from_ct: NDArray[np.float64], corners_lps_mm: NDArray[np.float64]
) -> bool:
    """Whether every view shows something of the box with this pose (4, 4)."""
    try:
        _check_in_view(views, rig_from_ct, corners_lps_mm)
    except InputError:
        return False
    return True


def _check_in_view(
    views: Sequence[View], rig_from_ct: NDArray[np.float64], corners_lps_mm: NDArray[np.float64]
) -> None:
    """InputError when a view shows nothing of the CT with this pose."""
    corners = np.c_[corners_lps_mm, np.ones(8)]
    for view in views:
        in_camera = (view.camera_from_rig @ rig_from_ct @ corners.T).T[:, :3]
        source = view.radiograph.source
        hint = "check the pose's direction (rig_from_ct), its units (mm) and its ct_axes."
        if in_camera[:, 2].min() <= 0:
            raise InputError(
                f"{source}: with the start pose the CT reaches behind the X-ray source "
                f"(z from {in_camera[:, 2].min():.0f} to {in_camera[:, 2].max():.0f} mm; "
                f"expected all of it in front); {hint}"
            )
        pixels = view.camera.project(in_camera)
        low, high = pixels.min(0), pixels.max(0)
        if (high < 0).any() or low[0] > view.camera.width or low[1] > view.camera.height:
            raise InputError(
                f"{source}: with the start pose the CT lies wholly outside the view: it "
                f"projects to columns {low[0]:.0f}..{high[0]:.0f} and rows {low[1]:.0f}.."
                f"{high[1]:.0f} of a {view.camera.width}x{view.camera.height} image; {hint}"
            )


def checked_device(device: str | torch.device) -> torch.device:
    """A device that torch can use here; InputError otherwise."""
    try:
        checked = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device is {device!r}; expected 'cpu' or 'cuda'.") from error
    if checked.type not in ("cpu", "cuda"):
        raise InputError(f"device is {device!r}; expected 'cpu' or 'cuda'.")
    if checked.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device is {device!r} but torch sees no CUDA device; use 'cpu'.")
    if checked.type == "cuda" and (checked.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is {device!r} but torch sees {torch.cuda.device_count()} CUDA device(s), "
            "counted from 0; use one of them or 'cpu'."
        )
    return checked
