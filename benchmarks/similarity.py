"""Ablation of the learned similarity: every row trained for the same time, then measured.

    python -m benchmarks.similarity --minutes 10 --out benchmark_output/similarity

Measured on held-out pictures (other poses, other disturbances): how many of the starts the first
Levenberg-Marquardt step brings nearer, to what distance, and the basin: the similarity along each
axis and along random directions, with the offset up to which it rises steadily. The first row is
the engine's own residual, without learning. Writes table.json and landscapes.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.imaging.example import load_example
from xray_registration.learning.canonical import CanonicalCamera
from xray_registration.learning.config import OptimiserConfig, TrainingConfig
from xray_registration.learning.losses import lm_step_loss, pose_distance
from xray_registration.learning.patients import Patients
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.reporting import Console
from xray_registration.learning.similarity_task import SimilarityConfig, SimilarityTask
from xray_registration.learning.stream import Subject
from xray_registration.learning.trainer import Schedule, Trainer
from xray_registration.rendering import JosephProjector
from xray_registration.similarity import GradientResidual

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
_OFFSETS = np.linspace(-60.0, 60.0, 25)  # mm; rotations: 1 rad as 100 mm
_AXES = ("tx", "ty", "tz", "rx", "ry", "rz", *(f"random {n}" for n in range(6)))
_PICTURES = 8


class HandMade:
    """The engine's gradient residual behind the same questions."""

    def __init__(self) -> None:
        self._residual = GradientResidual()

    def targets(self, fixed: Tensor, usable: Tensor) -> list[Any]:
        return [self._residual.target(f, u) for f, u in zip(fixed, usable, strict=True)]

    def epsilon(self, moving: Tensor, target: list[Any]) -> Tensor:
        values = []
        for image, one in zip(moving, target, strict=True):
            r = self._residual(image[None], one)[0] * one.weight
            values.append(0.5 * r.square().sum() / one.weight.sum().clamp_min(1))
        return torch.stack(values)

    def stacked(self, target: list[Any]) -> Any:
        def of(image: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            pairs = [
                self._residual.with_jacobian(image[n : n + 1], jacobian[n : n + 1], one)
                for n, one in enumerate(target)
            ]
            r, j = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            weight = torch.stack([one.weight for one in target])[:, None].expand_as(r)
            return r.flatten(1), j.flatten(2), weight.flatten(1)

        return of


def directions() -> np.ndarray:
    """(12, 6) unit vectors: the axes, then random ones."""
    random = np.random.default_rng(0).normal(size=(6, 6))
    return np.concatenate((np.eye(6), random / np.linalg.norm(random, axis=1, keepdims=True)))


@torch.no_grad()
def landscape(similarity: Any, task: SimilarityTask, projector: JosephProjector) -> np.ndarray:
    """(12, offsets) mean similarity over held-out pictures, from 0 (best) to 1 (worst)."""
    camera = CanonicalCamera(64).camera
    centre = torch.from_numpy(projector.isocentre_lps_mm)
    batch = task.batch(1, 1000)
    target = similarity.targets(batch.fixed, batch.usable)
    values = []
    for direction in directions():
        row = []
        for offset in _OFFSETS:
            xi = offset * direction * np.array([1.0] * 3 + [0.01] * 3)
            poses = se3.left_increment(batch.truth, torch.from_numpy(xi), centre)
            row.append(float(similarity.epsilon(projector.image(poses, camera), target).mean()))
        values.append(row)
    result = np.array(values)
    low = result.min(1, keepdims=True)
    return (result - low) / (result.max(1, keepdims=True) - low)


def width_mm(row: np.ndarray) -> float:
    """Offset to both sides of the truth up to which the similarity rises steadily."""
    middle = len(row) // 2
    widths = []
    for side in (row[middle:], row[middle::-1]):
        falling = np.flatnonzero(np.diff(side) < 0)
        steps = len(side) - 1 if not len(falling) else int(falling[0])
        widths.append(steps * (_OFFSETS[1] - _OFFSETS[0]))
    return float(min(widths))


@torch.no_grad()
def first_step(similarity: HandMade, task: SimilarityTask, projector: JosephProjector) -> dict:
    """As `SimilarityTask.validate`, of a residual that is not a network."""
    before, after = [], []
    for number in range(8):
        batch = task.batch(1, number)
        of = similarity.stacked(similarity.targets(batch.fixed, batch.usable))
        camera, centre = CanonicalCamera(64).camera, torch.from_numpy(projector.isocentre_lps_mm)
        before.append(pose_distance(batch.start, batch.truth, centre))
        after.append(lm_step_loss(of, projector, camera, batch.start, batch.truth))
    start, end = torch.cat(before), torch.cat(after)
    return {
        "median_start_mm": float(start.median()),
        "median_after_one_step_mm": float(end.median()),
        "nearer_percent": 100.0 * float((end < start).double().mean()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each row")
    parser.add_argument("--out", type=Path, default=Path("benchmark_output/similarity"))
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    arguments = parser.parse_args()
    ct, labels = load_example()
    centroids = labels.centroids_lps_mm()
    x, y, z = (float(v) for v in np.mean([centroids[name] for name in AIM], axis=0))
    general = TrainingConfig()
    patients = Patients(ct, np.array([x, y, z]), general.variants, 5.0, 0)
    subject = Subject(patients.volumes, PoseSpace((x, y, z), **asdict(general.pose)))
    projector = JosephProjector(subject.volumes[0], (x, y, z))
    table, pictures = {}, {}
    for name in arguments.rows:
        config = ROWS[name]
        task = SimilarityTask(
            subject, config or SimilarityConfig(), general.randomisation, _PICTURES // 2, 0
        )
        used = time.process_time()
        if config is None:
            similarity: Any = HandMade()
            figures, steps = first_step(similarity, task, projector), 0
        else:
            folder = arguments.out / name.replace(" ", "_")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "state.pt").unlink(missing_ok=True)
            schedule = Schedule(arguments.minutes, None, 100_000, 0, 1e9)
            optimiser = OptimiserConfig(learning_rate=1e-3, average=0.99, bf16=False)
            with Console(None, _PICTURES // 2) as reporter:
                trained = Trainer(
                    task, optimiser, schedule, folder, asdict(config), reporter=reporter
                ).run()
            model: Any = task.model
            model.load_state_dict(trained.weights)
            similarity, figures, steps = model.eval().residual, trained.figures, trained.steps
        pictures[name] = landscape(similarity, task, projector)
        widths = [width_mm(row) for row in pictures[name]]
        table[name] = {
            **figures,
            "steps": steps,
            "core_seconds": time.process_time() - used,
            "basin_mm": dict(zip(_AXES, widths, strict=True)),
            "basin_mean_mm": float(np.mean(widths)),
        }
        print(name, json.dumps(table[name]), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.json").write_text(json.dumps(table, indent=2) + "\n")
    _draw(pictures, arguments.out / "landscapes.png")
    return 0


def _draw(pictures: dict[str, np.ndarray], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(14, 8), sharex=True, sharey=True)
    for number, (axis, name) in enumerate(zip(axes.flat, _AXES, strict=True)):
        for row, values in pictures.items():
            axis.plot(_OFFSETS, values[number], label=row, linewidth=1)
        axis.set_title(name)
    axes[0, 0].legend(fontsize=6)
    figure.supxlabel("offset (mm; rotations: 1 rad as 100 mm)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
