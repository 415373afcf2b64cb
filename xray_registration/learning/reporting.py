"""What a training says while it runs: a progress bar with the time left, and TensorBoard files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from xray_registration.errors import MissingDependencyError
from xray_registration.optional import require

_log = logging.getLogger(__name__)
_LOG_EVERY = 20
_SAY_EVERY_S = 60.0  # where there is no terminal to draw a bar on


class Reporter:
    """Says nothing; the others derive from it."""

    def step(self, step: int, share: float, loss: float, seconds: float) -> None:
        """After every step; ``share`` of the schedule is done."""

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """After every validation."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class Console(Reporter):
    """A rich progress bar on stderr, a line per validation, and TensorBoard logs in a folder."""

    def __init__(self, folder: Path | None, batch_size: int) -> None:
        progress = require("rich.progress", "rich")
        console = require("rich.console", "rich").Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("training"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._task = self._bar.add_task("training", total=1.0, text="")
        self._batch_size = batch_size
        self._smooth: float | None = None
        self._said_s = 0.0
        self._writer: Any = None
        if folder is not None:
            try:
                board = require("torch.utils.tensorboard", "tensorboard")
                self._writer = board.SummaryWriter(str(folder))
            except MissingDependencyError as error:
                _log.warning("no TensorBoard logs: %s", error)

    def __enter__(self) -> Console:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def step(self, step: int, share: float, loss: float, seconds: float) -> None:
        """See `Reporter`."""
        self._smooth = loss if self._smooth is None else 0.98 * self._smooth + 0.02 * loss
        rate = step * self._batch_size / max(seconds, 1e-9)
        text = f"step {step}  loss {self._smooth:.3f}  {rate:.0f} pictures/s"
        self._bar.update(self._task, completed=min(share, 1.0), text=text)
        if not self._bar.console.is_terminal and seconds - self._said_s >= _SAY_EVERY_S:
            self._said_s = seconds
            left_min = seconds * (1.0 - share) / max(share, 1e-6) / 60.0
            self._bar.console.print(f"{text}  {left_min:.0f} min left", highlight=False)
        if self._writer is not None and step % _LOG_EVERY == 0:
            self._writer.add_scalar("training/loss", self._smooth, step)
            self._writer.add_scalar("training/pictures_per_second", rate, step)

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Reporter`."""
        line = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
        self._bar.console.print(f"step {step}: {line}", highlight=False)
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(f"held_out/{name}", value, step)
            self._writer.flush()
