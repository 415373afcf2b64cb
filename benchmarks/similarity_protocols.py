"""What a similarity is worth in the evaluation's protocols.

Of every case two ends are measured, as true mTRE in mm and CPU seconds: after the first level
alone, and after a whole registration. The first level is the learned one or, in the row without
learning, the engine's coarsest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xray_registration.evaluation.cases import Case
from xray_registration.evaluation.datasets import load_patient
from xray_registration.evaluation.metrics import mtre_mm
from xray_registration.evaluation.pictures import pictures_of
from xray_registration.evaluation.protocol import load_protocol
from xray_registration.evaluation.runner import RunOptions, make_job
from xray_registration.evaluation.worker import case_views, cases_of
from xray_registration.registration import Registrar, RegistrationConfig, View
from xray_registration.registration.config import Level

#: protocol, upper ends of the bins of start mTRE, cases of each bin
CASES = (
    ("spine-hard-single", (5.0, 10.0, 20.0, 40.0), 5),
    ("spine-hard-biplane", (5.0, 10.0, 20.0, 40.0), 5),
    ("spine-single", (80.0,), 20),
    ("spine-hard-single", (80.0,), 10),
    ("spine-hard-biplane", (80.0,), 10),
)
#: of the learned level: the pixels it was trained on
LEARNED_LEVEL = {"pixel_mm": 3.2, "spacing_mm": 5.0, "max_iterations": 20}


@dataclass(frozen=True)
class _Task:
    protocol: str
    bins: tuple[float, ...]
    per_bin: int
    checkpoint: str  # empty: the engine without learning
    part: int
    parts: int


def figures_of(checkpoint: Path | None, jobs: int, per_bin: float = 1.0) -> dict[str, Any]:
    """Of one row of the table, by protocol and bins.

    Args:
        checkpoint: NAME.json of a learned similarity; None: the engine's own levels.
        jobs: processes; their threads are one each.
        per_bin: share of the cases.
    """
    figures = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for protocol, bins, count in CASES:
            task = _Task(
                protocol, bins, max(1, math.ceil(per_bin * count)), str(checkpoint or ""), 0, jobs
            )
            parts = pool.map(_run, [replace(task, part=n) for n in range(jobs)])
            ends = [end for part in parts for end in part]
            name = f"{protocol}, {'to' if len(bins) > 1 else '40 to'} {bins[-1]:g} mm"
            figures[name] = {kind: _summary([end[kind] for end in ends]) for kind in ends[0]}
    return figures


def _summary(ends: Sequence[tuple[float, float]]) -> dict[str, float]:
    mm, cpu_s = (np.array(column) for column in zip(*ends, strict=True))
    return {
        "cases": len(mm),
        "median_mm": float(np.median(mm)),
        "below_2_mm_percent": 100.0 * float(np.mean(mm < 2.0)),
        "below_10_mm_percent": 100.0 * float(np.mean(mm < 10.0)),
        "cpu_s": float(np.mean(cpu_s)),
    }


def _run(task: _Task) -> list[dict[str, tuple[float, float]]]:
    """Every ``parts``-th case: (mTRE, CPU s) of each kind of end."""
    torch.set_num_threads(1)
    protocol = load_protocol(task.protocol)
    targets, cases = cases_of(make_job(protocol, RunOptions()))
    ct, labels = load_patient(protocol.patient)
    config = RegistrationConfig(structures=protocol.structures)
    if task.checkpoint:
        learned = Level(similarity="spherical", checkpoint=task.checkpoint, **LEARNED_LEVEL)
        config = config.with_levels(learned, *config.levels)
    registrar = Registrar(ct, config, label_map=labels)
    ends = []
    for case in list(_chosen(cases.values(), task))[task.part :: task.parts]:
        views = case_views(case, pictures_of(case, 1))
        start = case.rig_from_ct_start
        kinds: dict[str, Callable[[], NDArray[np.float64]]] = {
            "alone": lambda v=views, s=start: _after_first(registrar, v, s),
            "all levels": lambda v=views, s=start: registrar.register(v, s).rig_from_ct,
        }
        found = {}
        for kind, pose_of in kinds.items():
            began = time.process_time()
            pose = pose_of()
            cpu_s = time.process_time() - began
            error = mtre_mm(pose, case.rig_from_ct, targets.points_lps_mm)
            found[kind] = (float(error), cpu_s)
        ends.append(found)
    return ends


@torch.no_grad()
def _after_first(
    registrar: Registrar, views: list[View], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pose (4, 4) after the learned level, or without one after the coarsest."""
    level = (*registrar.learned, registrar.coarsest)[0]
    return registrar.descent.through(level, views, torch.from_numpy(start)[None]).poses[0].numpy()


def _chosen(cases: Iterable[Case], task: _Task) -> Iterable[Case]:
    """The first ones of each bin."""
    taken = dict.fromkeys(task.bins, 0)
    for case in cases:
        assert case.start_bin is not None
        end = case.start_bin[1]
        if end in taken and taken[end] < task.per_bin:
            taken[end] += 1
            yield case
