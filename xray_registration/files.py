"""Writing files so that nobody ever reads half of one, and finding those of the package."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from xray_registration.errors import InputError


def shared_file(name: str) -> Path:
    """A file that is installed in share/xray_registration: ``config/x.yaml``, ``urdf/x.xacro``, ...

    It is looked for in the source tree, on AMENT_PREFIX_PATH and in the environment's prefix.

    Raises:
        InputError: it is nowhere.
    """
    shared = Path("share") / "xray_registration" / name
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    candidates = [Path(__file__).resolve().parents[1] / name]
    candidates += [prefix / shared for prefix in (*prefixes, Path(sys.prefix))]
    for path in candidates:
        if path.is_file():
            return path
    raise InputError(f"{Path(name).name} is in none of: {', '.join(map(str, candidates))}")


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename it over ``path``.

    Raises:
        InputError: the folder is missing or cannot be written; an older file is left as it was.
    """
    path = Path(path)
    scratch = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        # not mkstemp: its private mode could only be widened by a umask that all threads share
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        scratch.replace(path)
    except BaseException as error:
        scratch.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
