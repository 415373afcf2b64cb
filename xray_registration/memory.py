"""Memory of processes of our own: what is freed is kept, and what was loaded is not searched."""

from __future__ import annotations

import ctypes
import gc
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


def leave_out_of_collections() -> None:
    """What is there now is not looked through by Python's garbage collector any more.

    A full collection holds the interpreter's lock. With torch and scipy loaded it goes through
    200 000 objects that stay for good: 0.1 s, and 0.5 s were seen on a busy machine, in which no
    service is answered. To be called when all is loaded, and again when something was loaded anew.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
