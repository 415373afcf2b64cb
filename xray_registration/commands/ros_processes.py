"""Nodes as processes of their own on a private ROS domain, started and stopped together."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.files import shared_file

DOMAINS = range(1, 102)
PROFILE = Path("config") / "fastdds_profile.xml"
_NOT_INHERITED = (
    "ROS_STATIC_PEERS",
    "ROS_LOCALHOST_ONLY",
    "ROS_DISCOVERY_SERVER",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
)
# A node ends after the image in progress.
_PATIENCE_S = 15.0


class ProcessError(XrayRegistrationError):
    """A process ended, or fell silent, before its time."""


def free_ros_domain() -> int:
    """A domain id of 1..101 in which no other participant of this machine is.

    Raises:
        ProcessError: all are in use.
    """
    first = os.getpid() % len(DOMAINS)
    for domain in [*DOMAINS[first:], *DOMAINS[:first]]:
        if _is_free(domain):
            return domain
    raise ProcessError("no free ROS_DOMAIN_ID between 1 and 101 on this machine")


def _is_free(domain: int) -> bool:
    """Nobody holds the unicast ports of the first participants (RTPS 2.2, 9.6.1.1)."""
    for participant in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * domain + 10 + 2 * participant))
            except OSError:
                return False
    return True


def fastdds_profile() -> Path:
    """The shipped Fast DDS profile: in the source tree, or where it was installed.

    Raises:
        ProcessError: it is nowhere.
    """
    try:
        return shared_file(str(PROFILE))
    except InputError as error:
        raise ProcessError(str(error)) from error


def ros_environment(domain: int, log_dir: Path) -> dict[str, str]:
    """Environment of the nodes: private domain, this machine only, room for large images."""
    profile = str(fastdds_profile())
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    environment.update(
        ROS_DOMAIN_ID=str(domain),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        # Fast DDS 3 (Kilted and newer) warns about the older name, Fast DDS 2 reads no other
        **{profile_variable(): profile},
        ROS_LOG_DIR=str(log_dir),
        PYTHONUNBUFFERED="1",
        # waiting threads that spin would take the cores from the other processes
        OMP_WAIT_POLICY="PASSIVE",
    )
    return environment


def profile_variable() -> str:
    """Name of the environment variable that Fast DDS reads the profile's path from."""
    older = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return f"FAST{'RTPS' if older else 'DDS'}_DEFAULT_PROFILES_FILE"


def parameters_yaml(node: str, values: Mapping[str, Any]) -> str:
    """A ROS parameter file."""
    import yaml

    return yaml.safe_dump({node: {"ros__parameters": dict(values)}}, sort_keys=False)


class NodeProcesses:
    """A set of node processes. Leaving the context stops all of them, whatever happened."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        """Nothing is started yet; logs and parameter files go to ``folder``."""
        self._environment = dict(environment)
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._handlers: dict[signal.Signals, Any] = {}
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        """What processes started with ``listen`` print: one JSON object a line."""

    def __enter__(self) -> NodeProcesses:
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, _interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def start(
        self, name: str, module: str, parameters: Mapping[str, Any], listen: bool = False
    ) -> None:
        """Start ``python -m module`` as the node ``name`` with these parameters."""
        path = self._folder / f"{name}.yaml"
        path.write_text(parameters_yaml(name, parameters))
        command = [sys.executable, "-m", module, "--ros-args", "--params-file", str(path)]
        with self.log_path(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if listen else log,
                stderr=log,
                # Ctrl-C of the terminal goes to this process alone, which hands it on once
                start_new_session=True,
            )
        self._processes[name] = process
        if listen:
            threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def log_path(self, name: str) -> Path:
        """What the node says."""
        return self._folder / f"{name}.log"

    def has_ended(self, name: str) -> bool:
        """The process has ended, well or not."""
        return self._processes[name].poll() is not None

    def check(self, may_have_ended: tuple[str, ...] = ()) -> None:
        """See that all are well.

        Raises:
            ProcessError: one has ended with an error, or at all unless it may; with its last words.
        """
        for name, process in self._processes.items():
            code = process.poll()
            if code is None or (code == 0 and name in may_have_ended):
                continue
            words = self.log_path(name).read_text(errors="replace").strip().splitlines()[-12:]
            raise ProcessError(
                f"{name} has ended with exit code {code}; the end of {self.log_path(name)}:\n"
                + "\n".join(f"  {word}" for word in words)
            )

    def stop(self) -> None:
        """Interrupt all as Ctrl-C does, and end those that do not listen."""
        for number, patience_s in (
            (signal.SIGINT, _PATIENCE_S),
            (signal.SIGTERM, 3.0),
            (signal.SIGKILL, 3.0),
        ):
            alive = [p for p in self._processes.values() if p.poll() is None]
            for process in alive:
                _signal_group(process, number)
            deadline = time.monotonic() + patience_s
            for process in alive:
                _wait_until(process, deadline)

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"{"):
                self.events.put(json.loads(line))


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        process.poll()


def _wait_until(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
