"""The demo page's charts, as SVG that takes its colours from the page, and its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from xray_registration.evaluation.demo_score import FrameScore

_WIDTH, _HEIGHT = 760, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 38
_LOG_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)


def errors_svg(scores: Sequence[FrameScore], limit_mm: float) -> str:
    """True mTRE per frame (dots) and that of the pose it started from (bars), logarithmic."""
    values = [s.start_mtre_mm for s in scores]
    values += [s.errors.mtre_mm for s in scores if s.errors is not None]
    low = min([0.1, *[v for v in values if v > 0]])
    ticks = _LOG_TICKS
    first = max(t for t in ticks if t <= low * 1.0001 or t == ticks[0])
    last = next((t for t in ticks if t >= max([5.0, *values])), ticks[-1])
    place = _log_place(first, last)
    parts = _frame(scores, [t for t in ticks if first <= t <= last], place, "mm (log scale)")
    for level, name in ((limit_mm, "limit"), (1.0, "goal")):
        if first <= level <= last:
            parts.append(_level(place(level), name))
    step = _step(scores)
    for score in scores:
        x = _x(score.number, step)
        top, bottom = place(max(score.start_mtre_mm, first)), _HEIGHT - _BOTTOM
        parts.append(
            f'<rect class="start" x="{x - 0.3 * step:.1f}" y="{top:.1f}" width="{0.6 * step:.1f}" '
            f'height="{bottom - top:.1f}"><title>frame {score.number}: start '
            f"{score.start_mtre_mm:.2f} mm</title></rect>"
        )
        if score.errors is not None:
            kind = "found" if score.accepted else "refused"
            parts.append(
                f'<circle class="{kind}" cx="{x:.1f}" cy="{place(score.errors.mtre_mm):.1f}" '
                f'r="5"><title>frame {score.number}: {score.errors.mtre_mm:.3f} mm</title></circle>'
            )
    return _svg(parts, "True error of the pose on /tf and of the start, per frame")


def seconds_svg(scores: Sequence[FrameScore]) -> str:
    """Seconds per frame, from zero."""
    values = [s.seconds for s in scores if s.seconds == s.seconds]
    largest = max([0.5, *values])
    unit = next(u for u in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 1e6) if largest / u <= 6)
    count = int(largest / unit) + 1
    place = _linear_place(count * unit)
    parts = _frame(scores, [n * unit for n in range(count + 1)], place, "s")
    step = _step(scores)
    for score in scores:
        if score.seconds != score.seconds:
            continue
        x, top = _x(score.number, step), place(score.seconds)
        parts.append(
            f'<rect class="time" x="{x - 0.3 * step:.1f}" y="{top:.1f}" width="{0.6 * step:.1f}" '
            f'height="{_HEIGHT - _BOTTOM - top:.1f}"><title>frame {score.number}: '
            f"{score.seconds:.2f} s</title></rect>"
        )
    return _svg(parts, "Seconds per registration")


def table_rows(scores: Sequence[FrameScore]) -> str:
    """Rows of the page's table."""
    rows = []
    for score in scores:
        errors = score.errors
        reason = str((score.heard.record or {}).get("reason", ""))
        primary, secondary = score.angles_deg
        cells = [
            str(score.number),
            f"{primary:+.1f}° / {secondary:+.1f}°",
            f"{score.start_mtre_mm:.2f}",
            *(
                ["–"] * 4
                if errors is None
                else [
                    f"<b>{errors.mtre_mm:.3f}</b>",
                    f"{errors.rotation_deg:.3f}",
                    f"{errors.in_plane_mm:.3f}",
                    f"{errors.depth_mm:.3f}",
                ]
            ),
            f"{score.seconds:.2f}",
            "yes" if score.accepted else f"no: {escape(reason)}",
        ]
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr data-frame="{score.number}">{row}</tr>')
    return "\n".join(rows)


def _step(scores: Sequence[FrameScore]) -> float:
    return (_WIDTH - _LEFT - _RIGHT) / max(1, len(scores))


def _x(number: int, step: float) -> float:
    return _LEFT + (number + 0.5) * step


def _log_place(low: float, high: float) -> Callable[[float], float]:
    from math import log10

    span = _HEIGHT - _TOP - _BOTTOM

    def place(value: float) -> float:
        share = (log10(max(value, low)) - log10(low)) / (log10(high) - log10(low))
        return _HEIGHT - _BOTTOM - span * min(share, 1.0)

    return place


def _linear_place(high: float) -> Callable[[float], float]:
    span = _HEIGHT - _TOP - _BOTTOM
    return lambda value: _HEIGHT - _BOTTOM - span * min(value / high, 1.0)


def _frame(
    scores: Sequence[FrameScore],
    ticks: Sequence[float],
    place: Callable[[float], float],
    unit: str,
) -> list[str]:
    """Grid, ticks and titles of the axes."""
    parts = []
    for tick in ticks:
        y = place(tick)
        ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
        parts += [f'<line class="grid" {ends}/>', _text(_LEFT - 6, y + 4, f"{tick:g}", "end")]
    step = _step(scores)
    every = max(1, len(scores) // 20)
    below = _HEIGHT - _BOTTOM + 16
    parts += [_text(_x(s.number, step), below, str(s.number)) for s in scores[::every]]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, "frame"))
    centre = (_TOP + _HEIGHT - _BOTTOM) / 2
    return [*parts, f'<g transform="rotate(-90 12 {centre})">{_text(12, centre, unit)}</g>']


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _level(y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _svg(parts: Sequence[str], title: str) -> str:
    body = "\n".join(parts)
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f"{body}</svg>"
    )
