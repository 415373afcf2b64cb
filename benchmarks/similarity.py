"""Ablation of the learned similarity: every row trained for the same time, then measured.

    python -m benchmarks.similarity --minutes 5 --jobs 2 --out benchmark_output/similarity

Measured on held-out pictures (other poses, other disturbances): how many of the starts the first
Levenberg-Marquardt step brings nearer, and the basin: the similarity along each axis and along
random directions, with the offset up to which it rises steadily. Measured in the evaluation's own
protocols: see similarity_protocols. The first row is the engine's own residual, without learning.

Writes, for every row, NAME/row.json and the weights, and of all rows that are there table.json,
table.md and landscapes.png. A row that is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.similarity_landscape import (
    AXES,
    HandMade,
    draw,
    first_step,
    landscape,
    width_mm,
)
from benchmarks.similarity_protocols import figures_of
from xray_registration.files import write_atomically
from xray_registration.imaging.example import load_example
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.similarity_task import SimilarityConfig, SimilarityTask
from xray_registration.learning.similarity_training import CHECKPOINT, train_similarity
from xray_registration.learning.stream import Subject
from xray_registration.learning.trainer import Schedule
from xray_registration.rendering import JosephProjector

AIM = ("vertebrae_T7", "vertebrae_T8", "vertebrae_T9", "vertebrae_T10")
ROWS: dict[str, SimilarityConfig | None] = {
    "no learning": None,
    "Euclidean": SimilarityConfig("euclidean", "se3"),
    "hyperbolic": SimilarityConfig("hyperbolic", "se3"),
    "sphere": SimilarityConfig("sphere", "se3"),
    "sphere + SO(4)": SimilarityConfig("sphere", "so4"),
    "sphere + SO(4) + Psi": SimilarityConfig("sphere", "so4", volume_residual=True),
    "sphere + SO(4) + LM step": SimilarityConfig("sphere", "so4", "lm_step"),
}
_BATCH = 4


def main() -> int:
    """0 when all rows are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each row")
    parser.add_argument("--out", type=Path, default=Path("benchmark_output/similarity"))
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--jobs", type=int, default=1, help="rows, then cases, at a time")
    parser.add_argument("--cases", type=float, default=1.0, help="share of the protocols' cases")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        trained = [
            pool.submit(_trained, name, options.minutes, options.out)
            for name in options.rows
            if not _row_file(options.out, name).exists()
        ]
        for row in trained:
            print(json.dumps(row.result()), flush=True)
    for name in options.rows:
        path = _row_file(options.out, name)
        row = json.loads(path.read_text())
        if row.get("share_of_cases") == options.cases:
            continue
        checkpoint = None if ROWS[name] is None else path.with_name(CHECKPOINT)
        row["protocols"] = figures_of(checkpoint, options.jobs, options.cases)
        row["share_of_cases"] = options.cases
        _write(path, row)
        print(name, json.dumps(row["protocols"]), flush=True)
    table = {
        name: json.loads(_row_file(options.out, name).read_text())
        for name in ROWS
        if _row_file(options.out, name).exists()
    }
    lines = {name: np.array(row.pop("landscape")) for name, row in table.items()}
    draw(lines, options.out / "landscapes.png")
    _write(options.out / "table.json", table)
    text = _markdown(table)
    write_atomically(options.out / "table.md", text.encode())
    print(text)
    return 0


def _row_file(folder: Path, name: str) -> Path:
    return folder / name.replace(" ", "_") / "row.json"


def _write(path: Path, value: Any) -> None:
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def _trained(name: str, minutes: float, folder: Path) -> dict[str, Any]:
    """One row, in a process of its own with one thread."""
    torch.set_num_threads(1)
    config = ROWS[name]
    ct, labels = load_example()
    centroids = labels.centroids_lps_mm()
    isocentre = np.mean([centroids[name] for name in AIM], axis=0)
    general = TrainingConfig()
    subject = Subject.of(ct, isocentre, general.variants, 5.0, 0, general.pose)
    projector = JosephProjector(subject.volumes[0], isocentre)
    task = SimilarityTask(subject, config or SimilarityConfig(), general.randomisation, _BATCH, 0)
    path = _row_file(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    used = time.process_time()
    row: dict[str, Any] = {"name": name}
    if config is None:
        similarity: Any = HandMade()
        row |= first_step(similarity, task, projector)
    else:
        schedule = Schedule(minutes, None, 100_000, 0, 60.0)
        trained = train_similarity(task, config, ct, schedule, path.parent, seed=0)
        model: Any = task.model
        model.load_state_dict(trained.weights)
        similarity = model.eval().residual
        row |= {**trained.figures, "steps": trained.steps}
    lines = landscape(similarity, task, projector)
    widths = [width_mm(line) for line in lines]
    row |= {
        "core_seconds": time.process_time() - used,
        "basin_mm": dict(zip(AXES, widths, strict=True)),
        "basin_mean_mm": float(np.mean(widths)),
        "landscape": lines.tolist(),
    }
    _write(path, row)
    return {key: value for key, value in row.items() if key != "landscape"}


def _markdown(table: dict[str, Any]) -> str:
    """Share of cases below 2 mm after the first level and after all, with CPU seconds."""
    measured = {name: row for name, row in table.items() if "protocols" in row}
    columns = list(dict.fromkeys(key for row in measured.values() for key in row["protocols"]))
    heads = ["", "steps", "nearer after 1 step", "mm after 1 step", "basin, mm", *columns]
    rows = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    for name, row in table.items():
        cells = [
            name,
            str(row.get("steps", "")),
            f"{row['nearer_percent']:.0f} %",
            f"{row['median_after_one_step_mm']:.1f}",
            f"{row['basin_mean_mm']:.0f}",
        ]
        for column in columns:
            found = row.get("protocols", {}).get(column)
            if found is None:
                cells.append("")
                continue
            alone, whole = found["alone"], found["all levels"]
            cells.append(
                f"{alone['below_10_mm_percent']:.0f} % < 10, "
                f"{whole['below_2_mm_percent']:.0f} % < 2, {whole['cpu_s']:.1f} s"
            )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
