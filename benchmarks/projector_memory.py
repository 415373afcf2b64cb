"""Peak memory of one call, above what the process held before it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STATUS = Path("/proc/self/status")


def extra_peak_mb(call: Callable[[], Any]) -> float:
    """MB at the peak of ``call`` beyond the resident memory before it (Linux; NaN elsewhere).

    On a GPU it is torch's own count of the device's memory.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        on_device = (torch.cuda.max_memory_allocated() - before) / 2**20
        if on_device > 0:
            return on_device
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that is free but kept would hide the peak
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here (proc(5))
        before = _kilobytes("VmRSS")
        call()
        return (_kilobytes("VmHWM") - before) / 1024
    except (OSError, AttributeError):
        call()
        return float("nan")


def _kilobytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise OSError(f"{_STATUS} has no {name}")
