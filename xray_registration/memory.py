"""Freed memory is kept for the next image instead of being given back to the system each time."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc's malloc; False where there is none.

    PyTorch has no cache of its own on the CPU: arrays of a few MB are mapped and unmapped for every
    operation, and the page faults cost a sixth of a registration. For processes of our own: it is a
    setting of the whole process, and a library does not decide that.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    return all(mallopt(name, _KEPT_BYTES) == 1 for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
