"""xray-registration demo: simulated C-arm and registration node, live over ROS 2, measured."""

from __future__ import annotations

import argparse
import queue
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_registration.commands.inputs import add_device_option, make_folder
from xray_registration.errors import InputError

if TYPE_CHECKING:
    from xray_registration.commands.demo_plan import Plan, Scene
    from xray_registration.commands.live_table import LiveTable
    from xray_registration.commands.ros_processes import NodeProcesses
    from xray_registration.evaluation.demo_score import Scorer

FAILED = 1
_PRESETS = ("standard", "low_dose", "hard")
# After the C-arm has finished, so long is waited for what is still on its way.
_GRACE_S = 15.0

_DESCRIPTION = """\
Three processes over DDS on this machine: a simulated C-arm that takes X-ray images of a real
patient's thoracic spine along an arc, the registration node, and a client that reads /tf. Every
pose on /tf is compared with the true one. Writes summary.json, pictures and index.html to DIR.
"""
_EPILOG = """\
Exit codes: 0; 1 when a pose on /tf is more than 2 mm off, frames are missing, fewer than 90 % of
the frames have a pose, or a process fails; 2 bad input.
"""


def add_parser(verbs: Any) -> None:
    """Add ``demo`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "demo",
        help="see it work: simulated C-arm, registration node and client over ROS 2",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", default="demo_output", metavar="DIR", help="default demo_output")
    parser.add_argument("--frames", type=int, default=20, help="images along the arc (20)")
    parser.add_argument("--size", type=int, default=1024, help="pixels along each side (1024)")
    parser.add_argument(
        "--preset", choices=_PRESETS, default="standard", help="of the X-ray model (standard)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--cache", metavar="DIR", help="keep rendered X-rays for the next time")
    parser.add_argument(
        "--timeout", type=float, default=300.0, metavar="S", help="longest silence, seconds (300)"
    )
    add_device_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo, write its folder; 0 when every pose on /tf was right and no frame is missing.

    Raises:
        InputError: unusable options.
        ProcessError: a process ended before its time.
    """
    from xray_registration.evaluation.demo_report import write_report

    began = time.monotonic()
    plan = _plan(arguments)
    out = Path(arguments.out)
    make_folder(out / "nodes", "--out")
    images = Path(tempfile.mkdtemp(prefix=".images.", dir=out))
    try:
        scene, scorer = _live(plan, out / "nodes", images, arguments.timeout)
        live_s = time.monotonic() - began
        print("drawing the pictures and the report", flush=True)
        summary = write_report(out, images, scorer.scores, _about(plan, scene, live_s))
    finally:
        shutil.rmtree(images, ignore_errors=True)
    _say(summary, out, time.monotonic() - began)
    return FAILED if summary["problems"] else 0


def _plan(arguments: argparse.Namespace) -> Plan:
    from xray_registration.commands.demo_plan import Plan

    for name, smallest in (("frames", 1), ("size", 64), ("seed", 0)):
        if getattr(arguments, name) < smallest:
            raise InputError(
                f"--{name} is {getattr(arguments, name)}; expected {smallest} or more."
            )
    cache = "" if arguments.cache is None else str(Path(arguments.cache).resolve())
    return Plan(
        arguments.frames,
        arguments.size,
        arguments.preset,
        arguments.seed,
        arguments.device,
        cache,
    )


def _live(plan: Plan, nodes: Path, images: Path, timeout_s: float) -> tuple[Scene, Scorer]:
    """Start the processes, follow them to the end, stop them."""
    from xray_registration.commands.live_table import LiveTable
    from xray_registration.commands.ros_processes import (
        NodeProcesses,
        free_ros_domain,
        ros_environment,
    )

    domain = free_ros_domain()
    environment = ros_environment(domain, (nodes / "ros_log").resolve())
    with NodeProcesses(environment, nodes) as processes, LiveTable(plan.frames) as table:
        table.say(
            "C-arm simulator, registration node and client: three processes, ROS 2 over DDS, "
            f"ROS_DOMAIN_ID={domain}"
        )
        table.status("the C-arm simulator starts; loading the CT")
        simulator = "xray_registration.ros.carm_simulator"
        processes.start("carm_simulator", simulator, plan.simulator_parameters())

        from xray_registration.commands.demo_plan import make_scene
        from xray_registration.evaluation.demo_score import FirstProposal, Scorer

        scene = make_scene(plan)
        node = "xray_registration.ros.registration_node"
        processes.start("registration_node", node, plan.node_parameters())
        client = {"image_dir": str(images.resolve())}
        processes.start("demo_client", "xray_registration.ros.demo_client", client, listen=True)
        proposal = FirstProposal(scene.ct, plan.camera, images)
        scorer = Scorer(scene.targets_lps_mm, scene.isocentre_lps_mm, proposal, plan.arc.angles_deg)
        _follow(processes, table, scorer, plan.frames, timeout_s)
    return scene, scorer


def _follow(
    processes: NodeProcesses, table: LiveTable, scorer: Scorer, frames: int, timeout_s: float
) -> None:
    """Score what the client hears until all frames are in, or nothing more is to come."""
    from xray_registration.evaluation.demo_score import HeardFrames

    heard = HeardFrames()
    last_s = time.monotonic()
    while len(scorer.scores) < frames:
        processes.check(may_have_ended=("carm_simulator",))
        silent_s = time.monotonic() - last_s
        if silent_s > (_GRACE_S if processes.has_ended("carm_simulator") else timeout_s):
            table.say(f"nothing was heard for {silent_s:.0f} s; the demo ends here")
            return
        try:
            event = processes.events.get(timeout=0.2)
        except queue.Empty:
            continue
        last_s = time.monotonic()
        if event["event"] == "simulator":
            table.status(*_simulator_text(event, frames))
        frame = heard.add(event)
        if frame is not None:
            table.add(scorer.add(heard.number_of(frame), frame))


def _simulator_text(event: dict[str, Any], frames: int) -> tuple[str, str]:
    if event["state"] == "rendering":
        text = "rendering the X-ray images ahead, so that the registration has the CPU to itself:"
        return text, f"{event['frames_rendered']} of {frames}"
    if event["state"] == "sending":
        return "the C-arm moves and shoots:", f"{event['images_sent']} of {frames} images sent"
    return str(event["state"]).replace("_", " "), ""


def _about(plan: Plan, scene: Scene, live_s: float) -> Any:
    from xray_registration.evaluation.demo_report import DemoAbout

    return DemoAbout(
        frames=plan.frames,
        camera=plan.camera,
        arc=plan.arc,
        preset=plan.preset,
        seed=plan.seed,
        device=plan.device,
        ct=scene.ct,
        labels=scene.labels,
        vertebrae=scene.vertebrae,
        target_count=len(scene.targets_lps_mm),
        live_s=live_s,
    )


def _say(summary: dict[str, Any], out: Path, seconds: float) -> None:
    def shown(key: str, digits: int) -> str:
        value = summary[key]
        return "-" if value is None else f"{value:.{digits}f}"

    print(
        f"\n{summary['frames']} frames, {summary['accepted']} accepted, {summary['broadcast']} "
        f"poses on /tf: true mTRE median {shown('mtre_median_mm', 3)} mm, largest "
        f"{shown('mtre_max_mm', 3)} mm; median {shown('seconds_median', 2)} s a frame "
        f"({seconds:.0f} s in all)"
    )
    for problem in summary["problems"]:
        print(f"FAILED: {problem}")
    print(f"Open {out / 'index.html'}")
