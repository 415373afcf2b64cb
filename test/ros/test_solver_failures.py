"""The node as a process whose solver hangs, dies, or is killed together with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from geometry_msgs.msg import PoseWithCovarianceStamped
from lifecycle_msgs.msg import State as LifecycleStateId
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter

pytestmark = pytest.mark.ros
TIMEOUT_S = 60.0


@pytest.fixture
def process(
    scene: Any, tmp_path: Path, ros_environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """registration_node with its solver in a process of its own."""
    values = {
        "ct_path": str(scene.ct_path),
        "label_map_path": str(scene.label_path),
        "isocentre.labels": "vertebrae_T8",
        "image.i0": 40000.0,
        "start.source": "matrix",
        "start.matrix": scene.start().ravel().tolist(),
        "start.use_previous": False,
        "stale_after_s": 0.0,
        "gate.min_level_margin": 0.0,
        "markers.surface": False,
    }
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump({"registration_node": {"ros__parameters": values}}))
    command = [sys.executable, "-m", "xray_registration.ros.registration_node"]
    command += ["--ros-args", "--params-file", str(path)]
    with subprocess.Popen(command, env=ros_environment) as started:
        yield started
        # Ended in good order: a participant that is killed stays in everybody's graph for its
        # lease of 20 s, and the next test would take it for its own node.
        started.send_signal(signal.SIGINT)
        try:
            started.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            started.kill()


def _solver_pid(process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
            for child in task.read_text().split():
                return int(child)
        time.sleep(0.02)
    pytest.fail("the node has no solver process")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_solver_that_dies_is_replaced_and_one_that_hangs_holds_nothing_up(
    scene: Any, peer: Any, process: subprocess.Popen[bytes]
) -> None:
    peer.wait_for_subscribers()
    for number in (1, 2):  # with the first one the markers are made as well
        assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
        peer.spin_until(lambda n=number: len(peer.overlays) == n, "an overlay")
    first = _solver_pid(process)
    os.kill(first, signal.SIGSTOP)
    stamp = peer.send_scene(scene)
    peer.spin_for(0.2)
    os.kill(first, signal.SIGKILL)
    report = peer.wait_for_report(stamp)
    assert report["state"] == "error"
    assert "the solver's process has ended (exit code -9)" in report["reason_text"]
    assert report["images_failed"] == "1"
    # The next images are registered by a new one; nothing of the lost image is on /tf.
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    assert _solver_pid(process) != first
    peer.spin_until(lambda: len(peer.transforms) == 3, "transforms")
    assert [f"{t.header.stamp.sec}.123456789" for t in peer.transforms].count(stamp) == 0

    # It hangs: whoever asks the node is answered all the same.
    solver = _solver_pid(process)
    os.kill(solver, signal.SIGSTOP)
    for _ in range(5):  # one in progress, the others replace each other
        peer.send_scene(scene)
        peer.spin_for(0.05)
    reports = len(peer.results)
    request = GetParameters.Request(names=["image.kind"])
    assert peer.call(GetParameters, "get_parameters", request).values[0].string_value == "intensity"
    assert "tf_broadcast" in peer.call(ListParameters, "list_parameters").result.names
    change = Parameter("start.max_rejects", value=3).to_parameter_msg()
    answer = peer.call(SetParameters, "set_parameters", SetParameters.Request(parameters=[change]))
    assert answer.results[0].successful
    assert peer.trigger("reset")[0]
    state = peer.call(GetState, "get_state").current_state.id
    assert state == LifecycleStateId.PRIMARY_STATE_ACTIVE
    # Transitions too: nothing waits for what hangs.
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        wish = ChangeState.Request(transition=Transition(id=transition))
        assert peer.call(ChangeState, "change_state", wish).success
    assert len(peer.results) == reports
    assert len(peer.transforms) == 3
    assert not _is_running(solver)


def test_a_node_that_is_killed_in_mid_registration_leaves_nothing(
    scene: Any, peer: Any, process: subprocess.Popen[bytes]
) -> None:
    peer.wait_for_subscribers()
    first = peer.send_scene(scene)
    assert peer.wait_for_report(first)["state"] == "registered"
    peer.spin_until(lambda: len(peer.transforms) == 1 and peer.poses, "the first pose")
    solver = _solver_pid(process)
    os.kill(solver, signal.SIGSTOP)
    peer.send_scene(scene)
    peer.spin_for(0.2)
    process.kill()
    process.wait()
    os.kill(solver, signal.SIGCONT)
    end = time.monotonic() + TIMEOUT_S
    while _is_running(solver):  # it finishes for nobody, and ends
        assert time.monotonic() < end, "the solver has outlived its node"
        peer.spin_for(0.1)
    peer.spin_for(0.5)
    # What is on /tf is of the first image and says so; the latched pose went with its publisher.
    [edge] = peer.transforms
    assert f"{edge.header.stamp.sec}.{edge.header.stamp.nanosec:09d}" == first
    late = peer.hear(PoseWithCovarianceStamped, "/registration_node/pose", latched=True)
    # Until the dead node's lease has run out, so that no other test finds it in its graph.
    peer.spin_until(lambda: not peer.node.count_publishers("/tf"), "the end of the lease")
    assert late == []
    assert len(peer.transforms) == 1
