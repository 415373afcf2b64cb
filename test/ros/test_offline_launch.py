"""offline_evaluation.launch.py starts a command that the command line understands."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from xray_registration.cli import make_parser


class Given:
    """As launch's LaunchConfiguration: a value by name, looked up in the context."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


def load(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The launch file; launch has no wheel, so its few classes are stood in for."""

    def keep(*args: Any, **kwargs: Any) -> SimpleNamespace:
        return SimpleNamespace(args=args, **kwargs)

    contents = {
        "ament_index_python": {},
        "ament_index_python.packages": {"get_package_share_directory": lambda _: repository},
        "launch": {"LaunchDescription": keep},
        "launch.actions": dict.fromkeys(
            (
                "DeclareLaunchArgument",
                "ExecuteProcess",
                "OpaqueFunction",
                "SetEnvironmentVariable",
            ),
            keep,
        ),
        "launch.substitutions": {"LaunchConfiguration": Given},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    path = repository / "launch" / "offline_evaluation.launch.py"
    spec = importlib.util.spec_from_file_location("offline_launch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_is_understood(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(repository, monkeypatch)
    (declared,) = module.generate_launch_description().args
    context = {a.args[0]: getattr(a, "default_value", None) for a in declared if len(a.args) == 1}
    assert Path(context["params_file"]).is_file()
    context.update(bag="/data/run", truth="/truth", storage="sqlite3", overlays="false")
    (action,) = module.evaluate(context)
    assert action.cmd[1:3] == ["-m", "xray_registration.cli"]
    arguments = make_parser().parse_args(action.cmd[3:])
    assert (arguments.verb, arguments.source) == ("evaluate", "/data/run")
    assert arguments.out == "/data/run_evaluation"
    assert (arguments.truth, arguments.storage, arguments.no_overlays) == (
        "/truth", "sqlite3", True,
    )  # fmt: skip
    assert arguments.params == context["params_file"]
