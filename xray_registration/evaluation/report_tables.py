"""Tables of the report: from summaries to HTML and to plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Row = Mapping[str, Any]

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("n", "cases", "d"),
    ("start_p50_mm", "start, mm", ".1f"),
    ("p50_mm", "median, mm", "mm"),
    ("p75_mm", "75 %, mm", "mm"),
    ("p95_mm", "95 %, mm", "mm"),
    ("smsr", "< 1 mm", "%"),
    ("sr_2mm", "< 2 mm", "%"),
    ("sr_10mm", "< 10 mm", "%"),
    ("gross_failures", "> 10 mm", "%"),
    ("in_plane_p50_mm", "in plane, median, mm", "mm"),
    ("accepted", "accepted", "%"),
    ("smsr_of_accepted", "of these < 1 mm", "%"),
    ("cpu_p50_s", "CPU s, median", ".2f"),
)
REJECT_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("n", "cases", "d"),
    ("false_accepts", "accepted (wrong)", "d"),
    ("similarity_p95", "similarity, 95 %", ".3f"),
    ("cpu_p50_s", "CPU s, median", ".2f"),
    ("refusals", "refused because", "counts"),
)
ERROR_NAMES = {
    "in_plane_mtre_mm": "in plane (tx, ty, rz), mTRE mm",
    "depth_mtre_mm": "depth and out of plane (tz, rx, ry), mTRE mm",
    "translation_mm": "translation of the targets' centre, mm",
    "in_plane_mm": "of it across the beam, mm",
    "depth_mm": "of it along the beam, mm",
    "rotation_deg": "rotation, degrees",
    "in_plane_rotation_deg": "of it about the beam, degrees",
    "out_of_plane_rotation_deg": "of it about the other axes, degrees",
    "mpe_mm": "mPE: on the detector, mm",
    "mrpd_mm": "mRPD: to the ray, mm (blind to depth)",
    "mis_scaled_diffpose_figure": (
        "number that DiffPose's evaluator prints as mTRE (mis-scaled; no error in mm; for "
        "comparison only)"
    ),
}


def shown(value: Any, form: str) -> str:
    """A cell: a dash for what there is not."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if form == "%":
        return f"{100 * value:.1f} %"
    if form == "mm":
        return "failed" if math.isinf(value) else f"{value:.3f}" if value < 10 else f"{value:.1f}"
    if form == "d":
        return str(int(value))
    if form == "counts":
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "–"
    if form == "text":
        return str(value)
    return format(value, form)


def html_table(
    first: str,
    rows: Mapping[str, Row],
    columns: Sequence[tuple[str, str, str]] = COLUMNS,
    own: str | None = None,
) -> str:
    """``rows`` by name; ``own`` is set in bold."""
    head = "".join(f"<th>{escape(title)}</th>" for _, title, _ in columns)
    body = "".join(
        f"<tr{' class=own' if name == own else ''}><td>{escape(name)}</td>"
        + "".join(
            f"<td{' class=text' if form in ('counts', 'text') else ''}>"
            f"{escape(shown(row.get(key), form))}</td>"
            for key, _, form in columns
        )
        + "</tr>"
        for name, row in rows.items()
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>{escape(first)}</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def text_table(
    first: str,
    rows: Mapping[str, Row],
    columns: Sequence[tuple[str, str, str]] = COLUMNS,
) -> str:
    """The same for a terminal and for Markdown."""
    head = [first, *(title for _, title, _ in columns)]
    cells = [
        [name, *(shown(row.get(key), form) for key, _, form in columns)]
        for name, row in rows.items()
    ]
    widths = [max(len(line[n]) for line in (head, *cells)) for n in range(len(head))]

    def line(parts: Sequence[str]) -> str:
        padded = [
            part.ljust(width) if n == 0 else part.rjust(width)
            for n, (part, width) in enumerate(zip(parts, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * w) if n == 0 else "-" * (w - 1) + ":" for n, w in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, cells)])
