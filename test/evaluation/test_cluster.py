"""A run on a Dask cluster of two worker processes, one of which is killed on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.records import read_records
from xray_registration.evaluation.runner import RECORDS, RunOptions, run_protocol

distributed = pytest.importorskip("distributed", reason="the extra 'cohort' is not installed")


@pytest.fixture
def cluster(data: Path) -> Iterator[Any]:
    made = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        env={name: os.environ[name] for name in ("XRAY_REGISTRATION_DATA", "XDG_CACHE_HOME")},
    )
    yield made
    made.close()


@pytest.mark.slow
def test_the_run_ends_though_a_worker_is_killed(
    small_protocol: Protocol, cluster: Any, tmp_path: Path
) -> None:
    victim = next(iter(cluster.workers.values())).process.pid
    said: list[str] = []

    def kill_one(line: str) -> None:
        said.append(line)
        if line.startswith("[1/"):
            os.kill(victim, signal.SIGKILL)

    options = RunOptions(quick=True, cluster=cluster.scheduler_address)
    folder = tmp_path / "run"
    records = run_protocol(small_protocol, options, folder, kill_one)
    assert len(records) == len(read_records(folder / RECORDS)) == 4
    assert all(record["error"] is None for record in records)
    assert any(line.startswith("[4/4]") for line in said)
    # the same numbers as without a cluster: a case's result does not depend on where it ran
    (folder / RECORDS).rename(folder / "cluster.jsonl")
    alone = run_protocol(small_protocol, RunOptions(quick=True), folder, lambda _: None)
    for a, b in zip(records, alone, strict=True):
        np.testing.assert_allclose(a["rig_from_ct"], b["rig_from_ct"], atol=1e-9)


def test_nobody_at_the_address(
    small_protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xray_registration.evaluation import cluster as module

    monkeypatch.setattr(module, "_CONNECT_S", 1)
    options = RunOptions(quick=True, cluster="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        run_protocol(small_protocol, options, tmp_path, lambda _: None)
