"""Freed memory stays with the process, and loaded objects are not collected."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pytest

from xray_registration.memory import leave_out_of_collections

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


def test_what_was_loaded_is_not_looked_through_again():
    before = gc.get_freeze_count()
    loaded = [[number] for number in range(1000)]
    try:
        leave_out_of_collections()
        assert gc.get_freeze_count() >= before + len(loaded)
        assert not any(each is loaded for each in gc.get_objects())
    finally:
        gc.unfreeze()
