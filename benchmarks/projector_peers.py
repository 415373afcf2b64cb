"""Who takes part in benchmarks/projector.py, each behind the same two calls.

nanodrr is not a dependency of this package: it is installed, pinned, into a folder of the
benchmark's own below the user's cache, and only the benchmark's process looks there. It runs on the
same torch in the same process, so that the calls can be interleaved.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xray_registration.geometry import Camera, inverse, left_increment
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.rendering.diffdrr_backend import DiffDRRProjector

_NANODRR = ("nanodrr==0.1.7", "platformdirs==4.9.4")
# DiffDRR's renderers with all pixels of an image in one call, as DRR.forward gives them
_WHOLE_IMAGES = 1 << 62

Image = Callable[[Tensor, Camera], Tensor]
ImageAndJacobian = Callable[[Tensor, Camera], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Contestant:
    """One projector: poses (B, 4, 4) and a camera to (B, H, W), and with (B, 6, H, W)."""

    key: str
    title: str
    image: Image
    image_and_jacobian: ImageAndJacobian


def contestants(
    volume: AttenuationVolume, samples: int, nanodrr: bool = True
) -> tuple[list[Contestant], list[str]]:
    """All that can run on this machine, ours first, and why the others cannot."""
    found, absent = [], []
    compiled = JosephProjector(volume)
    if compiled.backend == "native":
        found.append(_of("native", "ours, compiled", compiled))
    else:
        absent.append("ours, compiled: no kernel (no compiler, or the volume is on a GPU)")
    found.append(_of("torch", "ours, plain torch", JosephProjector(volume, backend="torch")))
    whole = DiffDRRProjector(volume, samples=samples, samples_per_call=_WHOLE_IMAGES)
    found.append(_of("diffdrr", "DiffDRR trilinear", whole))
    patches = DiffDRRProjector(volume, samples=samples)
    found.append(_of("diffdrr_patches", "DiffDRR trilinear, in patches", patches))
    found.append(_of("siddon", "DiffDRR Siddon", DiffDRRProjector(volume, renderer="siddon")))
    if nanodrr:
        try:
            found.append(_nanodrr(volume, samples))
        except (ImportError, OSError, subprocess.SubprocessError) as error:
            absent.append(f"nanodrr: {error}")
    return found, absent


def _of(key: str, title: str, projector: Any) -> Contestant:
    return Contestant(key, title, projector.image, projector.image_and_jacobian)


def _nanodrr(volume: AttenuationVolume, samples: int) -> Contestant:
    folder = str(_installed_nanodrr())
    if folder not in sys.path:
        sys.path.append(folder)  # last: nothing of ours is shadowed
    from nanodrr.data import Subject
    from nanodrr.drr import render
    from torchio import ScalarImage

    data = volume.mu_per_mm.cpu().permute(2, 1, 0)[None].contiguous()
    scan = ScalarImage(tensor=data, affine=volume.lps_from_index)
    subject = Subject.from_images(scan, convert_to_mu=False).to(volume.mu_per_mm.device)
    like = volume.mu_per_mm

    @torch.no_grad()
    def image(poses: Tensor, camera: Camera) -> Tensor:
        k = torch.from_numpy(camera.half_pixel_corner_intrinsics())
        k_inverse = torch.linalg.inv(k).to(like).expand(len(poses), 3, 3)
        # the "detector" only has to lie behind the volume: rays are clipped to it
        sdd = like.new_full((len(poses),), camera.sdd_mm or 2000.0)
        size = (camera.height, camera.width)
        ct_from_camera = inverse(poses.double()).to(like)
        rendered: Tensor = render(subject, k_inverse, ct_from_camera, sdd, *size, samples)
        return rendered[:, 0]

    centre = torch.from_numpy(volume.centre_lps_mm)
    steps = torch.tensor([0.1] * 3 + [1e-3] * 3, dtype=torch.float64)

    def image_and_jacobian(poses: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        increments = torch.cat((torch.diag(steps), -torch.diag(steps)))
        images, jacobians = [], []
        for pose in poses.double():  # the thirteen images of a pose are one batch
            moved = left_increment(pose, increments, centre)
            rendered = image(torch.cat((pose[None], moved)), camera)
            images.append(rendered[0])
            jacobians.append((rendered[1:7] - rendered[7:]) / (2 * steps.to(like)[:, None, None]))
        return torch.stack(images), torch.stack(jacobians)

    return Contestant("nanodrr", "nanodrr", image, image_and_jacobian)


def _installed_nanodrr() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    parent = Path(root) / "xray_registration" / "benchmarks"
    folder = parent / "-".join(_NANODRR).replace("==", "-")
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {' '.join(_NANODRR)} into {folder}", flush=True)
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        target = Path(scratch) / "packages"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*command, "--target", str(target), *_NANODRR], check=True, timeout=300)
        if not folder.exists():
            target.rename(folder)
    return folder
