"""Processes of their own: a private domain, what they say, and that none is left behind."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import yaml

from xray_registration.commands import ros_processes
from xray_registration.commands.ros_processes import (
    NodeProcesses,
    ProcessError,
    fastdds_profile,
    free_ros_domain,
    parameters_yaml,
    ros_environment,
)

# Stands in for a node: says two things, then waits for Ctrl-C; NODE_MODE says how it behaves.
NODE = """
import json, os, signal, subprocess, sys, time
mode = os.environ["NODE_MODE"]
if mode == "fails":
    print("cannot go on: no CT", file=sys.stderr)
    sys.exit(2)
if mode == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("a line that is no event")
print(json.dumps({"event": "ready", "child": child.pid, "arguments": sys.argv[1:]}), flush=True)
if mode == "ends":
    child.kill()
    sys.exit(0)
while True:
    try:
        time.sleep(0.1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        child.wait()
        sys.exit(0)
"""


@pytest.fixture
def node_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "stand_in_node.py").write_text(NODE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "stand_in_node"


def _processes(folder: Path, mode: str) -> NodeProcesses:
    return NodeProcesses({**os.environ, "NODE_MODE": mode}, folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # an orphan that nobody has waited for yet is dead as well
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def _wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_domain_that_is_in_use_is_not_chosen() -> None:
    first = free_ros_domain()
    assert 1 <= first <= 101
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("", 7400 + 250 * first + 10))
        assert free_ros_domain() != first


def test_all_domains_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros_processes, "_is_free", lambda domain: False)
    with pytest.raises(ProcessError, match="no free ROS_DOMAIN_ID"):
        free_ros_domain()


def test_environment_is_private_and_has_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DISCOVERY_SERVER", "10.0.0.1:11811")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/somebody/elses.xml")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    environment = ros_environment(42, tmp_path)
    assert environment["ROS_DOMAIN_ID"] == "42"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert "ROS_DISCOVERY_SERVER" not in environment
    assert environment["FASTDDS_DEFAULT_PROFILES_FILE"] == str(fastdds_profile())
    assert "segment_size" in fastdds_profile().read_text()
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in ros_environment(42, tmp_path)


def test_parameter_file() -> None:
    text = parameters_yaml("node", {"a.b": [1.0, 2.0], "c": True})
    assert yaml.safe_load(text) == {"node": {"ros__parameters": {"a.b": [1.0, 2.0], "c": True}}}


@pytest.mark.parametrize("mode", ["polite", "deaf"])
def test_nothing_is_left_behind(
    node_module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    if mode == "deaf":
        monkeypatch.setattr(ros_processes, "_PATIENCE_S", 0.5)
    with _processes(tmp_path, mode) as processes:
        processes.start("listened", node_module, {"x": 1}, listen=True)
        event = processes.events.get(timeout=30)
        assert event["event"] == "ready"
        assert event["arguments"] == [
            "--ros-args",
            "--params-file",
            str(tmp_path / "listened.yaml"),
        ]
        processes.check()
        assert not processes.has_ended("listened")
        assert _is_alive(event["child"])
    assert processes.has_ended("listened")
    _wait_for(lambda: not _is_alive(event["child"]))
    if mode == "polite":
        assert "interrupted" in (tmp_path / "listened.log").read_text()


def test_all_are_stopped_when_the_demo_itself_fails(node_module: str, tmp_path: Path) -> None:
    children = []

    def fail() -> None:
        with _processes(tmp_path, "polite") as processes:
            processes.start("one", node_module, {}, listen=True)
            processes.start("two", node_module, {}, listen=True)
            children.extend(processes.events.get(timeout=30)["child"] for _ in range(2))
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert len(children) == 2
    _wait_for(lambda: not any(_is_alive(child) for child in children))


def test_a_process_that_fails_is_reported_with_its_last_words(
    node_module: str, tmp_path: Path
) -> None:
    with _processes(tmp_path, "fails") as processes:
        processes.start("node", node_module, {})
        _wait_for(lambda: processes.has_ended("node"))
        with pytest.raises(ProcessError, match=r"(?s)node has ended with exit code 2.*no CT"):
            processes.check(may_have_ended=("node",))


def test_an_end_is_fine_only_where_it_is_expected(node_module: str, tmp_path: Path) -> None:
    with _processes(tmp_path, "ends") as processes:
        processes.start("node", node_module, {})
        _wait_for(lambda: processes.has_ended("node"))
        processes.check(may_have_ended=("node",))
        with pytest.raises(ProcessError, match="exit code 0"):
            processes.check()


def test_sigterm_ends_like_ctrl_c(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def wait_in_the_context() -> None:
        with _processes(tmp_path, "polite"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        wait_in_the_context()
    assert signal.getsignal(signal.SIGTERM) is before
