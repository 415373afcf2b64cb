"""From a CT (or several) to a regressor's checkpoint in a folder: what the command line calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import xray_registration
from xray_registration.errors import InputError
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.checkpoint import AGNOSTIC, Checkpoint, save_checkpoint
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.crowd import Crowd
from xray_registration.learning.crowd_stream import CrowdStream
from xray_registration.learning.network import OF_PATIENTS
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.processes import Processes
from xray_registration.learning.regressor import KIND, facts_of, pose_network
from xray_registration.learning.regressor_task import RegressorTask
from xray_registration.learning.reporting import Reporter
from xray_registration.learning.stream import RegressorStream, Subject
from xray_registration.learning.trainer import Schedule, Trained, Trainer

REGRESSOR_FILE = "regressor.json"

_log = logging.getLogger(__name__)


def train_regressor(
    cts: Sequence[CTVolume],
    isocentres_lps_mm: Sequence[NDArray[np.float64]],
    config: TrainingConfig,
    folder: Path,
    init: Checkpoint | None = None,
    processes: Processes | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Train, and write ``regressor.json`` with its weights into ``folder``.

    Args:
        cts: one: a regressor of that patient. Several: an agnostic one, poses about each one's own
            isocentre.
        isocentres_lps_mm: (3,) of each CT.
        config: how.
        folder: of the checkpoint and of the state that an interrupted training goes on from.
        init: weights to start from instead of random ones; what does not fit is left out.
        processes, reporter: see `Trainer`.

    Returns:
        The checkpoint's path.

    Raises:
        InputError: no CT; a state of another training; nothing fits of ``init``.
    """
    if not cts or len(cts) != len(isocentres_lps_mm):
        raise InputError(f"{len(cts)} CTs and {len(isocentres_lps_mm)} isocentres.")
    processes = processes or Processes()
    task = regressor_task(cts, isocentres_lps_mm, config, processes.device)
    if init is not None:
        _initialise(task.model, init)
    elif config.optimiser.frozen:
        raise InputError(
            f"optimiser: {', '.join(config.optimiser.frozen)} frozen, but there is nothing to "
            "start from; give --init, or leave frozen empty."
        )
    task.model.freeze(config.optimiser.frozen)
    identity = _identity(cts, config, init)
    schedule = Schedule(
        config.minutes, config.steps, config.validate_every, config.patience, config.save_every_s
    )
    trainer = Trainer(task, config.optimiser, schedule, folder, identity, processes, reporter)
    began = time.process_time()
    trained = trainer.run()
    path = Path(folder) / REGRESSOR_FILE
    if processes.is_first:
        facts = _facts(cts, task, config, trained, processes, time.process_time() - began)
        shared = {name: w for name, w in trained.weights.items() if name != OF_PATIENTS}
        save_checkpoint(path, shared, facts, half=True, quarter=config.crowd.count > 0)
    processes.wait()
    return path


def regressor_task(
    cts: Sequence[CTVolume],
    isocentres_lps_mm: Sequence[NDArray[np.float64]],
    config: TrainingConfig,
    device: torch.device | str = "cpu",
) -> RegressorTask:
    """Random weights, and pictures of the patients; with a crowd, of those made up from them."""
    torch.manual_seed(config.seed)
    if config.crowd.count:
        space = PoseSpace((0.0, 0.0, 0.0), **asdict(config.pose))
        network = pose_network(config.network, config.canonical, space, config.crowd.count)
        crowd = Crowd(cts, config.crowd, space, config.spacing_mm, config.seed, device)
        pictures = CrowdStream(
            crowd,
            space,
            config.canonical,
            config.randomisation,
            config.batch_size,
            config.seed,
        )
        return RegressorTask(network, pictures, space, config, device)
    patients = enumerate(zip(cts, isocentres_lps_mm, strict=True), config.seed)
    subjects = [
        Subject.of(ct, isocentre, config.variants, config.spacing_mm, seed, config.pose, device)
        for seed, (ct, isocentre) in patients
    ]
    space = subjects[0].space
    network = pose_network(config.network, config.canonical, space)
    stream = RegressorStream(
        subjects,
        config.canonical,
        config.randomisation,
        config.batch_size,
        config.seed,
        config.mild_batches,
    )
    return RegressorTask(network, stream, space, config, device)


def _initialise(model: nn.Module, init: Checkpoint) -> None:
    own = model.state_dict()
    given = {
        # a patient's own stages begin as those beside them
        **{name.replace("stages.", "patient."): t for name, t in init.tensors.items()},
        **init.tensors,
    }
    fitting = {
        name: tensor
        for name, tensor in given.items()
        if name in own and own[name].shape == tensor.shape
    }
    if 2 * len(fitting) < len(own):
        raise InputError(
            f"{init.path}: only {len(fitting)} of {len(own)} tensors fit this network; its "
            f"settings are {init.facts.get('network')}."
        )
    if set(own) - set(fitting) - {"kept.weight"}:  # that one begins with zeros
        _log.warning("%s: %d of %d tensors fit", init.path, len(fitting), len(own))
    model.load_state_dict({**own, **fitting})


def _identity(
    cts: Sequence[CTVolume], config: TrainingConfig, init: Checkpoint | None
) -> dict[str, Any]:
    """What a state must agree with to be resumed. How long to train may change."""
    settings = config.to_dict()
    for name in ("minutes", "steps", "save_every_s", "patience"):
        del settings[name]
    return {
        "cts": [ct.sha256 for ct in cts],
        "init": "" if init is None else str(init.facts.get("weights_sha256")),
        **settings,
    }


def _facts(
    cts: Sequence[CTVolume],
    task: RegressorTask,
    config: TrainingConfig,
    trained: Trained,
    processes: Processes,
    cpu_seconds: float,
) -> Mapping[str, Any]:
    alone = len(cts) == 1 and not config.crowd.count
    several = f"{len(cts)} CTs"
    if config.crowd.count:
        several = f"{config.crowd.count} patients made up from {several}"
    return {
        "kind": KIND,
        "ct_sha256": cts[0].sha256 if alone else AGNOSTIC,
        "ct_file": Path(cts[0].path).name if alone else several,
        "ct_axes": "lps",
        **facts_of(task.space, config.canonical, config.network),
        "training": config.to_dict(),
        "validation": {k: round(v, 3) for k, v in trained.figures.items() if k != "score"},
        "precision": "bfloat16" if task.autocasts else "float32",
        "steps": trained.steps,
        "pictures": trained.steps * config.batch_size * processes.world,
        "minutes": round(trained.seconds / 60, 2),
        "core_seconds_of_this_run": round(cpu_seconds, 1),
        "ended": trained.ended,
        "versions": {
            "xray_registration": xray_registration.__version__,
            "torch": torch.__version__,
        },
    }
