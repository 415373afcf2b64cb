"""The parameter tables of docs/ros.md, written from the code.

    python -m scripts.ros_tables          # rewrites docs/ros.md where a table differs
    python -m scripts.ros_tables --check  # only says so, and ends with 1

A table stands between ``<!-- parameters: NAME -->`` and the next empty line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from xray_registration.ros import (
    joint_sweep,
    registration_parameters,
    simulator_parameters,
    truth_monitor,
)
from xray_registration.ros.parameters import ParameterSpec, When
from xray_registration.ros.view_settings import specs_of_views

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "ros.md"
TABLES: dict[str, Sequence[ParameterSpec]] = {
    "registration_node": registration_parameters.SPECS,
    "each view": specs_of_views(("VIEW",)),
    "carm_simulator": simulator_parameters.SPECS,
    "joint_sweep": joint_sweep.SPECS,
    "truth_monitor": truth_monitor.SPECS,
}
_FIXED = {When.LIVE: "", When.LOAD: "load", When.CONFIGURE: "configured", When.START: "start"}
_TABLE = re.compile(r"(<!-- parameters: (?P<name>[^>]+?) -->\n).*?(?=\n\n|\n*\Z)", re.DOTALL)


def table(specs: Sequence[ParameterSpec]) -> str:
    """Markdown rows of the parameters."""
    rows = ["| parameter | default | fixed | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{spec.name}` | {_default(spec)} | {_FIXED[spec.when]} | {_meaning(spec)} |"
        for spec in specs
    ]
    return "\n".join(rows)


def rendered(text: str) -> str:
    """The document with all its tables as the code has them."""
    return _TABLE.sub(lambda found: found[1] + table(TABLES[found["name"]]), text)


def _default(spec: ParameterSpec) -> str:
    value = spec.default
    if value == ():
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _meaning(spec: ParameterSpec) -> str:
    text = spec.description
    if spec.choices:
        choices = ", ".join(f"`{choice}`" if choice else '`""`' for choice in spec.choices)
        text += f" One of {choices}."
    if spec.minimum is not None and spec.maximum is not None:
        text += f" {spec.minimum:g} to {spec.maximum:g}."
    return text.replace("|", "\\|")


def main() -> int:
    """Rewrite the document, or check it."""
    old = DOCUMENT.read_text(encoding="utf-8")
    new = rendered(old)
    if new == old:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{DOCUMENT}: tables differ from the code; run python -m scripts.ros_tables")
        return 1
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
