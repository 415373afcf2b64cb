"""One line of JSON per case and method: what happened, with its errors. Written as it happens."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xray_registration.errors import InputError
from xray_registration.evaluation import metrics
from xray_registration.evaluation.calibration import nees, pose_error_vector
from xray_registration.evaluation.cases import Case
from xray_registration.evaluation.methods import Outcome
from xray_registration.evaluation.targets import TargetSet

Record = dict[str, Any]

GOOD_MM = 2.0
"""A pose within this true mTRE counts as good when the gate is judged."""


def base_record(case: Case, method: str) -> Record:
    """What is known of a case before anything was registered."""
    return {
        "case": case.id,
        "method": method,
        "reject": case.reject,
        "start_bin_mm": list(case.start_bin),
        "start_mtre_mm": case.start_mtre_mm,
        "patient": case.patient,
        "variant": case.variant.name,
        "acquisition": case.acquisition,
        "views": len(case.shots),
        "error": None,
        "accepted": None,
        "reason": None,
        "similarity": None,
        "mtre_mm": None,
    }


def outcome_fields(case: Case, targets: TargetSet, outcome: Outcome) -> Record:
    """The method's answer and, where there is a truth, its errors."""
    fields: Record = {
        "accepted": outcome.accepted,
        "reason": outcome.reason,
        "similarity": finite(outcome.similarity),
        "probability": finite(outcome.probability),
        "start_similarity": finite(outcome.start_similarity),
        "iterations": outcome.iterations,
        "renderings": outcome.renderings,
        "rig_from_ct": np.asarray(outcome.rig_from_ct).tolist(),
        "details": outcome.details,
    }
    if case.reject is None and np.isfinite(outcome.rig_from_ct).all():
        fields.update(_errors(case, targets, outcome))
    return fields


def _errors(case: Case, targets: TargetSet, outcome: Outcome) -> Record:
    points, centre = targets.points_lps_mm, targets.centre_lps_mm
    estimate, truth = outcome.rig_from_ct, case.rig_from_ct
    errors: Record = asdict(metrics.pose_errors(estimate, truth, points, centre))
    per_point = metrics.target_errors_mm(estimate, truth, points)
    errors["mtre_by_structure_mm"] = targets.mean_by_name(per_point)
    errors["largest_target_error_mm"] = float(per_point.max())
    projected: dict[str, list[float]] = {}
    for shot in case.shots:
        a, b = shot.camera_from_rig @ estimate, shot.camera_from_rig @ truth
        try:
            values = {
                "mpe_mm": metrics.mpe_mm(a, b, shot.camera, points),
                "mrpd_mm": metrics.mrpd_mm(a, b, points),
                "mis_scaled_diffpose_figure": metrics.mis_scaled_diffpose_figure(
                    a, b, shot.camera, points
                ),
            }
        except InputError:  # the estimate has put a target behind the source
            values = dict.fromkeys(
                ("mpe_mm", "mrpd_mm", "mis_scaled_diffpose_figure"), float("inf")
            )
        for name, value in values.items():
            projected.setdefault(name, []).append(value)
    errors.update({name: finite(float(np.mean(values))) for name, values in projected.items()})
    errors["nees"] = None
    if outcome.covariance is not None and outcome.isocentre_lps_mm is not None:
        error = pose_error_vector(estimate, truth, outcome.isocentre_lps_mm)
        try:
            errors["nees"] = finite(nees(error, outcome.covariance))
        except InputError:
            errors["nees"] = None
        errors["covariance"] = (
            outcome.covariance.tolist() if np.isfinite(outcome.covariance).all() else None
        )
    return errors


def final_mtre_mm(record: Mapping[str, Any]) -> float:
    """True 3-D error; infinite where nothing came out."""
    value = record.get("mtre_mm")
    return math.inf if value is None else float(value)


def is_good(record: Mapping[str, Any]) -> bool:
    """Whether a gate should accept it: a case with a truth, within GOOD_MM of it."""
    return record["reject"] is None and final_mtre_mm(record) < GOOD_MM


def finite(value: float | None) -> float | None:
    """JSON has no infinity and no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Add lines and bring them to disk.

    Raises:
        InputError: the file cannot be written.
    """
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    try:
        with path.open("a+b") as stream:
            # a line that a killed run left half written must not swallow the next one
            if stream.tell() > 0:
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    stream.write(b"\n")
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_records(path: Path) -> list[Record]:
    """All whole lines; a half line that a killed run left is passed over. [] without the file.

    Raises:
        InputError: the file cannot be read.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return [record for record in map(_parsed, lines) if record is not None]


def _parsed(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "case" in record else None
