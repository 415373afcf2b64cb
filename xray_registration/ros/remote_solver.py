"""A solver in a process of its own: Python's lock and a crash over there are not the node's.

The solver works in many small numpy and torch calls, each of which needs the interpreter's lock; in
the node's own process they would hold up services and parameters.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.ros.markers import MarkerOrder
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.solver import Order, Outcome, PatientFacts, PictureOrder, Pictures

# The child finds its modules where the node found them: a package of the same name in the folder
# that the node was started in must not come before them.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from xray_registration.ros.solver_process import main; sys.exit(main())"
)
_END_TIMEOUT_S = 2.0


class SolverDiedError(XrayRegistrationError):
    """The solver's process has ended, or was ended for taking too long."""


class SolverDefectError(XrayRegistrationError):
    """An exception in the solver's process that is no bad input; with its trace."""


class RemoteSolver:
    """``LocalSolver`` in a child process. One caller at a time; ``close`` from any thread."""

    def __init__(
        self, settings: RegistrationSettings, timeout_s: Callable[[], float | None]
    ) -> None:
        """Start the process and load the patient there.

        Args:
            settings: of the patient.
            timeout_s: asked for each request: how long it may take; None = as long as it needs.

        Raises:
            InputError: a patient that cannot be used.
            SolverDiedError: the process could not be started or ended.
        """
        self._settings = settings
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        try:
            self.facts: PatientFacts = self._start()
        except Exception:
            self.close()
            raise

    @property
    def pid(self) -> int | None:
        """Of the process, while it is there."""
        process = self._process
        return None if process is None else process.pid

    def solve(self, order: Order) -> Outcome:
        """See ``Solver``. Raises SolverDiedError, SolverDefectError."""
        outcome: Outcome = self._call("solve", order, timeout_s=self._timeout_s())
        return outcome

    def draw(self, order: PictureOrder) -> Pictures:
        """See ``Solver``."""
        pictures: Pictures = self._call("draw", order, timeout_s=self._timeout_s())
        return pictures

    def markers(self, order: MarkerOrder) -> bytes:
        """See ``Solver``."""
        message: bytes = self._call("markers", order)
        return message

    def restart(self) -> None:
        """A new process when the old one is gone.

        Raises:
            XrayRegistrationError: it cannot be started, or the patient cannot be loaded again.
        """
        process = self._process
        if self._closed or (process is not None and process.poll() is None and self._connection):
            return
        self._end()
        self.facts = self._start()

    def close(self) -> None:
        """End the process, at once: what it works on is not wanted any more."""
        self._closed = True
        self._end()

    def _start(self) -> PatientFacts:
        ours, theirs = Pipe()
        fileno = theirs.fileno()
        command = [sys.executable, "-c", _BOOT, str(fileno), json.dumps(sys.path)]
        try:
            with self._lock:
                if self._closed:
                    ours.close()
                    raise SolverDiedError("the solver was closed")
                self._process = subprocess.Popen(
                    command, pass_fds=[fileno], stdin=subprocess.DEVNULL
                )
                self._connection = ours
        except OSError as error:
            ours.close()
            raise SolverDiedError(f"the solver's process cannot be started: {error}") from error
        finally:
            theirs.close()
        facts: PatientFacts = self._call("load", self._settings)
        return facts

    def _call(self, name: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        connection = self._connection
        if connection is None:
            raise SolverDiedError("the solver's process is not there")
        try:
            connection.send((name, arguments))
            if not connection.poll(timeout_s):
                self._end()
                raise SolverDiedError(
                    f"'{name}' took longer than solver.timeout_s ({timeout_s:g} s); the solver's "
                    "process was ended"
                )
            kind, value = connection.recv()
        except (EOFError, OSError) as error:  # OSError: a broken pipe
            code = self._end(patience_s=1.0)  # for the exit code of what ended by itself
            raise SolverDiedError(f"the solver's process has ended (exit code {code})") from error
        if kind == "ok":
            return value
        if kind == "input_error":
            raise InputError(value)
        raise SolverDefectError(f"{value[0]}\n{value[1]}")

    def _end(self, patience_s: float = 0.0) -> int | None:
        """Kill the process unless it ends by itself within ``patience_s``; its exit code.

        The pipe is not closed here: another thread may be waiting for it, and hears its end.
        """
        with self._lock:
            process, self._connection = self._process, None
        if process is None:
            return None
        try:
            return process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_TIMEOUT_S)
        return process.returncode
