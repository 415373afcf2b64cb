"""The launch files, started with launch: nodes come up, work, come back, and stand side by side."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

launch_pytest = pytest.importorskip("launch_pytest", reason="launch has no wheel: see docs/ros.md")
if pytest.version_tuple >= (8, 4):
    pytest.skip("launch_pytest 3.8 needs pytest < 8.4", allow_module_level=True)

import launch  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped  # noqa: E402
from launch.actions import GroupAction, IncludeLaunchDescription  # noqa: E402
from launch.event_handlers import OnProcessStart  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("launch_environment")]

LAUNCH = Path(__file__).resolve().parents[3] / "launch"


def included(name: str, **arguments: str) -> Any:
    """A launch file with arguments, in a scope of its own."""
    source = PythonLaunchDescriptionSource(str(LAUNCH / f"{name}.launch.py"))
    return GroupAction(
        [IncludeLaunchDescription(source, launch_arguments={"rviz": "false", **arguments}.items())]
    )


def parameter_file(path: Path, **values: Any) -> str:
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return str(path)


def small_patient(scene: Any) -> dict[str, Any]:
    return {
        "ct_path": str(scene.ct_path),
        "label_map_path": str(scene.label_path),
        "isocentre.labels": "vertebrae_T7, vertebrae_T8, vertebrae_T9",
    }


def simulator_file(scene: Any, folder: Path) -> str:
    values = {"camera.width": 256, "camera.height": 256, "camera.pixel_pitch_mm": [1.1, 1.1],
              "rate_hz": 2.0}  # fmt: skip
    return parameter_file(folder / "simulator.yaml", **small_patient(scene), **values)


def registration_file(scene: Any, folder: Path) -> str:
    values = {
        "image.i0": 60000.0,
        "camera.sdd_mm": 1020.0,
        "start.source": "carm",
        "start.carm.primary_deg": -17.0,
        "start.carm.secondary_deg": 2.0,
        "start.carm.source_isocentre_mm": 705.0,
    }
    return parameter_file(folder / "registration.yaml", **small_patient(scene), **values)


class Started:
    """A description that remembers the processes that launch starts."""

    def __init__(self, *entities: Any) -> None:
        self.pids: dict[str, list[int]] = {}
        on_start = OnProcessStart(on_start=self._remember)
        self.description = launch.LaunchDescription(
            [
                launch.actions.RegisterEventHandler(on_start),
                *entities,
                launch_pytest.actions.ReadyToTest(),
            ]
        )

    def _remember(self, event: Any, context: Any) -> None:
        self.pids.setdefault(Path(event.cmd[0]).name, []).append(event.pid)


@launch_pytest.fixture
def two_arms(scene: Any, tmp_path: Path) -> Any:
    """Two simulations that share nothing but the domain."""
    files = {
        "simulator_params_file": simulator_file(scene, tmp_path),
        "params_file": registration_file(scene, tmp_path),
    }
    started = Started(
        *(
            included(
                "simulation",
                namespace=side,
                prefix=f"{side}_",
                child_frame_id=f"{side}_patient",
                **files,
            )
            for side in ("left", "right")
        )
    )
    return started.description, started


@pytest.mark.launch(fixture=two_arms)
async def test_two_arms_side_by_side(two_arms: Any, watcher: Any) -> None:
    from tf2_msgs.msg import TFMessage

    edges = watcher.heard(TFMessage, "/tf")
    truths = {s: watcher.heard(PoseStamped, f"/{s}/ground_truth/pose") for s in ("left", "right")}

    def parents() -> dict[str, str]:
        every = (t for message in list(edges) for t in message.transforms)
        return {t.child_frame_id: t.header.frame_id for t in every}

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(
        None,
        watcher.wait,
        lambda: {"left_patient", "right_patient"} <= set(parents()),
        "both arms registered",
    )
    for side in ("left", "right"):
        assert parents()[f"{side}_patient"] == f"{side}_source_optical_frame"
        assert truths[side][-1].header.frame_id == f"{side}_source_optical_frame"
    nodes = {f"{space}/{name}" for name, space in watcher.node.get_node_names_and_namespaces()}
    for side in ("left", "right"):
        assert nodes >= {
            f"/{side}/registration_node", f"/{side}/carm_simulator", f"/{side}/joint_sweep",
        }  # fmt: skip
    _, started = two_arms
    for pids in started.pids.values():
        for pid in pids:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"OMP_WAIT_POLICY=PASSIVE" in environment
            assert b"fastdds_profile.xml" in environment


@launch_pytest.fixture
def respawning(scene: Any, tmp_path: Path) -> Any:
    """One node that comes back."""
    started = Started(
        included("registration", params_file=registration_file(scene, tmp_path), use_respawn="true")
    )
    return started.description, started


@pytest.mark.launch(fixture=respawning)
async def test_a_killed_node_comes_back(respawning: Any, watcher: Any) -> None:
    diagnostics = watcher.heard(DiagnosticArray, "/diagnostics")
    _, started = respawning
    pids = started.pids.setdefault("registration_node", [])

    def is_active() -> bool:
        states = [v.value for m in list(diagnostics) for s in m.status for v in s.values
                  if v.key == "state"]  # fmt: skip
        return "waiting_for_image" in states

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, watcher.wait, is_active, "the node is active")
    os.kill(pids[0], signal.SIGKILL)
    await loop.run_in_executor(None, watcher.wait, lambda: len(pids) == 2, "a new process")
    diagnostics.clear()
    await loop.run_in_executor(None, watcher.wait, is_active, "the new node is active")


@launch_pytest.fixture
def demo(scene: Any, tmp_path: Path) -> Any:
    """The demo in which the arm moves by joint states."""
    return launch.LaunchDescription(
        [
            included(
                "demo",
                simulator_params_file=simulator_file(scene, tmp_path),
                params_file=registration_file(scene, tmp_path),
            ),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.launch(fixture=demo)
async def test_the_demo_tells_small_true_errors(watcher: Any) -> None:
    poses = watcher.heard(PoseWithCovarianceStamped, "/registration_node/pose")
    images = watcher.heard(Image, "/image")
    diagnostics = watcher.heard(DiagnosticArray, "/diagnostics")

    def errors() -> list[float]:
        return [float(v.value) for m in list(diagnostics) for s in m.status
                if s.name == "truth_monitor: truth" for v in s.values
                if v.key == "mtre_mm"]  # fmt: skip

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, watcher.wait, lambda: len(errors()) >= 3, "three poses")
    assert max(errors()) < 2.0
    assert poses
    assert images
    # The arm has begun to move.
    assert len({bytes(image.data[::97]) for image in images}) > 1


def test_what_is_not_installed_is_named() -> None:
    from launch import LaunchContext

    from xray_registration.ros import launching

    context = LaunchContext()
    context.launch_configurations["rviz"] = "true"
    if launching.is_installed("rviz2"):
        assert launching.check_rviz(context) == []
    else:
        with pytest.raises(RuntimeError, match=r"not installed here: rviz2.*rviz:=false"):
            launching.check_rviz(context)
    with pytest.raises(RuntimeError, match="no_such_package"):
        launching.need(("no_such_package",), "motion:=gazebo", "motion:=orbit")


def test_files_for_other_programs_get_the_prefix() -> None:
    from xray_registration.ros import launching

    name = "config/carm_controllers.yaml"
    assert launching.with_prefix(name, "carm_").parts[-2:] == ("config", "carm_controllers.yaml")
    copy = yaml.safe_load(launching.with_prefix(name, "left_").read_text())
    joints = copy["/**/left_controller"]["ros__parameters"]["joints"]
    assert all(joint.startswith("left_") for joint in joints)
