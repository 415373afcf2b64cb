"""The report's charts, as SVG text to put into the page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xray_registration.evaluation.methods import OURS
from xray_registration.evaluation.records import Record, final_mtre_mm
from xray_registration.evaluation.summary import bin_name
from xray_registration.optional import require

COLOURS = {OURS: "#0a8f4d", "adam": "#d98200", "powell": "#3f74c8", "cma-es": "#a04fb4"}
_REFUSED = "#c8321f"
_OTHER = "#5b6876"
_SMALLEST_MM, _LARGEST_MM = 0.01, 200.0


def success_over_start(records: Sequence[Record]) -> str:
    """Per start bin and method: share below 1 mm (bar) and below 2 mm (line above it)."""
    bins = list(
        dict.fromkeys(bin_name(r) for r in sorted(records, key=lambda r: r["start_bin_mm"]))
    )
    methods = _methods(records)
    figure, axes = _figure(6.4, 3.4)
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        for place, name in enumerate(bins):
            ends = [
                final_mtre_mm(r) for r in records if r["method"] == method and bin_name(r) == name
            ]
            if not ends:
                continue
            x = place - 0.4 + (number + 0.5) * width
            below = [100 * sum(e < limit for e in ends) / len(ends) for limit in (1.0, 2.0)]
            label = method if place == 0 else None
            axes.bar(x, below[0], 0.92 * width, color=_colour(method), label=label)
            axes.plot([x - 0.42 * width, x + 0.42 * width], [below[1]] * 2, color="#16202b", lw=1.4)
    axes.set_xticks(range(len(bins)), bins)
    axes.set_xlabel("start: true mTRE, mm")
    axes.set_ylabel("share of cases, %")
    axes.set_ylim(0, 105)
    axes.legend(ncols=4, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure)


def start_and_end(records: Sequence[Record]) -> str:
    """Every case: error before against error after; hollow = refused by the gate."""
    figure, axes = _figure(6.4, 3.4)
    for method in _methods(records):
        for refused in (False, True):
            some = [
                r for r in records
                if r["method"] == method and (r["accepted"] is False) is refused
            ]  # fmt: skip
            x = [max(r["start_mtre_mm"], 0.1) for r in some]
            y = [_shown(final_mtre_mm(r)) for r in some]
            face = "none" if refused else _colour(method)
            label = f"{method}, refused" if refused else method
            if some:
                axes.scatter(
                    x, y, s=22, facecolors=face, edgecolors=_colour(method), alpha=0.85, label=label
                )
    for level in (1.0, 2.0):
        axes.axhline(level, color="#9aa5b1", lw=0.8, ls=":")
    axes.plot([0.1, 100], [0.1, 100], color="#9aa5b1", lw=0.8)
    axes.set(xscale="log", yscale="log", ylim=(_SMALLEST_MM, 1.15 * _LARGEST_MM), xlim=(0.1, 100))
    _plain_numbers(axes, "x", "y")
    axes.set_xlabel("start: true mTRE, mm")
    axes.set_ylabel("end: true mTRE, mm")
    axes.legend(ncols=4, frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure)


def error_distribution(records: Sequence[Record]) -> str:
    """Share of cases that end below an error, per method."""
    figure, axes = _figure(6.4, 3.2)
    for method in _methods(records):
        ends = sorted(_shown(final_mtre_mm(r)) for r in records if r["method"] == method)
        share = 100 * np.arange(1, len(ends) + 1) / len(ends)
        axes.step(ends, share, where="post", color=_colour(method), label=method)
    axes.set(xscale="log", xlim=(_SMALLEST_MM, _LARGEST_MM), ylim=(0, 102))
    _plain_numbers(axes, "x")
    axes.set_xlabel("true mTRE at the end, mm")
    axes.set_ylabel("cases below, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _svg(figure)


def error_histograms(records: Sequence[Record]) -> str:
    """Ours (or the only method): in-plane and depth / out-of-plane errors, both as mTRE in mm."""
    chosen = [r for r in records if r["method"] == _methods(records)[0]]
    figure, axes = _figure(6.4, 3.2)
    edges = np.geomspace(_SMALLEST_MM, _LARGEST_MM, 36)
    for name, label, colour in (
        ("in_plane_mtre_mm", "in plane (tx, ty, rz)", "#3f74c8"),
        ("depth_mtre_mm", "depth, out of plane (tz, rx, ry)", "#d98200"),
    ):
        values = [_shown(r[name]) for r in chosen if r.get(name) is not None]
        axes.hist(values, bins=edges.tolist(), color=colour, alpha=0.65, label=label)
    axes.set(xscale="log", xlim=(_SMALLEST_MM, _LARGEST_MM))
    _plain_numbers(axes, "x")
    axes.set_xlabel("mTRE of that part of the error, mm")
    axes.set_ylabel("cases")
    axes.legend(frameon=False)
    return _svg(figure)


def times(records: Sequence[Record]) -> str:
    """CPU seconds of every registration, per method."""
    methods = _methods(records)
    figure, axes = _figure(6.4, 0.9 + 0.5 * len(methods))
    for place, method in enumerate(methods):
        values = [r["cpu_s"] for r in records if r["method"] == method and "cpu_s" in r]
        if not values:
            continue
        jitter = np.random.default_rng(0).uniform(-0.16, 0.16, len(values))
        axes.scatter(values, place + jitter, s=12, color=_colour(method), alpha=0.7)
        axes.plot([np.median(values)] * 2, [place - 0.34, place + 0.34], color="#16202b", lw=2)
    axes.set(xscale="log", ylim=(len(methods) - 0.5, -0.5))
    axes.set_yticks(range(len(methods)), methods)
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_xlabel("CPU seconds per registration; line: median")
    axes.grid(alpha=0.3, axis="x", which="both")
    return _svg(figure)


def reject_similarities(records: Sequence[Record]) -> str:
    """Reject set: similarity at the end per kind; filled = accepted, which is wrong."""
    kinds = list(dict.fromkeys(str(r["reject"]) for r in records))
    figure, axes = _figure(8.4, 0.8 + 0.4 * len(kinds))
    for place, kind in enumerate(kinds):
        for record in (r for r in records if r["reject"] == kind and r["similarity"] is not None):
            seed = int.from_bytes(record["case"].encode()[-3:], "little")
            y = place + np.random.default_rng(seed).uniform(-0.2, 0.2)
            face = _REFUSED if record["accepted"] else "none"
            edge = _REFUSED if record["accepted"] else _OTHER
            axes.scatter(record["similarity"], y, s=26, facecolors=face, edgecolors=edge)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_xlabel("similarity at the end; hollow: refused, filled: accepted (wrong)")
    axes.grid(alpha=0.3, axis="x")
    return _svg(figure)


def _methods(records: Sequence[Record]) -> list[str]:
    found = list(dict.fromkeys(r["method"] for r in records))
    return sorted(found, key=lambda name: (name != OURS, found.index(name)))


def _colour(method: str) -> str:
    return COLOURS.get(method, _OTHER)


def _shown(error_mm: float) -> float:
    """Within the axis; what failed sits at its upper end."""
    return (
        _LARGEST_MM if math.isinf(error_mm) else float(np.clip(error_mm, _SMALLEST_MM, _LARGEST_MM))
    )


def _figure(width: float, height: float) -> tuple[Any, Any]:
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _plain_numbers(axes: Any, *names: str) -> None:
    """0.01 and 10 on a logarithmic axis, in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for name in names:
        axis = getattr(axes, f"{name}axis")
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    # no date and fixed ids: the same records give the same file
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "xray_registration", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
