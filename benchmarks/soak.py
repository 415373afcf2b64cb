"""Does the node keep up for long? Images at a fixed rate, and what becomes of memory and latency.

Starts registration_node as a process, sends it pictures of the example CT over DDS, calls its
services all the while, and prints a row for every part of the time:

    python -m benchmarks.soak                  # ten minutes at 7.5 images/s of 1024 x 1024
    python -m benchmarks.soak --seconds 60 --solver node

Ends with 1 when memory or latency grows, images or service calls go unanswered, or a service takes
200 ms. Run it alone: the figures are those of the whole machine.
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

import numpy as np
import yaml

from xray_registration.commands.ros_processes import free_ros_domain, ros_environment

NODE = "/registration_node"
SERVICE_LIMIT_S = 0.2
# Growth between the second and the last fifth of the time; the first one warms up.
MEMORY_LIMIT_MB, LATENCY_LIMIT = 30.0, 1.3
LOST_LIMIT = 0.01
_DRAIN_S = 30.0

_HEADING = "     s   MB node+solver  images  on tf  latency ms p50  p99  max   service ms p50  max"


def main(args: list[str] | None = None) -> int:
    """0 when all stayed within its limits."""
    options = _options(args)
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
    figures["problems"] = _problems(rows, figures)
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

    from benchmarks.soak_client import SoakClient

    rclpy.init()
    client = SoakClient(NODE, film, options.rate_hz)
    try:
        patience = time.monotonic() + 300.0
        while not client.is_connected():
            rclpy.spin_once(client, timeout_sec=0.1)
            if node.poll() is not None or time.monotonic() > patience:
                raise SystemExit("the node has not become active")
        client.begin()
        parts = 10
        ends = [options.seconds * (n + 1) / parts for n in range(parts)]
        rows: list[dict[str, Any]] = []
        print(
            "     s   MB node+solver  images  on tf  latency ms p50  p99  max   service ms p50  max"
        )
        while client.elapsed_s < options.seconds:
            if node.poll() is not None:
                raise SystemExit(f"the node ended with {node.returncode}")
            client.step()
            rclpy.spin_once(client, timeout_sec=0.002)
            if client.elapsed_s >= ends[len(rows)]:
                begin = ends[len(rows) - 1] if rows else 0.0
                rows.append(_row(client.tally, begin, ends[len(rows)], node.pid))
                print(_line(rows[-1]), flush=True)
                if len(rows) == parts:
                    break
        # what is on its way is waited for: every image must be accounted for
        while not client.is_settled() and client.elapsed_s < options.seconds + _DRAIN_S:
            rclpy.spin_once(client, timeout_sec=0.1)
        return rows, _figures(client.tally, options)
    finally:
        client.destroy_node()
        rclpy.try_shutdown()


def _row(tally: Any, begin: float, end: float, pid: int) -> dict[str, Any]:
    latencies = [value for at, value in tally.latencies if begin <= at < end]
    services = [value for at, _, value in tally.services if begin <= at < end]
    return {
        "end_s": end,
        "memory_mb": memory_mb(pid),
        "images": sum(begin <= at < end for at in tally.sent),
        "on_tf": len(latencies),
        "latency_s": percentiles(latencies),
        "service_s": percentiles(services),
    }


def _line(row: dict[str, Any]) -> str:
    latency, service = (
        [1000 * row[key].get(name, float("nan")) for name in ("p50", "p99", "max")]
        for key in ("latency_s", "service_s")
    )
    return (
        f"{row['end_s']:6.0f}   {row['memory_mb']:14.0f}  {row['images']:6d} {row['on_tf']:6d}  "
        f"{latency[0]:14.0f} {latency[1]:4.0f} {latency[2]:4.0f}   {service[0]:14.1f} "
        f"{service[2]:4.0f}"
    )


def _figures(tally: Any, options: argparse.Namespace) -> dict[str, Any]:
    names = sorted({name for _, name, _ in tally.services})
    return {
        "seconds": options.seconds,
        "rate_hz": options.rate_hz,
        "width": options.width,
        "solver": options.solver,
        "cores": len(os.sched_getaffinity(0)),
        "sent": len(tally.sent),
        "on_tf": len(tally.latencies),
        "counters": {k: v for k, v in tally.counters.items() if k.startswith("images_")},
        "latency_s": percentiles([value for _, value in tally.latencies]),
        "service_calls": len(tally.services),
        "service_s": {
            name: percentiles([value for _, n, value in tally.services if n == name])
            for name in names
        },
    }


def _problems(rows: list[dict[str, Any]], figures: dict[str, Any]) -> list[str]:
    problems = []
    memory = [row["memory_mb"] for row in rows]
    grown = memory[-1] - memory[3] if len(memory) > 4 else 0.0
    figures["memory_growth_mb"] = grown
    if grown > MEMORY_LIMIT_MB:
        problems.append(f"memory grew by {grown:.0f} MB after the first 40 % of the time")
    halves = [
        np.median([row["latency_s"]["p50"] for row in part if row["latency_s"]] or [np.inf])
        for part in (rows[2:5], rows[-3:])
    ]
    figures["latency_ratio_end_to_begin"] = float(halves[1] / halves[0])
    if not halves[1] <= LATENCY_LIMIT * halves[0]:
        problems.append(f"the latency grew from {halves[0]:.3f} to {halves[1]:.3f} s")
    slowest = max((s.get("max", np.inf) for s in figures["service_s"].values()), default=np.inf)
    if slowest > SERVICE_LIMIT_S:
        problems.append(f"a service took {1000 * slowest:.0f} ms")
    counted = {k: int(v) for k, v in figures["counters"].items()}
    received = counted.pop("images_received", 0)
    if received != sum(counted.values()):
        problems.append(f"{received} images came, {sum(counted.values())} are accounted for")
    # The middleware keeps qos.depth images for a node that is slow to take them.
    figures["lost_before_the_node"] = figures["sent"] - received
    if figures["lost_before_the_node"] > LOST_LIMIT * figures["sent"]:
        problems.append(f"{figures['lost_before_the_node']} of {figures['sent']} images were lost")
    return problems


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p90, p99 and max; empty of nothing."""
    if not values:
        return {}
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    found = {"p50": p50, "p90": p90, "p99": p99, "max": max(values)}
    return {name: round(float(value), 5) for name, value in found.items()}


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its children, without what they share (Linux)."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        pids += [int(child) for child in task.read_text().split()]
    total = 0
    for each in pids:
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:  # it has just ended
            continue
        total += sum(int(row.split()[1]) for row in text.splitlines() if row.startswith("Pss:"))
    return total / 1024


if __name__ == "__main__":
    sys.exit(main())
