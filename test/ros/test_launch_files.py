"""Launch files: they compile everywhere, and are described where launch_ros is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
FILES = sorted(LAUNCH.glob("*.launch.py"))
EVERYWHERE = {
    "namespace", "params_file", "use_sim_time", "autostart", "use_respawn", "log_level", "rviz",
}  # fmt: skip


def test_there_are_launch_files() -> None:
    assert {f.name.partition(".")[0] for f in FILES} == {
        "registration", "simulation", "biplane", "offline_evaluation", "demo",
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_compiles(path: Path) -> None:
    code = compile(path.read_text(), str(path), "exec")
    assert "generate_launch_description" in code.co_names


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_describes_itself(path: Path) -> None:
    pytest.importorskip("launch_ros", reason="launch_ros has no wheel")
    from launch import LaunchContext

    spec = importlib.util.spec_from_file_location("launch_file", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    description = module.generate_launch_description()
    arguments = {a.name: a for a in description.get_launch_arguments()}
    if path.name != "offline_evaluation.launch.py":  # a command, not a node
        assert set(arguments) >= EVERYWHERE
    context = LaunchContext()
    for name, argument in arguments.items():
        assert argument.description
        if argument.default_value is None:
            continue
        default = "".join(part.perform(context) for part in argument.default_value)
        if name.endswith(("file", "profile")):
            assert Path(default).is_file(), name
