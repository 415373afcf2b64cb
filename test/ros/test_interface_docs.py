"""README and docs/ros.md against what the node really has: topics, services, parameters."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xray_registration.ros.diagnostics import Counters, State
from xray_registration.ros.registration_node import RegistrationNode
from xray_registration.ros.registration_parameters import SPECS

pytestmark = pytest.mark.ros
MakeNode = Callable[..., RegistrationNode]
NODE = "/registration_node"
# Of every lifecycle node.
ORDINARY = {"/parameter_events", "/rosout", f"{NODE}/transition_event"}


def _rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading."""
    below = text.split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(^\|.*\n)+", below, flags=re.MULTILINE)
    assert table is not None, heading
    rows = [
        [cell.strip() for cell in row.strip("|").split(" | ")] for row in table[0].splitlines()[2:]
    ]
    assert rows, heading
    return rows


def _topics(text: str, heading: str) -> dict[str, set[tuple[str, str]]]:
    """Direction to (resolved name, type) of a table of topics."""
    found: dict[str, set[tuple[str, str]]] = {"in": set(), "out": set()}
    for cells in _rows(text, heading):
        direction = cells[0].split()[0]
        kind = re.match(r"[a-z0-9_]+/[A-Za-z]+", cells[1])
        assert kind is not None, cells
        for name in re.findall(r"`([^`]+)`", cells[0]):
            found[direction].add((_resolved(name), kind[0]))
    return found


def _resolved(name: str) -> str:
    full = name.replace("~", NODE) if name.startswith("~") else name
    full = full if full.startswith("/") else f"/{full}"
    return full.replace("NAME", "t8_left")


def _of(names_and_types: list[tuple[str, list[str]]]) -> set[tuple[str, str]]:
    return {
        (name, kind.replace("/msg/", "/").replace("/srv/", "/"))
        for name, kinds in names_and_types
        for kind in kinds
        if name not in ORDINARY
    }


@pytest.fixture
def documents(repository: Path) -> dict[str, str]:
    return {
        "docs/ros.md": (repository / "docs" / "ros.md").read_text(encoding="utf-8"),
        "README.md": (repository / "README.md").read_text(encoding="utf-8"),
    }


def test_topics_and_services(
    documents: dict[str, str], peer: Any, make_node: MakeNode, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "trajectories: [{name: t8_left, entry_mm: [0.0, 0.0, 0.0], target_mm: [0.0, 0.0, 9.0]}]"
    )
    make_node(guidance__plan_path=str(plan))
    peer.wait_for_subscribers()
    name, node = NODE.strip("/"), peer.node
    guidance = f"{NODE}/guidance/t8_left/target"
    peer.spin_until(lambda: node.count_publishers(guidance), "the graph")
    real = {
        "out": _of(node.get_publisher_names_and_types_by_node(name, "/")),
        "in": _of(node.get_subscriber_names_and_types_by_node(name, "/")),
    }
    services = {
        pair
        for pair in _of(node.get_service_names_and_types_by_node(name, "/"))
        if pair[1] == "std_srvs/Trigger"
    }
    for document, heading in (("docs/ros.md", "### Topics"), ("README.md", "### Topics")):
        assert _topics(documents[document], heading) == real, document
    for document in documents:
        rows = _rows(documents[document], "### Services")
        assert {(_resolved(cells[0].strip("`")), "std_srvs/Trigger") for cells in rows} == services


def test_nodes(documents: dict[str, str], repository: Path) -> None:
    scripts = re.findall(
        r'"(\w+) = xray_registration\.ros\.', (repository / "setup.py").read_text()
    )
    assert scripts
    for document, heading in (("docs/ros.md", "## Nodes"), ("README.md", "### Nodes")):
        named = [cells[0].strip("`") for cells in _rows(documents[document], heading)]
        assert sorted(named) == sorted(scripts), document


def test_parameters_of_the_readme(documents: dict[str, str]) -> None:
    specs = {spec.name: spec for spec in SPECS}
    for names, meaning in _rows(documents["README.md"], "### Parameters"):
        for name in re.findall(r"`([^`]+)`", names):
            choices = specs[name].choices
            if choices:
                assert set(choices) <= set(re.findall(r"`([^`]+)`", meaning)), name


def test_frames(documents: dict[str, str]) -> None:
    specs = {spec.name: spec for spec in SPECS}
    for document in documents:
        section = documents[document].split("\n### Frames\n", 1)[1].split("\n#", 1)[0]
        assert f"`{specs['child_frame_id'].default}`" in section, document
        for name in ("header.frame_id", "child_frame_id", "parent_frame_id"):
            assert name in section, document
            assert name in specs or name == "header.frame_id"


def test_what_diagnostics_may_say_is_documented(documents: dict[str, str]) -> None:
    text = documents["docs/ros.md"]
    states = re.search(r"^\| `state` \| (.*) \|$", text, flags=re.MULTILINE)
    assert states is not None
    assert set(states[1].split(", ")) == {state.value for state in State}
    counters = re.search(r"`images_([a-z_/]+)`", text)
    assert counters is not None
    assert counters[1].split("/") == list(vars(Counters()))


def test_parameter_tables_are_those_of_the_code(repository: Path) -> None:
    path = repository / "scripts" / "ros_tables.py"
    spec = importlib.util.spec_from_file_location("ros_tables", path)
    assert spec is not None
    assert spec.loader is not None
    tables: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = tables.DOCUMENT.read_text(encoding="utf-8")
    for name in tables.TABLES:
        assert f"<!-- parameters: {name} -->" in text
    assert tables.rendered(text) == text, "run python -m scripts.ros_tables"
    assert tables.rendered(text.replace("| `ct_path` |", "| `ct` |")) == text
