"""Does the node keep up for long? Images at a fixed rate, and what becomes of memory and latency.

Starts registration_node as a process, sends it pictures of the example CT over DDS, hears its
overlay, and calls its services all the while; prints a row for every tenth of the time:

    python -m benchmarks.soak                  # ten minutes at 7.5 images/s of 1024 x 1024
    python -m benchmarks.soak --seconds 60 --solver node

Node, solver and this client share the first two cores. Ends with 1 when memory or latency grows,
poses stay away, images are lost or counted otherwise than they were seen, or a service call is
refused, unanswered or takes 200 ms. Run it alone: the figures are those of the whole machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from benchmarks.soak_figures import HEADING, MemoryLog, figures_of, line_of, problems_of, row_of
from xray_registration.commands.ros_processes import free_ros_domain, ros_environment
from xray_registration.memory import leave_out_of_collections

NODE = "/registration_node"
PARTS = 10
_MEMORY_PERIOD_S = 2.0
_DRAIN_S, _LAST_WORDS_S = 30.0, 1.0


def main(args: list[str] | None = None) -> int:
    """0 when all stayed within its limits."""
    options = _options(args)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: options.cores])  # the node inherits it
    folder = Path(tempfile.mkdtemp(prefix="soak_"))
    os.environ.update(ros_environment(free_ros_domain(), folder))
    from benchmarks.soak_client import make_film

    film = make_film(options.width)
    parameters = _parameters(folder, film, options)
    command = [sys.executable, "-m", "xray_registration.ros.registration_node"]
    command += ["--ros-args", "--params-file", str(parameters)]
    environment = dict(os.environ)
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    with subprocess.Popen(command, env=environment) as node:
        try:
            rows, figures = _run(node, film, options)
        finally:
            node.terminate()
            try:
                node.wait(20)
            except subprocess.TimeoutExpired:
                node.kill()
    print(json.dumps(figures, indent=2))
    if options.out:
        Path(options.out).write_text(json.dumps({"rows": rows, **figures}, indent=2) + "\n")
    return 1 if figures["problems"] else 0


def _options(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate-hz", type=float, default=7.5)
    parser.add_argument("--width", type=int, default=1024, help="of the square images")
    parser.add_argument(
        "--solver", choices=("process", "node"), default="process", help="where it works"
    )
    parser.add_argument("--threads", type=int, default=0, help="of the solver; 0 = its choice")
    parser.add_argument("--cores", type=int, default=2, help="that all processes share")
    parser.add_argument("--no-overlay", action="store_true", help="nobody hears ~/overlay")
    parser.add_argument("--out", help="JSON file with all figures")
    return parser.parse_args(args)


def _parameters(folder: Path, film: Any, options: argparse.Namespace) -> Path:
    from benchmarks.soak_client import I0, LEVELS

    values: dict[str, Any] = {
        "ct_path": "example",
        "label_map_path": "example",
        "isocentre.labels": ", ".join(LEVELS),
        "image.i0": I0,
        "camera.sdd_mm": film.camera.sdd_mm,
        "start.source": "matrix",
        "start.matrix": [float(v) for v in film.first_pose.ravel()],
        "solver.process": options.solver == "process",
        "threads": options.threads,
    }
    path = folder / "registration.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return path


def _run(
    node: subprocess.Popen[bytes], film: Any, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from benchmarks.soak_client import SoakClient

    rclpy.init()
    client = SoakClient(NODE, film, options.rate_hz, not options.no_overlay)
    executor = SingleThreadedExecutor()
    executor.add_node(client)
    try:
        patience = time.monotonic() + 300.0
        while not client.is_connected():
            executor.spin_once(timeout_sec=0.1)
            if node.poll() is not None or time.monotonic() > patience:
                raise SystemExit("the node has not become active")
        # a collection of this process, half a second long, would count as the node's silence
        leave_out_of_collections()
        memory = MemoryLog(node.pid)
        client.begin()
        rows: list[dict[str, Any]] = []
        print(HEADING)
        while len(rows) < PARTS:
            if node.poll() is not None:
                raise SystemExit(f"the node ended with {node.returncode}")
            client.step()
            executor.spin_once(timeout_sec=client.idle_s)
            # not while an answer is awaited: reading it takes this thread some milliseconds
            if not client.is_calling and client.elapsed_s >= _MEMORY_PERIOD_S * len(memory.samples):
                memory.sample(client.elapsed_s)
            begin, end = (options.seconds * (len(rows) + n) / PARTS for n in (0, 1))
            if client.elapsed_s >= end:
                rows.append(row_of(client.tally, memory, begin, end))
                print(line_of(rows[-1]), flush=True)
        # what is on its way is waited for: every image must be accounted for
        end = client.elapsed_s + _DRAIN_S
        while client.elapsed_s < end:
            executor.spin_once(timeout_sec=0.1)
            client.give_up_calls()
            if client.is_settled():
                end = min(end, client.elapsed_s + _LAST_WORDS_S)
        figures = {
            "seconds": options.seconds,
            "rate_hz": options.rate_hz,
            "width": options.width,
            "solver": options.solver,
            "cores": len(os.sched_getaffinity(0)),
            **figures_of(client.tally, memory, rows),
        }
        return rows, {**figures, "problems": problems_of(rows, figures)}
    finally:
        client.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
