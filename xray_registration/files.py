"""Writing files so that nobody ever reads half of one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from xray_registration.errors import InputError


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
