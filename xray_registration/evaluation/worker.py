"""What a worker process does: take the pictures of some cases, register one case.

Everything goes in and comes out as plain text and numbers, so that the same functions run in the
processes of one machine and on the workers of a cluster.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xray_registration.errors import InputError
from xray_registration.evaluation.cases import Case, make_cases
from xray_registration.evaluation.datasets import load_patient
from xray_registration.evaluation.fingerprint import METHOD_CODE, code_fingerprint
from xray_registration.evaluation.methods import (
    OURS_NO_START,
    REGISTRARS,
    Method,
    make_method,
)
from xray_registration.evaluation.pictures import Picture, picture_key, pictures_of
from xray_registration.evaluation.protocol import Protocol, protocol_from_dict
from xray_registration.evaluation.records import Record, base_record, outcome_fields
from xray_registration.evaluation.targets import (
    TargetSet,
    bone_surface_targets,
    centroid_targets,
    surface_targets,
)
from xray_registration.learning.checkpoint import load_checkpoint
from xray_registration.learning.regressor import KIND as REGRESSOR
from xray_registration.memory import keep_freed_memory
from xray_registration.registration import RegistrationConfig, View


@dataclass(frozen=True)
class Job:
    """What all tasks of a run share; hashable, and small on the wire.

    Attributes:
        protocol: JSON of `Protocol.to_dict`.
        quick: which cases.
        config: JSON of `RegistrationConfig.to_dict`, "" for the default.
        device: of "ours".
        checkpoint: of "ours-no-start": path of the weights, "" for those of the package.
        threads: per worker process.
    """

    protocol: str
    quick: bool
    config: str = ""
    device: str = "cpu"
    checkpoint: str = ""
    threads: int = 1


def protocol_targets(protocol: Protocol) -> TargetSet:
    """The points whose errors count.

    Raises:
        InputError: the patient's data are not there; a structure is not in its label map.
    """
    ct, labels = load_patient(protocol.patient)
    spec = protocol.targets
    if spec.kind == "bone":
        return bone_surface_targets(ct, spec.threshold_hu, spec.points)
    if labels is None:
        raise InputError(
            f"{protocol.name}: targets {spec.kind} need labels; {protocol.patient} has none."
        )
    if spec.kind == "centroids":
        return centroid_targets(labels, spec.structures)
    return surface_targets(labels, spec.structures, spec.points)


@lru_cache(maxsize=2)
def cases_of(job: Job) -> tuple[TargetSet, dict[str, Case]]:
    """The targets, and the cases by id in their order."""
    protocol = protocol_from_dict(json.loads(job.protocol))
    targets = protocol_targets(protocol)
    centres = {}
    if protocol.reject is not None:
        for name in protocol.reject.other_patients:
            centres[name] = load_patient(name)[0].bone_box_lps().mean(axis=0)
    cases = make_cases(protocol, targets, centres, job.quick)
    return targets, {case.id: case for case in cases}


def record_identity(job: Job, case: Case, method: str) -> str:
    """Hash of all that decides a record: pictures, start, method, its code and settings."""
    content = [
        [picture_key(case, number) for number in range(len(case.shots))],
        [shot.given_camera.to_dict() for shot in case.shots],
        np.asarray(case.rig_from_ct_start).tolist(),
        method,
        code_fingerprint(METHOD_CODE),
        _settings_of_ours(job).to_dict() if method in REGISTRARS else "",
        job.device if method in REGISTRARS else "",
        _weights_of(job.checkpoint) if method == OURS_NO_START else "",
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def take_pictures(job: Job, case_ids: tuple[str, ...]) -> int:
    """Take and keep the pictures of cases, best of one patient variant; how many cases."""
    _, cases = cases_of(job)
    for case_id in case_ids:
        pictures_of(cases[case_id], job.threads)
    return len(case_ids)


def case_views(case: Case, pictures: Sequence[Picture]) -> list[View]:
    """What a method is given of the case: its pictures, and the cameras that it is told.

    Raises:
        InputError: a picture that cannot be used.
    """
    return [
        View(picture.to_radiograph(case.id), shot.given_camera, shot.camera_from_rig)
        for picture, shot in zip(pictures, case.shots, strict=True)
    ]


def register_case(job: Job, case_id: str, methods: tuple[str, ...]) -> list[Record]:
    """Register one case with each method; one record each. A failure is a record, too."""
    import torch

    keep_freed_memory()
    torch.set_num_threads(job.threads)
    targets, cases = cases_of(job)
    case = cases[case_id]
    pictures = pictures_of(case, job.threads)
    began = time.process_time()
    refusal = ""
    views: list[View] = []
    try:
        views = case_views(case, pictures)
    except InputError as error:
        refusal = str(error)
    input_cpu_s = time.process_time() - began
    records = []
    for name in methods:
        record = base_record(case, name)
        record["identity"] = record_identity(job, case, name)
        record["input_cpu_s"] = input_cpu_s
        record["threads"] = job.threads
        record["device"] = job.device if name in REGISTRARS else "cpu"
        if refusal:
            record.update(accepted=False, reason="unusable_input", error=refusal)
        else:
            record.update(_registered(job, case, targets, views, name))
        records.append(record)
    return records


def method_settings(job: Job, name: str) -> dict[str, Any]:
    """What decides the method, for reports."""
    return _made(job, name).settings()


def _registered(job: Job, case: Case, targets: TargetSet, views: list[View], name: str) -> Record:
    start = case.rig_from_ct_start
    try:
        method, fresh = _method(job, name)
        if fresh:
            method.warm_up(views, start)
            _WARM.add((job, name))
        cpu, wall = time.process_time(), time.perf_counter()
        outcome = method.register(views, start)
        seconds, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    except InputError as error:
        return {"accepted": False, "reason": "unusable_input", "error": str(error)}
    except Exception as error:  # a defect: it is counted and shown, and the other cases go on
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119
        text = f"{type(error).__name__}: {error} ({where})"
        return {"accepted": False, "reason": "defect", "error": text}
    timing = {"seconds": seconds, "cpu_s": cpu_s}
    return {**outcome_fields(case, targets, outcome), **timing}


_WARM: set[tuple[Job, str]] = set()


def _method(job: Job, name: str) -> tuple[Method, bool]:
    return _made(job, name), (job, name) not in _WARM


@lru_cache(maxsize=8)
def _settings_of_ours(job: Job) -> RegistrationConfig:
    """The given configuration, or the default with the structures that the protocol asks for."""
    if job.config:
        return RegistrationConfig.from_dict(json.loads(job.config))
    return RegistrationConfig(structures=protocol_from_dict(json.loads(job.protocol)).structures)


@lru_cache(maxsize=8)
def _made(job: Job, name: str) -> Method:
    protocol = protocol_from_dict(json.loads(job.protocol))
    ct, labels = load_patient(protocol.patient)
    checkpoint = Path(job.checkpoint) if job.checkpoint else None
    return make_method(name, ct, labels, _settings_of_ours(job), job.device, checkpoint)


@lru_cache(maxsize=8)
def _weights_of(checkpoint: str) -> str:
    """Their sha256, not their path, decides a record; those of the package are in its code's."""
    if not checkpoint:
        return ""
    return str(load_checkpoint(Path(checkpoint), REGRESSOR).facts["weights_sha256"])
