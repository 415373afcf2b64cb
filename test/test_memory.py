"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, torch
from xray_registration.memory import keep_freed_memory
torch.set_num_threads(1)
assert keep_freed_memory()
torch.ones(1 << 24) + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(1 << 22) + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's malloc")
def test_repeated_work_faults_no_new_pages_in():
    ended = subprocess.run(
        [sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True
    )
    # 20 times two arrays of 16 MiB are 163,840 pages of 4 KiB when they are mapped anew
    assert int(ended.stdout) < 20_000
