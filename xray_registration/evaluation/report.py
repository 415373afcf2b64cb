"""What a run leaves behind: report.html (one file, nothing beside it), summary.json, cases.csv."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from xray_registration.errors import InputError
from xray_registration.evaluation import report_charts as charts
from xray_registration.evaluation.methods import OURS
from xray_registration.evaluation.overlay import image_file_bytes
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.records import GOOD_MM, Record
from xray_registration.evaluation.report_tables import (
    COLUMNS,
    ERROR_NAMES,
    REJECT_COLUMNS,
    html_table,
    shown,
    text_table,
)
from xray_registration.evaluation.summary import Table
from xray_registration.evaluation.worst_cases import WorstCase
from xray_registration.files import write_atomically

SCHEMA_VERSION = 1
WORST_CASES = 6

_ERROR_COLUMNS = (("p50", "median", "mm"), ("p75", "75 %", "mm"), ("p95", "95 %", "mm"))
_RELIABILITY_COLUMNS = (("n", "cases", "d"), ("stated", "mean", "%"), ("right", "good", "%"))


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        protocol: what was run.
        quick: on the subset.
        records: all of them.
        tables: of `summary.summarise`.
        environment: of `environment.environment`.
        command: how to run it again.
        targets: one line: which points' errors these are.
        settings: method to its settings.
    """

    protocol: Protocol
    quick: bool
    records: Sequence[Record]
    tables: Table
    environment: Mapping[str, str]
    command: str
    targets: str
    settings: Mapping[str, Any]


def write_report(folder: Path, run: Run, worst: Sequence[WorstCase]) -> Path:
    """Write the three files; the path of report.html.

    Raises:
        InputError: the folder cannot be written.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "quick": run.quick,
        "command": run.command,
        "environment": dict(run.environment),
        "targets": run.targets,
        "settings": dict(run.settings),
        "protocol": run.protocol.to_dict(),
        **run.tables,
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    write_atomically(folder / "summary.json", (text + "\n").encode())
    write_atomically(folder / "cases.csv", cases_csv(run.records).encode())
    path = folder / "report.html"
    write_atomically(path, page(run, worst).encode())
    return path


def cases_csv(records: Sequence[Record]) -> str:
    """One line per record, its plain figures; matrices are in records.jsonl."""
    names: dict[str, None] = {}
    for record in records:
        names.update(
            dict.fromkeys(
                key for key, value in record.items() if not isinstance(value, (dict, list))
            )
        )
    buffer = io.StringIO()
    columns = [name for name in names if name != "start_bin_mm"]
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def summary_text(tables: Table) -> str:
    """The tables for a terminal, in Markdown."""
    methods = tables["methods"]
    name = f"{tables['protocol']} v{tables['version']}"
    if "by_kind" in next(iter(methods.values())):
        parts = [
            f"{method}\n\n{text_table('must be refused', table['by_kind'], REJECT_COLUMNS)}"
            for method, table in methods.items()
        ]
        return f"{name}\n\n" + "\n\n".join(parts)
    lines = [name, "", text_table("method", {m: t["all"] for m, t in methods.items()})]
    for method, table in methods.items():
        lines += ["", text_table(f"{method}: start, mm", table["by_bin"])]
    for comparison in tables["comparisons"]:
        lines += ["", comparison_text(comparison)]
    return "\n".join(lines)


def comparison_text(comparison: Table) -> str:
    """One sentence on ours against a baseline."""
    ratio = shown(comparison["cpu_ratio"], ".1f")
    middle = shown(comparison["cpu_ratio_p50"], ".1f")
    return (
        f"{comparison['method']} takes {ratio} times our CPU time in all, {middle} times in the "
        f"median case; < 1 mm: ours {shown(comparison['smsr_ours'], '%')}, "
        f"{comparison['method']} {shown(comparison['smsr_other'], '%')} "
        f"({comparison['cases']} cases)."
    )


def page(run: Run, worst: Sequence[WorstCase]) -> str:
    """The whole page."""
    reject = run.protocol.reject is not None
    parts = [_head(run)]
    parts += _reject_sections(run) if reject else _pose_sections(run)
    parts += [_worst_section(worst, reject), _about_section(run)]
    template = Template(
        (files("xray_registration.evaluation") / "report.html").read_text(encoding="utf-8")
    )
    title = escape(f"{run.protocol.name} v{run.protocol.version}: evaluation")
    return template.substitute(title=title, content="\n".join(parts))


def _head(run: Run) -> str:
    main = run.tables["methods"].get(OURS) or next(iter(run.tables["methods"].values()))
    kind = "quick subset" if run.quick else "full run"
    lines = [
        f"<h1>{escape(run.protocol.name)} <small>v{run.protocol.version}</small></h1>",
        f'<p class="lead">{escape(run.protocol.description)}</p>',
        f"<p>{run.tables['cases']} cases ({kind}). Truth: {escape(run.protocol.truth)}. "
        f"Errors: true 3-D, of {escape(run.targets)}. Refused cases count, unless said.</p>",
        '<div class="figures">',
    ]
    row = main["all"]
    gate = main["gate"]
    if run.protocol.reject is not None:
        accepted = gate["false_accepts"] if gate else None
        figures = [(shown(accepted, "d"), "accepted, all of them wrongly"),
                   (shown(run.tables["cases"], "d"), "cases that must be refused")]  # fmt: skip
    else:
        figures = [
            (shown(row["p50_mm"], "mm") + " <small>mm</small>", "median mTRE"),
            (shown(row["smsr"], "%"), "below 1 mm (SMSR)"),
            (shown(row["sr_2mm"], "%"), "below 2 mm"),
            (shown(row["gross_failures"], "%"), "gross failures, above 10 mm"),
            (
                f"{main['capture_range']['range_mm']:g} <small>mm</small>",
                f"capture range (of {main['capture_range']['last_tested_mm']:g} tested)",
            ),
        ]
        if gate:
            figures.append((shown(gate["true_accept_rate"], "%"), "of good poses accepted"))
            figures.append((shown(gate["false_accepts"], "d"), f"accepted beyond {GOOD_MM:g} mm"))
    figures.append((shown(row["cpu_p50_s"], ".2f") + " <small>s</small>", "CPU time, median"))
    lines += [f'<div class="figure"><b>{b}</b><span>{escape(s)}</span></div>' for b, s in figures]
    lines.append("</div>")
    for name, table in run.tables["methods"].items():
        if table["defects"]:
            shown_defects = "<br>".join(escape(text) for text in table["defects"][:5])
            lines.append(
                f'<p class="alarm">{escape(name)} broke in {len(table["defects"])} cases, which '
                f"count as failures:<br><code>{shown_defects}</code></p>"
            )
    return "\n".join(lines)


def _pose_sections(run: Run) -> list[str]:
    methods = run.tables["methods"]
    records = run.records
    own = OURS if len(methods) > 1 else None
    parts = ["<h2>Methods</h2>", html_table("method", {m: t["all"] for m, t in methods.items()},
                                            COLUMNS, own)]  # fmt: skip
    parts += [f"<p>{escape(comparison_text(c))}</p>" for c in run.tables["comparisons"]]
    parts += [
        "<h2>Success over the start</h2>",
        _charts(
            _figure(
                charts.success_over_start(records),
                "Bars: share below 1 mm. Dark lines: below 2 mm.",
            ),
            _figure(
                charts.start_and_end(records), "Each case. On the upper edge: nothing came out."
            ),
        ),
    ]
    for name, table in methods.items():
        parts += [f"<h3>{escape(name)}</h3>", html_table("start, mm", table["by_bin"])]
    first = OURS if OURS in methods else next(iter(methods))
    parts += [
        "<h2>Errors</h2>",
        _charts(
            _figure(charts.error_distribution(records), "All cases, refused ones included."),
            _figure(charts.error_histograms(records), f"{first}: the two parts of the error."),
        ),
    ]
    for name, table in methods.items():
        rows = {title: table["errors"][key] for key, title in ERROR_NAMES.items()}
        parts += [f"<h3>{escape(name)}</h3>", html_table("error", rows, _ERROR_COLUMNS)]
    parts.append("<h2>Kinds of pictures and patients</h2>")
    for name, table in methods.items():
        both = {**table["by_acquisition"]}
        if len(table["by_variant"]) > 1:
            both.update({f"patient {k}": v for k, v in table["by_variant"].items()})
        parts += [f"<h3>{escape(name)}</h3>", html_table("pictures", both)]
    parts += [_gate_section(run), _times_section(run)]
    return parts


def _reject_sections(run: Run) -> list[str]:
    parts = ["<h2>What must be refused</h2>"]
    for name, table in run.tables["methods"].items():
        parts += [f"<h3>{escape(name)}</h3>",
                  html_table("kind", table["by_kind"], REJECT_COLUMNS)]  # fmt: skip
    parts.append(_figure(charts.reject_similarities(run.records), "Each case with a similarity."))
    parts.append(_times_section(run))
    return parts


def _gate_section(run: Run) -> str:
    table = run.tables["methods"].get(OURS)
    if table is None or table["gate"] is None:
        return ""
    gate, stated = table["gate"], table["covariance"]
    good = table["covariance_of_good"]
    refusals = shown(table["refusals"], "counts")
    return f"""<h2>Gate and stated uncertainty</h2>
<p>Good poses (below {GOOD_MM:g} mm): {gate["n_good"]}, of which
{shown(gate["true_accept_rate"], "%")} accepted. Bad ones: {gate["n_bad"]}, of which
{gate["false_accepts"]} accepted ({shown(gate["bad_among_accepted"], "%")} of all accepted).
Area under the ROC of the similarity: {shown(gate["auc"], ".3f")}.
Refused because: {escape(refusals)}.</p>
{html_table("stated probability of being good", gate["reliability"], _RELIABILITY_COLUMNS)}
<p>Covariance against true errors: mean NEES {shown(stated["mean_nees"], ".1f")}, median
{shown(stated["median_nees"], ".1f")}, inside the stated 95 % ellipsoid
{shown(stated["coverage_95"], "%")} ({stated["n"]} cases); of the good poses alone
{shown(good["mean_nees"], ".1f")}, {shown(good["median_nees"], ".1f")},
{shown(good["coverage_95"], "%")}. Calibrated: 6, 5.35, 95 %.</p>"""


def _times_section(run: Run) -> str:
    rows = {
        name: {**table["times"]["cpu_s"], "wall": table["times"]["seconds"]["p50"],
               "total": table["times"]["cpu_total_s"]}
        for name, table in run.tables["methods"].items()
    }  # fmt: skip
    columns = (
        ("p50", "CPU s, median", ".2f"), ("p75", "75 %", ".2f"), ("p95", "95 %", ".2f"),
        ("total", "all", ".0f"), ("wall", "wall-clock s, median", ".2f"),
    )  # fmt: skip
    threads = {n for t in run.tables["methods"].values() for n in t["times"]["threads"]}
    return "\n".join(
        [
            "<h2>Time</h2>",
            _charts(
                _figure(
                    charts.times(run.records), "Without reading the picture and preparing the CT."
                )
            ),
            html_table("method", rows, columns),
            f'<p class="note">Threads per process: {", ".join(map(str, sorted(threads)))}. '
            "Wall-clock times depend on what else the machine did; see its load below.</p>",
        ]
    )


def _worst_section(worst: Sequence[WorstCase], reject: bool) -> str:
    if not worst:
        return ""
    how = (
        "Accepted ones first, then by similarity."
        if reject
        else f"Accepted ones beyond {GOOD_MM:g} mm first, then by error."
    )
    cards = []
    for item in worst:
        record = item.record
        images = "".join(
            f'<img alt="" src="data:image/jpeg;base64,'
            f'{base64.b64encode(image_file_bytes(picture, ".jpg")).decode()}">'
            for picture in item.pictures
        )
        end = "" if record["reject"] else (
            f"{record['start_mtre_mm']:.1f} mm to {shown(record.get('mtre_mm'), 'mm')} mm; "
        )  # fmt: skip
        said = "accepted" if record["accepted"] else f"refused: {record['reason']}"
        similarity = shown(record["similarity"], ".3f")
        cards.append(
            f"<figure>{images}<figcaption>{escape(record['case'])} "
            f"({escape(record['acquisition'])}, {escape(record['variant'])}): {end}"
            f"{escape(said)}; similarity {similarity}</figcaption></figure>"
        )
    return (
        f'<h2>The worst cases</h2><p class="legend">{how} Outlines: <i>blue</i> the truth, '
        "<i>green</i> an accepted pose, <i>red</i> a refused one.</p>"
        f'<div class="worst">{"".join(cards)}</div>'
    )


def _about_section(run: Run) -> str:
    entries = {"command": run.command, **run.environment}
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in entries.items())
    settings = escape(json.dumps(dict(run.settings), indent=1))
    protocol = escape(json.dumps(run.protocol.to_dict(), indent=1))
    return f"""<h2>Environment</h2><dl>{listed}</dl>
<h2>Terms</h2>
<p class="note">mTRE: mean 3-D distance of the target points under the estimated and the true pose.
In plane: what tx, ty and rz of the error alone would make; depth and out of plane: tz, rx, ry, in
the axes of the (first) camera. mPE: mean distance of the points' projections on the detector. mRPD:
distance of a true point from the ray of its estimated projection. SMSR: share below 1 mm. Capture
range (van de Kraats et al. 2005): upper edge of the last bin of starts before the share that ends
below 2 mm first falls under 95 %; here with the protocol's bins. Baselines: same pictures, same
projector, same machine; they state no acceptance.</p>
<details><summary>Settings of the methods</summary><pre><code>{settings}</code></pre></details>
<details><summary>Protocol</summary><pre><code>{protocol}</code></pre></details>"""


def _charts(*figures: str) -> str:
    return f'<div class="charts">{"".join(figures)}</div>'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def read_summary(path: Path) -> dict[str, Any]:
    """A summary.json.

    Raises:
        InputError: missing, or not one.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a summary: {error}") from error
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: is no summary of schema version {SCHEMA_VERSION}.")
    return data
