"""The process in which images are solved; `remote_solver` starts it.

Its first argument is the number of one end of a socket pair. Requests are (name, arguments),
answers (kind, value): ``ok``, ``input_error`` or ``error``, all pickled. It ends when the other end
is closed, so it never outlives its node by more than the registration in progress; Ctrl-C is the
node's to hear.
"""

from __future__ import annotations

import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from xray_registration.errors import XrayRegistrationError
from xray_registration.memory import keep_freed_memory, leave_out_of_collections


def serve(connection: Connection) -> None:
    """Answer requests until the other end is closed."""
    from xray_registration.ros.solver import LocalSolver

    solver: LocalSolver | None = None

    def answer(name: str, arguments: tuple[Any, ...]) -> Any:
        nonlocal solver
        if name == "load":
            solver = None  # the old patient goes first
            solver = LocalSolver(*arguments)
            leave_out_of_collections()
            return solver.facts
        if solver is None:
            raise RuntimeError(f"'{name}' before 'load'")
        return getattr(solver, name)(*arguments)

    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        reply: tuple[str, Any]
        try:
            reply = ("ok", answer(name, arguments))
        except XrayRegistrationError as error:
            reply = ("input_error", str(error))
        except Exception as error:  # a defect: the node says it and goes on
            text = "".join(traceback.format_exception(error))
            reply = ("error", (f"{type(error).__name__}: {error}", text))
        try:
            connection.send(reply)
        except (BrokenPipeError, ConnectionResetError):
            return


def main() -> int:
    """Serve the socket whose number is the argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    serve(Connection(int(sys.argv[1])))
    return 0
