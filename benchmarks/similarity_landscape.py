"""The basin of a similarity: its values along lines through the true pose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.learning.canonical import CanonicalCamera
from xray_registration.learning.losses import lm_step_loss, pose_distance
from xray_registration.learning.similarity_task import SimilarityTask
from xray_registration.rendering import JosephProjector
from xray_registration.similarity import GradientResidual

OFFSETS = np.linspace(-60.0, 60.0, 25)  # mm; rotations: 1 rad as 100 mm
AXES = ("tx", "ty", "tz", "rx", "ry", "rz", *(f"random {n}" for n in range(6)))


class HandMade:
    """The engine's gradient residual behind the questions that a learned one is asked."""

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
        for offset in OFFSETS:
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
        widths.append(steps * (OFFSETS[1] - OFFSETS[0]))
    return float(min(widths))


@torch.no_grad()
def first_step(
    similarity: HandMade, task: SimilarityTask, projector: JosephProjector
) -> dict[str, float]:
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


def draw(landscapes: Mapping[str, np.ndarray], path: Path) -> None:
    """One small plot for each direction."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(14, 8), sharex=True, sharey=True)
    for number, (axis, name) in enumerate(zip(axes.flat, AXES, strict=True)):
        for row, values in landscapes.items():
            axis.plot(OFFSETS, values[number], label=row, linewidth=1)
        axis.set_title(name)
    axes[0, 0].legend(fontsize=6)
    figure.supxlabel("offset (mm; rotations: 1 rad as 100 mm)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
