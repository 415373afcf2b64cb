"""docs/ros.md and the YAML files say of the simulation's parameters what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from xray_registration.ros import joint_sweep, simulator_parameters, truth_monitor
from xray_registration.ros.parameters import ParameterSpec

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = {
    "carm_simulator": simulator_parameters.SPECS,
    "joint_sweep": joint_sweep.SPECS,
    "truth_monitor": truth_monitor.SPECS,
}


def default_text(spec: ParameterSpec) -> str:
    if spec.default == ():
        return "–"
    value = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    return f"`{json.dumps(value)}`"


@pytest.mark.parametrize("node", NODES)
def test_every_parameter_has_its_row(node: str) -> None:
    text = (REPOSITORY / "docs" / "ros.md").read_text(encoding="utf-8")
    section = text.partition(f"### Parameters of {node}\n")[2].partition("\n#")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    specs = NODES[node]
    assert [row[0].strip("|` ") for row in rows] == [spec.name for spec in specs]
    for row, spec in zip(rows, specs, strict=True):
        assert row[1] == default_text(spec)
        assert row[3].startswith(spec.description)


@pytest.mark.parametrize(
    ("name", "node", "complete"),
    [
        ("carm_simulator.yaml", "carm_simulator", True),
        ("biplane_simulator.yaml", "carm_simulator", False),
        ("demo_simulator.yaml", "carm_simulator", False),
        ("joint_sweep.yaml", "joint_sweep", False),
    ],
)
def test_the_yaml_files_know_the_parameters(name: str, node: str, complete: bool) -> None:
    text = (REPOSITORY / "config" / name).read_text(encoding="utf-8")
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    specs = {spec.name: spec for spec in NODES[node]}
    assert set(values) <= set(specs)
    for key, value in values.items():
        assert specs[key].check(value) is not None
    if complete:
        missing = {spec for spec in specs if spec not in values and f"# {spec}:" not in text}
        assert not missing


def test_the_second_view_is_where_the_simulator_puts_it() -> None:
    import numpy as np

    from xray_registration.geometry.carm_kinematics import second_view_from_first

    simulator, registration = (
        yaml.safe_load((REPOSITORY / "config" / f"biplane_{name}.yaml").read_text())["/**"][
            "ros__parameters"
        ]
        for name in ("simulator", "registration")
    )
    expected = second_view_from_first(
        simulator["biplane.angle_deg"], simulator["camera.source_isocentre_mm"]
    )
    given = np.reshape(registration["view_1.camera_from_rig"], (4, 4))
    np.testing.assert_allclose(given, expected, atol=1e-6)
