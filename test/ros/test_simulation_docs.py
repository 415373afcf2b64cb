"""The YAML files of the simulation say what the code says; docs/ros.md: test_interface_docs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from xray_registration.ros import joint_sweep, simulator_parameters, truth_monitor

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = {
    "carm_simulator": simulator_parameters.SPECS,
    "joint_sweep": joint_sweep.SPECS,
    "truth_monitor": truth_monitor.SPECS,
}


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
