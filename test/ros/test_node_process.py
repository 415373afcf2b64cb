"""The node as its own process, and a listener to /tf that is not ROS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from xray_registration.geometry.converters import matrix_from_transform

pytestmark = pytest.mark.ros

LISTENER = Path(__file__).with_name("cyclone_tf_listener.py")


def _parameters_file(scene: Any, path: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "ct_path": str(scene.ct_path),
        "label_map_path": str(scene.label_path),
        "isocentre.labels": "vertebrae_T8",
        "image.i0": 40000.0,
        "start.source": "matrix",
        "start.matrix": scene.start().ravel().tolist(),
        "gate.min_level_margin": 0.0,
        **changes,
    }
    path.write_text(yaml.safe_dump({"registration_node": {"ros__parameters": values}}))
    return path


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _node_command(parameters: Path) -> list[str]:
    module = "xray_registration.ros.registration_node"
    return [sys.executable, "-m", module, "--ros-args", "--params-file", str(parameters)]


def test_a_peer_that_is_not_rclpy_receives_tf(
    scene: Any, peer: Any, tmp_path: Path, ros_environment: dict[str, str]
) -> None:
    pytest.importorskip("cyclonedds")
    domain = os.environ["ROS_DOMAIN_ID"]
    listener = [sys.executable, str(LISTENER), domain, "60"]
    parameters = _parameters_file(scene, tmp_path / "node.yaml")
    with (
        _process(listener, ros_environment) as cyclone,
        _process(_node_command(parameters), ros_environment) as node,
    ):
        assert cyclone.stdout is not None
        assert cyclone.stdout.readline().strip() == "ready"
        peer.wait_for_subscribers()
        # The C-arm goes on taking pictures; the listener hears one once it has found the node.
        while cyclone.poll() is None:
            assert node.poll() is None, node.communicate()[0]
            report = peer.wait_for_report(peer.send_scene(scene))
            assert report["state"] == "registered", report
            peer.spin_for(0.3)
        line = cyclone.communicate()[0].strip()
        assert cyclone.returncode == 0, line
        edge = json.loads(line)
        assert (edge["parent"], edge["child"]) == ("carm_source_optical_frame", "patient")
        assert edge["stamp"] in [[t.header.stamp.sec, 123456789] for t in peer.transforms]
        pose = matrix_from_transform(edge["translation_m"], edge["quaternion_xyzw"])
        assert scene.mtre_mm(pose) < 2.0

        # Ctrl-C ends the node without a trace and with exit code 0.
        node.send_signal(signal.SIGINT)
        output = node.communicate(timeout=30)[0]
        assert node.returncode == 0, output
        assert "Traceback" not in output


def test_ctrl_c_ends_the_simulator_while_it_renders(
    scene: Any, tmp_path: Path, ros_environment: dict[str, str]
) -> None:
    values = {"ct_path": str(scene.ct_path), "cache_dir": str(tmp_path / "cache")}
    parameters = tmp_path / "simulator.yaml"
    parameters.write_text(yaml.safe_dump({"carm_simulator": {"ros__parameters": values}}))
    module = "xray_registration.ros.carm_simulator"
    command = [sys.executable, "-m", module, "--ros-args", "--params-file", str(parameters)]
    with _process(command, ros_environment) as simulator:
        assert simulator.stdout is not None
        assert any("1024 x 1024" in line for line in simulator.stdout)
        simulator.send_signal(signal.SIGINT)
        output = simulator.communicate(timeout=60)[0]
        assert simulator.returncode == 0, output
        assert "Traceback" not in output
    # Whatever was kept is whole.
    assert not list((tmp_path / "cache").glob("*/.*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image.kind": "photo"}, "expected one of intensity, attenuation, display"),
        ({"gate.min_similarity": 3.0}, "gate.min_similarity"),
    ],
)
def test_unusable_parameters_end_the_process_with_a_message(
    scene: Any,
    tmp_path: Path,
    ros_environment: dict[str, str],
    changes: dict[str, Any],
    words: str,
) -> None:
    parameters = _parameters_file(scene, tmp_path / "node.yaml", **changes)
    done = subprocess.run(
        _node_command(parameters), env=ros_environment, text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
