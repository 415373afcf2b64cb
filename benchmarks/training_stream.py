"""How many training images a second: rendered, turned about the source, randomised.

One wide rendering of a random pose gives several images by homographies (other tilt, roll, shift,
focal length); each is then disturbed as domain randomisation does. Run alone for one result in a
process of its own, so that its memory is its own:

    python -m benchmarks.training_stream --seconds 10
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xray_registration.geometry import Camera, left_increment, so3_exp
from xray_registration.imaging.example import example_ct_path
from xray_registration.imaging.volume import load_ct
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.rendering.homography import covering_camera, resample_turned, turned_pose

CAMERA = Camera.from_detector(128, 128, 300 / 128, 1020.0)
# half widths of the uniform ranges: pose (v mm, w rad) about the isocentre, turn about the source
_POSE = torch.tensor([50, 50, 100, 0.35, 0.35, 0.35], dtype=torch.float64)
_TURN = torch.tensor([0.03, 0.03, 0.35], dtype=torch.float64)


def frontal_pose(volume: AttenuationVolume, distance_mm: float = 700.0) -> Tensor:
    """camera_from_ct (4, 4): from the front, the volume's centre on the optical axis."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    pose[:3, 3] = torch.tensor([0.0, 0.0, distance_mm], dtype=torch.float64)
    pose[:3, 3] -= pose[:3, :3] @ torch.from_numpy(volume.centre_lps_mm)
    return pose


def batch(
    projector: JosephProjector, start: Tensor, poses: int, turns: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[Camera]]:
    """Randomised images (poses x turns, 128, 128), the true camera_from_ct and camera of each."""

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1

    centre = torch.from_numpy(projector.isocentre_lps_mm)
    rendered_poses = left_increment(start, uniform(poses, 6) * _POSE, centre)
    if turns == 1:
        images = projector.image(rendered_poses, CAMERA)
        return randomised(images, generator), rendered_poses, [CAMERA] * poses
    every = poses * turns
    rotations = so3_exp(uniform(every, 3) * _TURN)
    cameras = []
    for zoom in uniform(every).tolist():
        k = CAMERA.K * np.array([[1 + 0.05 * zoom, 1, 1], [1, 1 + 0.05 * zoom, 1], [1, 1, 1]])
        cameras.append(Camera(k, CAMERA.width, CAMERA.height, CAMERA.sdd_mm))
    wide = covering_camera(cameras, rotations)
    source = torch.arange(every) // turns
    pictures = projector.image(rendered_poses, wide)
    images, _ = resample_turned(pictures, wide, cameras, rotations, source, "bilinear")
    truth = turned_pose(rotations, rendered_poses[source])
    return randomised(images, generator), truth, cameras


def randomised(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each step with p = 0.5 per image: blur, noise, window, gamma, sine, erased rectangle."""
    count, height, width = images.shape

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    def some() -> Tensor:
        return torch.rand(count, 1, 1, generator=generator) < 0.5

    x = images / images.amax((1, 2), keepdim=True).clamp_min(1e-6)
    x = torch.where(some(), F.avg_pool2d(x[:, None], 3, 1, 1, count_include_pad=False)[:, 0], x)
    noise = torch.randn(x.shape, generator=generator)
    x = x + torch.where(some(), draw(0.0, 0.03), 0.0) * noise
    low, high = draw(-0.04, 0.02), draw(0.9, 1.05)
    x = torch.where(some(), (x - low) / (high - low), x).clamp_(0, 1)
    x = torch.where(some(), x ** draw(0.7, 1.3), x)
    wave = draw(0.8, 1.1) * torch.sin(draw(0.8, 1.1) * x + draw(-0.4, 0.5))
    x = torch.where(some(), wave, x)
    area, aspect = draw(0.02, 0.4), draw(0.3, 1.0)
    tall, broad = (area * aspect).sqrt() * height, (area / aspect).sqrt() * width
    v, u = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    middle_v, middle_u = draw(0, height), draw(0, width)
    inside = ((v - middle_v).abs() < tall / 2) & ((u - middle_u).abs() < broad / 2)
    return torch.where(some() & inside, x.mean((1, 2), keepdim=True), x)


def measure(
    seconds: float, spacing_mm: float, workers: int, poses: int, turns: int
) -> dict[str, float | int | str]:
    """Images per second over about ``seconds``, and this process' memory.

    Each worker is a Python thread that makes whole batches with one torch thread: the heavy calls
    release the interpreter, and no core waits for another within a small operation.
    """
    volume = AttenuationVolume.from_ct(load_ct(example_ct_path()), spacing_mm=spacing_mm)
    projector = JosephProjector(volume)
    start = frontal_pose(volume)
    batch(projector, start, poses, turns, torch.Generator().manual_seed(0))  # layouts, caches
    begin, used = time.perf_counter(), time.process_time()

    def work(seed: int) -> int:
        torch.set_num_threads(1)  # counts for this Python thread
        generator, made = torch.Generator().manual_seed(seed), 0
        while time.perf_counter() - begin < seconds:
            images, truth, _ = batch(projector, start, poses, turns, generator)
            assert images.isfinite().all()
            assert len(truth) == len(images)
            made += len(images)
        return made

    with ThreadPoolExecutor(workers) as pool:
        total = sum(pool.map(work, range(1, workers + 1)))
    return {
        "images_per_second": total / (time.perf_counter() - begin),
        "images_per_second_of_one_core": total / (time.process_time() - used),
        "workers": workers,
        "images_of_one_rendering": turns,
        "renderings_of_a_batch": poses,
        "spacing_mm": spacing_mm,
        "voxels": int(np.prod(volume.shape_ijk)),
        "backend": projector.backend,
        "peak_process_memory_mb": peak_memory_mb(),
    }


def peak_memory_mb() -> float:
    """The most that this process has held at any time (Linux: VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--spacing-mm", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--poses", type=int, default=2, help="wide renderings per batch")
    parser.add_argument(
        "--turns", type=int, default=8, help="images per rendering; 1: no homography"
    )
    arguments = parser.parse_args()
    result = measure(
        arguments.seconds,
        arguments.spacing_mm,
        arguments.workers,
        arguments.poses,
        arguments.turns,
    )
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
