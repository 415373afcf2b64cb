"""Image and image + 6-DoF Jacobian: our projector beside DiffDRR 0.6.1 and nanodrr 0.1.7.

    python -m benchmarks.projector [--quick] [--json FILE] [--plot FILE] [--device cpu|cuda]

The example CT at about 1.4 mm, one camera, one pose, and for all who march along rays as many
samples per ray as ours has slices. DiffDRR and nanodrr have no Jacobian: theirs are central
differences, thirteen images, batched. The contestants take turns call by call, so a disturbance of
the machine meets all of them; medians are given, and ratios within the run. "DiffDRR" is its
renderers on whole images, as its own module calls them; "in patches" is our back end on the same
renderers with calls that fit the caches.

--quick ends within four minutes: whatever would not fit any more is left out and listed. Ratios of
the main table are with one thread; those with two are in the JSON, and those of the processor's
time, which other people's load disturbs less than the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.projector_memory import extra_peak_mb
from benchmarks.projector_peers import contestants
from benchmarks.projector_race import Budget, Cell, Race, camera_of, pose_of, timed
from benchmarks.projector_report import plot, print_report
from xray_registration.files import write_atomically
from xray_registration.imaging.example import example_ct_path
from xray_registration.imaging.volume import CTVolume, load_ct
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.rendering.diffdrr_backend import DiffDRRProjector


def fitted_exponent(amounts: Sequence[float], seconds: Sequence[float]) -> float | None:
    """Slope of log(seconds) over log(amounts), least squares; None below three points."""
    if len(amounts) < 3:
        return None
    return float(np.polyfit(np.log(amounts), np.log(seconds), 1)[0])


def ratios_of(cells: Sequence[Cell], threads: int, cpu: bool = False) -> dict[str, float]:
    """Seconds of a peer over ours, batch 1: (torch_)(image|jacobian)_SIZE_vs_PEER."""
    seconds = {
        (c.contestant, c.kind, c.size): c.cpu_median if cpu else c.median
        for c in cells
        if c.threads == threads and c.batch == 1
    }
    fast = "native" if any(c.contestant == "native" for c in cells) else "torch"
    found = {}
    for (peer, kind, size), value in sorted(seconds.items(), key=lambda item: str(item[0])):
        if peer in ("native", "torch"):
            continue
        for ours, prefix in ((fast, ""), ("torch", "torch_")):
            if (ours, kind, size) in seconds:
                own = seconds[ours, kind, size]
                found[f"{prefix}{kind}_{size}_vs_{peer}"] = value / own
    return found


def differences_of(race: Race, volume: AttenuationVolume) -> dict[str, float]:
    """Relative image difference (2-norm) at 128 x 128 to DiffDRR trilinear with 4x the samples."""
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    camera = camera_of(128)
    reference = DiffDRRProjector(volume, samples=4 * race.samples).image(race.poses, camera)
    found = {}
    for contestant in race.contestants:
        if contestant.key == "diffdrr_patches":
            continue
        image = contestant.image(race.poses, camera)
        found[contestant.key] = float((image - reference).norm() / reference.norm())
    return found


def scaling(ct: CTVolume, device: str, quick: bool, budget: Budget, reserve: float) -> list[Cell]:
    """Image of 128 x 128 from coarser and coarser volumes."""
    cells = []
    for spacing in (2.1, 2.8, 4.2, 5.6):
        if budget.left() < reserve + 10:
            budget.left_out.append(f"all: cost against volume at {spacing} mm")
            continue
        volume = AttenuationVolume.from_ct(ct, spacing_mm=spacing, device=device)
        race = Race(volume, device, quick, budget)
        keys = ["native", "torch", "diffdrr_patches", "nanodrr"]
        cells += race.run("image", 128, rounds=3, only=keys, reserve=reserve)
    return cells


def full_ct(ct: CTVolume, device: str) -> dict[str, float]:
    """512 x 512 of every voxel of the CT, 2 threads: seconds and extra memory of the first call."""
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    volume = AttenuationVolume.from_ct(ct, device=device)
    projector, poses, camera = JosephProjector(volume), pose_of(volume, device), camera_of(512)
    result: dict[str, float] = {"voxels": float(np.prod(volume.shape_ijk))}
    begin = time.perf_counter()
    result["extra_memory_mb"] = extra_peak_mb(lambda: projector.image_and_jacobian(poses, camera))
    result["first_call_seconds"] = time.perf_counter() - begin
    for kind, call in (
        ("image", projector.image),
        ("image_and_jacobian", projector.image_and_jacobian),
    ):
        seconds = [timed(partial(call, poses, camera), device) for _ in range(5)]
        result[f"{kind}_seconds"] = float(np.median(seconds))
    return result


def memory(volume: AttenuationVolume, race: Race, quick: bool) -> dict[str, float]:
    """Extra peak memory (MB) of a first image + Jacobian; fresh contestants, one thread."""
    torch.set_num_threads(1)
    sizes = (128,) if quick else (128, 512)
    found = {}
    for size in sizes:
        for contestant in contestants(volume, race.samples)[0]:
            if contestant.key == "siddon" or (size > 128 and contestant.key in _SLOW):
                continue
            call = partial(contestant.image_and_jacobian, race.poses, camera_of(size))
            found[f"{contestant.key}_{size}"] = extra_peak_mb(call)
    return found


_SLOW = ("diffdrr", "diffdrr_patches", "nanodrr")


def _plan(quick: bool) -> list[dict[str, Any]]:
    """What the race measures, most important first: a quick run may have to leave out the end."""
    ours = ["native", "torch"]
    marching = [*ours, "diffdrr", "diffdrr_patches", "nanodrr"]
    if not quick:
        return [
            {"kind": kind, "size": size, "batch": batch, "threads": threads, "rounds": 5}
            for batch in (1, 8)
            for threads in (1, 2)
            for size in (128, 256, 64, 512)
            for kind in ("image", "jacobian")
        ]
    plan: list[dict[str, Any]] = [
        {"kind": "image", "size": 128, "rounds": 3},
        {"kind": "jacobian", "size": 128, "rounds": 3, "only": marching},
        {"kind": "jacobian", "size": 256, "rounds": 3, "only": [*ours, "nanodrr", "diffdrr"]},
        {"kind": "image", "size": 256, "rounds": 2, "only": [*ours, "nanodrr", "diffdrr"]},
    ]
    plan += [
        {"kind": kind, "size": size, "threads": threads, "rounds": 2, "only": ours}
        for threads in (1, 2)
        for size in (512, 128, 256, 64)
        for kind in ("image", "jacobian")
        if threads == 2 or size in (64, 512)
    ]
    return [*plan, {"kind": "jacobian", "size": 128, "batch": 8, "rounds": 2, "only": ours}]


def training_stream(seconds: float) -> dict[str, Any]:
    """In a process of its own, so that the memory is its own."""
    command = [sys.executable, "-m", "benchmarks.training_stream", "--seconds", f"{seconds:g}"]
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def machine(device: str) -> dict[str, Any]:
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"CPU: {name}",
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def measure(quick: bool, device: str) -> dict[str, Any]:
    started = time.perf_counter()
    budget = Budget(quick, started)
    before = machine(device)
    ct = load_ct(example_ct_path())
    volume = AttenuationVolume.from_ct(ct, spacing_mm=1.4, device=device)
    race = Race(volume, device, quick, budget)
    reserve = 60.0 if quick else 0.0  # for what comes after the race
    cells: list[Cell] = []
    peak = memory(volume, race, quick)
    for cell in _plan(quick):
        cells += race.run(**cell, reserve=reserve)
    volumes = [c for c in cells if (c.kind, c.size, c.batch, c.threads) == ("image", 128, 1, 1)]
    volumes += scaling(ct, device, quick, budget, reserve=35.0 if quick else 0.0)
    keys = [c.key for c in race.contestants]
    single = [c for c in cells if c.batch == 1 and c.threads == 1]
    return {
        "machine": before,
        "samples_per_ray": race.samples,
        "volume_shape_ijk": list(volume.shape_ijk),
        "titles": {c.key: c.title for c in race.contestants},
        "ratios": ratios_of(cells, 1),
        "ratios_2_threads": ratios_of(cells, 2),
        "ratios_of_processor_time": ratios_of(cells, 1, cpu=True),
        "relative_difference": differences_of(race, volume),
        "cells": [asdict(c) | {"median": c.median} for c in cells],
        "volume_cells": [asdict(c) | {"median": c.median} for c in volumes],
        "exponent_in_pixels": {
            f"{key} {kind}": fitted_exponent(
                [float(c.size**2) for c in some], [c.median for c in some]
            )
            for key in keys
            for kind in ("image", "jacobian")
            for some in [[c for c in single if (c.contestant, c.kind) == (key, kind)]]
        },
        "exponent_in_voxels": {
            key: fitted_exponent([float(c.voxels) for c in some], [c.median for c in some])
            for key in keys
            for some in [[c for c in volumes if c.contestant == key]]
        },
        "extra_peak_memory_mb": peak,
        "full_ct_512": full_ct(ct, device),
        "training_stream": training_stream(5.0 if quick else 15.0),
        "left_out": budget.left_out,
        "absent": race.absent,
        "load_average_after": list(os.getloadavg()),
        "seconds": time.perf_counter() - started,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="end within four minutes")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plot", type=Path, default=Path("benchmark_output/projector.png"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device; accepted here: cpu")
    result = measure(arguments.quick, arguments.device)
    print_report(result)
    arguments.plot.parent.mkdir(parents=True, exist_ok=True)
    plot(result, arguments.plot)
    print(f"plot: {arguments.plot}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(arguments.json, (json.dumps(result, indent=1) + "\n").encode())
        print(f"figures: {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
