"""The training loop: any task, resumable to the bit, logged, on one or several processes."""

from __future__ import annotations

import copy
import io
import logging
import math
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from xray_registration.errors import InputError
from xray_registration.files import write_atomically
from xray_registration.learning.config import OptimiserConfig
from xray_registration.learning.processes import Processes
from xray_registration.learning.reporting import Reporter

STATE_FILE = "state.pt"

_log = logging.getLogger(__name__)


class Task(Protocol):
    """What is trained."""

    @property
    def model(self) -> nn.Module:
        """What learns."""

    def batches(self, first: int, step: int) -> Generator[Any, None, None]:
        """Batches first, first + step, ...: functions of their number alone."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Of one batch; a scalar."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures on held-out pictures; ``score`` is the one that decides, lower is better."""


@dataclass(frozen=True)
class Schedule:
    """How long and how often; fields as of `TrainingConfig`."""

    minutes: float
    steps: int | None
    validate_every: int
    patience: int
    save_every_s: float


@dataclass(frozen=True, eq=False)
class Trained:
    """Attributes: the best averaged weights; their figures; steps and seconds; why it ended."""

    weights: dict[str, Tensor]
    figures: dict[str, float]
    steps: int
    seconds: float
    ended: str


@dataclass(eq=False)
class _Progress:
    step: int = 0
    validated: int = 0
    seconds: float = 0.0
    best: float = math.inf
    stale: int = 0
    figures: dict[str, float] | None = None
    weights: dict[str, Tensor] | None = None


class Trainer:
    """Trains a task in a folder, and goes on from the state it finds there."""

    def __init__(
        self,
        task: Task,
        optimiser: OptimiserConfig,
        schedule: Schedule,
        folder: Path,
        identity: Mapping[str, Any],
        processes: Processes | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        """Prepare; a saved state is taken up.

        Args:
            task: what is trained.
            optimiser, schedule: how, and how long.
            folder: of the state; it exists.
            identity: plain values that a state to be resumed must agree with (CT, settings).
            processes: None: this one alone.
            reporter: told of every step; None: silence.

        Raises:
            InputError: the folder's state is damaged or of another training.
        """
        self._task, self._settings, self._schedule = task, optimiser, schedule
        self._processes = processes or Processes()
        self._reporter = reporter or Reporter()
        self._path = Path(folder) / STATE_FILE
        self._identity = dict(identity)
        self._model = task.model.to(self._processes.device)
        self._average = copy.deepcopy(self._model)
        self._optimiser = _adamw(self._model, optimiser)
        self._progress = _Progress()
        self._resume()

    def run(self) -> Trained:
        """To the end of the schedule; KeyboardInterrupt saves the state and is raised again."""
        progress, schedule, processes = self._progress, self._schedule, self._processes
        model = processes.wrapped(self._model)
        began = time.monotonic() - progress.seconds
        saved = time.monotonic()
        ended = "schedule"
        first = progress.step * processes.world + processes.rank
        with closing(self._task.batches(first, processes.world)) as batches:
            try:
                while (share := processes.agreed(self._share())) < 1.0:
                    # before the step, so that one that was interrupted here is made up for
                    if progress.step % schedule.validate_every == 0 and self._is_stale():
                        ended = "no better on held-out poses"
                        break
                    loss = self._step(model, next(batches), share)
                    progress.seconds = time.monotonic() - began
                    self._reporter.step(progress.step, share, loss, progress.seconds)
                    if time.monotonic() - saved >= schedule.save_every_s:
                        self.save()
                        saved = time.monotonic()
            except KeyboardInterrupt:
                self.save()
                raise
        self._is_stale()
        self.save()
        assert progress.weights is not None
        return Trained(
            progress.weights, progress.figures or {}, progress.step, progress.seconds, ended
        )

    def save(self) -> None:
        """The whole state, atomically."""
        if not self._processes.is_first:
            return
        buffer = io.BytesIO()
        state = {
            "identity": self._identity,
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "progress": vars(self._progress),
        }
        torch.save(state, buffer)
        write_atomically(self._path, buffer.getvalue())

    def _resume(self) -> None:
        if not self._path.is_file():
            return
        try:
            state = torch.load(self._path, map_location=self._processes.device, weights_only=True)
            identity = state["identity"]
        except Exception as error:
            raise InputError(
                f"{self._path}: damaged ({type(error).__name__}); delete it to begin anew."
            ) from error
        differing = sorted(
            key
            for key in {*identity, *self._identity}
            if identity.get(key) != self._identity.get(key)
        )
        if differing:
            raise InputError(
                f"{self._path}: of another training: {', '.join(differing)} differ; give another "
                "--out, or delete it to begin anew."
            )
        self._model.load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._progress = _Progress(**state["progress"])
        _log.info("resumed at step %d", self._progress.step)

    def _share(self) -> float:
        """Of the schedule that is done, 0 to 1."""
        if self._schedule.steps is not None:
            return self._progress.step / self._schedule.steps
        return self._progress.seconds / (60.0 * self._schedule.minutes)

    def _step(self, model: nn.Module, batch: Any, share: float) -> float:
        settings, progress = self._settings, self._progress
        warm = min(1.0, (progress.step + 1) / max(1, settings.warmup_steps))
        late = max(0.0, 2.0 * share - 1.0)  # constant in the first half, then half a cosine
        rate = settings.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * late))
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad()
        loss = self._task.loss(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), settings.clip_norm)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(f"the loss is {value} at step {progress.step}; lower learning_rate.")
        self._optimiser.step()
        progress.step += 1
        _follow(self._average, self._model, settings.average, progress.step)
        return value

    def _is_stale(self) -> bool:
        """Validate the average unless that is done; whether it is time to stop."""
        progress = self._progress
        if progress.validated == progress.step:
            return False
        score = math.inf
        if self._processes.is_first:
            self._average.eval()
            with torch.no_grad():
                figures = self._task.validate(self._average)
            score = figures["score"]
            self._reporter.figures(progress.step, figures)
        score = self._processes.agreed(score)
        if score < progress.best or progress.weights is None:
            progress.best, progress.stale = score, 0
            progress.weights = {k: v.clone() for k, v in self._average.state_dict().items()}
            if self._processes.is_first:
                progress.figures = figures
        else:
            progress.stale += 1
        progress.validated = progress.step
        return bool(self._schedule.patience) and progress.stale >= self._schedule.patience


def _adamw(model: nn.Module, settings: OptimiserConfig) -> torch.optim.AdamW:
    """Weights decay; biases and the normalisations' factors do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    try:
        # a third of the time of the loop over tensors: a step of this network is short
        return torch.optim.AdamW(groups, settings.learning_rate, fused=True)
    except RuntimeError:  # PyTorch before 2.4 has it on GPUs alone
        return torch.optim.AdamW(groups, settings.learning_rate)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the model; the decay grows with the number of steps behind it."""
    decay = min(decay, step / (9.0 + step))
    for weight, new in zip(average.parameters(), model.parameters(), strict=True):
        if new.requires_grad:
            weight.lerp_(new, 1.0 - decay)
    for value, newest in zip(average.buffers(), model.buffers(), strict=True):
        if value.is_floating_point():
            value.lerp_(newest, 1.0 - decay)
        else:
            value.copy_(newest)
