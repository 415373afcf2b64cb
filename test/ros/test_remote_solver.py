"""The solver in a process of its own: the same answers, and what its end means."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.markers import MarkerOrder
from xray_registration.ros.registration_parameters import SPECS
from xray_registration.ros.registration_settings import RegistrationSettings, build_settings
from xray_registration.ros.remote_solver import RemoteSolver, SolverDefectError, SolverDiedError
from xray_registration.ros.solver import Ending, LocalSolver, Order, PictureOrder

TIMEOUT_S = 60.0


def _settings(scene: Any, **changes: Any) -> RegistrationSettings:
    values: dict[str, Any] = {spec.name: spec.default for spec in SPECS}
    values.update(
        {
            "ct_path": str(scene.ct_path),
            "label_map_path": str(scene.label_path),
            "camera.sdd_mm": 1020.0,
            "image.i0": 40000.0,
            "markers.max_triangles": 2000,
            "markers.surface": False,
        }
    )
    values.update({name.replace("__", "."): value for name, value in changes.items()})
    return build_settings(values)


def _order(scene: Any, settings: RegistrationSettings, **changes: Any) -> Order:
    header = Header(frame_id="carm")
    frame = Frame.single(
        array_to_image(scene.raw, header), camera_to_message(scene.camera, header), 0, 0.0
    )
    order = Order(frame, settings, (np.eye(4),), scene.start())
    return replace(order, **changes)


@pytest.fixture
def solvers() -> Iterator[list[RemoteSolver]]:
    made: list[RemoteSolver] = []
    yield made
    for solver in made:
        solver.close()


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _wait_until_gone(pid: int) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not _is_gone(pid):
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.02)


def test_same_answers_as_in_the_process_and_life_after_a_crash(
    scene: Any, solvers: list[RemoteSolver]
) -> None:
    settings = _settings(scene)
    local = LocalSolver(settings)
    remote = RemoteSolver(settings, lambda: None)
    solvers.append(remote)
    assert remote.facts.ct_sha256 == local.facts.ct_sha256
    assert set(remote.facts.structures) == set(local.facts.structures)
    order = _order(scene, settings)
    here, there = local.solve(order), remote.solve(order)
    assert there.ending is here.ending is Ending.SOLVED
    assert here.result is not None
    assert there.result is not None
    assert there.result.accepted
    # OpenMP's sums may differ by rounding
    np.testing.assert_allclose(there.result.rig_from_ct, here.result.rig_from_ct, atol=1e-2)
    assert there.cameras == (scene.camera,)
    picture = PictureOrder(
        settings, (np.eye(4),), there.result.rig_from_ct, True, "caption", overlay=True, drr=True
    )
    pictures = remote.draw(picture)
    [overlay], [drr] = pictures.overlays, pictures.drrs
    assert overlay.shape == (256, 256, 3)
    assert drr.shape == (256, 256)
    assert drr.dtype == np.uint8
    # The DRR shows what the X-ray shows: bone is bright in both.
    bright = -np.log(scene.raw / 40000.0)
    assert np.corrcoef(drr.ravel(), bright.ravel())[0, 1] > 0.9
    assert len(remote.markers(MarkerOrder("lps", "patient", ("vertebrae_*",), ()))) > 500

    # Bad input is an answer; a defect over there raises here, with its trace.
    bad = _order(scene, settings)
    bad.frame.image.encoding = "yuv422"
    outcome = remote.solve(bad)
    assert outcome.ending is Ending.BAD_INPUT
    assert "yuv422" in outcome.text
    with pytest.raises(SolverDefectError, match="Traceback"):
        remote.solve(replace(order, camera_from_rig=()))
    assert remote.solve(replace(order, rig_from_ct_start=None)).ending is Ending.NO_START

    # It crashes: said once, and a restart is as good as new.
    pid = remote.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(SolverDiedError, match=r"exit code -9"):
        remote.solve(order)
    with pytest.raises(SolverDiedError):
        remote.solve(order)
    remote.restart()
    assert remote.pid != pid
    again = remote.solve(order)
    assert again.result is not None
    assert again.result.accepted
    alive = remote.pid
    assert alive is not None
    remote.restart()  # nothing to do
    assert remote.pid == alive

    # Closed from another thread while it works: the caller hears of it, and nothing is left.
    heard: list[Exception] = []

    def work() -> None:
        try:
            while True:
                remote.solve(order)
        except SolverDiedError as error:
            heard.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)
    remote.close()
    thread.join(TIMEOUT_S)
    assert len(heard) == 1
    _wait_until_gone(alive)
    remote.restart()
    with pytest.raises(SolverDiedError):
        remote.solve(order)


def test_a_request_that_takes_too_long_is_given_up(scene: Any, solvers: list[RemoteSolver]) -> None:
    limit: list[float | None] = [None]
    remote = RemoteSolver(_settings(scene), lambda: limit[0])
    solvers.append(remote)
    limit[0] = 1e-3
    with pytest.raises(SolverDiedError, match=r"solver\.timeout_s \(0\.001 s\)"):
        remote.solve(_order(scene, _settings(scene)))


def test_a_patient_that_cannot_be_used(scene: Any) -> None:
    with pytest.raises(InputError, match=r"/nowhere/ct\.nii"):
        RemoteSolver(_settings(scene, ct_path="/nowhere/ct.nii"), lambda: None)
    with pytest.raises(InputError, match="vertebrae_T99"):
        LocalSolver(_settings(scene, planned_levels="vertebrae_T99"))


def test_it_does_not_outlive_its_owner() -> None:
    """An owner that is killed leaves no process behind."""
    code = (
        "import os, subprocess, sys\n"
        "from multiprocessing import Pipe\n"
        "from xray_registration.ros.remote_solver import _BOOT\n"
        "import json\n"
        "ours, theirs = Pipe()\n"
        "child = subprocess.Popen([sys.executable, '-c', _BOOT, str(theirs.fileno()),\n"
        "    json.dumps(sys.path)], pass_fds=[theirs.fileno()])\n"
        "theirs.close()\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = dict(os.environ)
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    _wait_until_gone(pid)
