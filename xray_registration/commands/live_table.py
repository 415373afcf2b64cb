"""The demo's table on the terminal: live where there is one, line by line where there is none."""

from __future__ import annotations

from types import ModuleType, TracebackType
from typing import Any

from xray_registration.evaluation.demo_score import LARGEST_BROADCAST_ERROR_MM, FrameScore
from xray_registration.optional import require

_COLUMNS = ("frame", "C-arm", "start", "true mTRE", "rotation", "depth", "time", "accepted")
_UNITS = ("", "LAO/CRAN °", "mm off", "mm", "°", "mm", "s", "")
_WIDTHS = (5, 12, 8, 9, 8, 8, 7, 24)


class LiveTable:
    """A context: a status line at all times, a row for each frame."""

    def __init__(self, frames: int) -> None:
        """``frames``: how many are expected.

        Raises:
            MissingDependencyError: rich is not installed.
        """
        self._rich: ModuleType = require("rich.live", pip="rich")
        console = require("rich.console", pip="rich").Console(highlight=False)
        self._console: Any = console
        self._table: Any = require("rich.table", pip="rich").Table(box=None, padding=(0, 1))
        for name, unit in zip(_COLUMNS, _UNITS, strict=True):
            title = f"{name}\n[dim]{unit}[/dim]"
            self._table.add_column(title, justify="left" if name == "accepted" else "right")
        self._frames = frames
        self._status = ""
        self._live: Any = None
        self._headed = False

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live = self._rich.Live(console=self._console, refresh_per_second=8)
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._status = ""
            self._show()
            self._live.__exit__(kind, value, trace)

    def status(self, text: str, progress: str = "") -> None:
        """Say what is going on, and how far it is; without a terminal only what."""
        if self._live is not None:
            self._status = f"{text} {progress}"
            self._show()
        elif text != self._status:
            self._status = text
            self._console.print(text, style="dim", soft_wrap=True)

    def add(self, score: FrameScore) -> None:
        """A frame's row."""
        cells = _cells(score)
        if self._live is not None:
            colour = "green" if score.accepted else "red"
            if score.errors is not None and score.is_broadcast:
                large = score.errors.mtre_mm > LARGEST_BROADCAST_ERROR_MM
                cells[3] = f"[bold {'red' if large else 'green'}]{cells[3]}[/]"
            cells[7] = f"[{colour}]{cells[7]}[/]"
            self._table.add_row(*cells)
            self._show()
            return
        if not self._headed:
            self._line(_COLUMNS)
            self._line(_UNITS)
            self._headed = True
        self._line(cells)

    def say(self, text: str) -> None:
        """A line above the table, or after it."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _line(self, cells: Any) -> None:
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)]
        self._console.print("  ".join(padded[:-1]), f" {cells[-1]}", markup=False, soft_wrap=True)

    def _show(self) -> None:
        group = require("rich.console", pip="rich").Group
        text = require("rich.text", pip="rich").Text
        parts = [self._table] if self._table.row_count else []
        if self._status:
            parts.append(text(self._status, style="dim"))
        self._live.update(group(*parts))


def _cells(score: FrameScore) -> list[str]:
    errors = score.errors
    reason = (score.heard.record or {}).get("reason", "")
    primary, secondary = score.angles_deg
    return [
        str(score.number),
        f"{primary:+.1f}/{secondary:+.1f}",
        f"{score.start_mtre_mm:.2f}",
        "-" if errors is None else f"{errors.mtre_mm:.3f}",
        "-" if errors is None else f"{errors.rotation_deg:.3f}",
        "-" if errors is None else f"{errors.depth_mm:.3f}",
        f"{score.seconds:.2f}",
        "yes" if score.accepted else f"no: {reason}",
    ]
