"""Runs a protocol: pictures, registrations, records. Stopped at any time, it goes on where it was.

A run folder holds ``records.jsonl``, one line per case and method, appended and brought to disk as
each case ends. A record is taken over by the next run in the same folder only when everything that
decides it is unchanged (`worker.record_identity`): pictures, start, settings, and the code.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.evaluation.cases import Case
from xray_registration.evaluation.methods import METHODS, OURS, OURS_NO_START
from xray_registration.evaluation.pictures import cached
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.records import (
    Record,
    append_records,
    final_mtre_mm,
    read_records,
)
from xray_registration.evaluation.worker import (
    Job,
    cases_of,
    record_identity,
    register_case,
    take_pictures,
)
from xray_registration.registration import RegistrationConfig

RECORDS = "records.jsonl"
# A patient variant takes longer to prepare than a few pictures take: do not split it finer.
_CASES_PER_PICTURE_TASK = 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunOptions:
    """How to run a protocol.

    Attributes:
        quick: the subset of cases.
        methods: of METHODS.
        config: of "ours"; None = default.
        device: of "ours".
        checkpoint: of "ours-no-start": weights in place of the package's.
        jobs: worker processes on this machine.
        threads: of each worker. With more than one, small tensors make threads wait for each other
            and CPU times are no longer comparable.
        cluster: address of a Dask scheduler, "tcp://host:port", in place of processes here.
    """

    quick: bool = False
    methods: tuple[str, ...] = (OURS,)
    config: RegistrationConfig | None = None
    device: str = "cpu"
    checkpoint: Path | None = None
    jobs: int = 1
    threads: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown or not self.methods:
            raise InputError(f"methods: {unknown}; expected some of {', '.join(METHODS)}.")
        if self.checkpoint is not None and OURS_NO_START not in self.methods:
            raise InputError(
                f"checkpoint is {self.checkpoint}: it is of {OURS_NO_START}, but methods are "
                f"{', '.join(self.methods)}."
            )
        for name in ("jobs", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more.")


def run_protocol(
    protocol: Protocol, options: RunOptions, folder: Path, say: Say | None = None
) -> list[Record]:
    """Register every case with every method that has no record yet; all records of this run.

    Args:
        protocol: what to run.
        options: how.
        folder: of ``records.jsonl``; made when it is not there.
        say: told a line now and then; stderr when None.

    Raises:
        InputError: data missing, folder not writable, a case that is not possible.
        XrayRegistrationError: a worker process died; what was done is kept.
    """
    say = say or _to_stderr
    job = make_job(protocol, options)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror or error}") from error
    path = folder / RECORDS
    _, cases = cases_of(job)
    wanted = {
        (case.id, method): record_identity(job, case, method)
        for case in cases.values()
        for method in options.methods
    }
    known = {(record["case"], record["method"]): record for record in read_records(path)}
    done = {
        key: known[key]
        for key, identity in wanted.items()
        if key in known and known[key].get("identity") == identity
    }
    missing = {
        case_id: tuple(m for m in options.methods if (case_id, m) not in done) for case_id in cases
    }
    missing = {case_id: methods for case_id, methods in missing.items() if methods}
    if done:
        say(f"{protocol.name}: {len(done)} of {len(wanted)} results are there already")
    if missing:
        with open_executor(options) as executor:
            _take_pictures(executor, job, [cases[i] for i in missing], options, say)
            for record in _register(executor, job, missing, path, say):
                done[record["case"], record["method"]] = record
    return [done[key] for key in wanted]


def make_job(protocol: Protocol, options: RunOptions) -> Job:
    """What its workers are told."""
    config = options.config
    return Job(
        protocol=json.dumps(protocol.to_dict()),
        quick=options.quick,
        config="" if config is None else json.dumps(config.to_dict()),
        device=options.device,
        checkpoint="" if options.checkpoint is None else str(options.checkpoint),
        threads=options.threads,
    )


@contextmanager
def open_executor(options: RunOptions) -> Iterator[Executor]:
    """Processes here, or the workers of a Dask cluster."""
    if options.cluster is not None:
        from xray_registration.evaluation.cluster import cluster_executor

        with cluster_executor(options.cluster) as executor:
            yield executor
        return
    # spawned, not forked: torch's and numba's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(options.jobs, mp_context=context)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _take_pictures(
    executor: Executor, job: Job, cases: Sequence[Case], options: RunOptions, say: Say
) -> None:
    """Variant by variant, since one worker prepares each; those in this machine's cache are done.

    On a cluster without a shared cache folder a worker takes what it lacks when it needs it.
    """
    by_variant: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        if not cached(case):
            by_variant.setdefault((case.patient, case.variant.name), []).append(case.id)
    tasks = []
    for ids in by_variant.values():
        parts = max(1, min(options.jobs, len(ids) // _CASES_PER_PICTURE_TASK))
        tasks += [tuple(ids[n::parts]) for n in range(parts)]
    if not tasks:
        return
    total = sum(map(len, tasks))
    say(f"taking the pictures of {total} cases ({len(by_variant)} patient variants)")
    ready = 0
    for count in _results([executor.submit(take_pictures, job, task) for task in tasks]):
        ready += count
        say(f"pictures: {ready} of {total} cases")


def _register(
    executor: Executor, job: Job, missing: dict[str, tuple[str, ...]], path: Path, say: Say
) -> Iterator[Record]:
    futures = [executor.submit(register_case, job, i, methods) for i, methods in missing.items()]
    for count, records in enumerate(_results(futures), 1):
        append_records(path, records)
        for record in records:
            say(f"[{count}/{len(futures)}] {one_line(record)}")
            yield record


def _results(futures: list[Future[Any]]) -> Iterator[Any]:
    """As they come; what has not begun is cancelled when the reader stops."""
    try:
        for future in as_completed(futures):
            try:
                result = future.result()
            except (BrokenProcessPool, CancelledError) as error:
                raise XrayRegistrationError(_DIED) from error
            except Exception as error:
                # e.g. KilledWorker: a task that every worker died of; or the scheduler is gone
                if type(error).__module__.startswith("distributed."):
                    text = f"the cluster: {type(error).__name__}: {error}; {_DIED}"
                    raise XrayRegistrationError(text) from error
                raise
            yield result
    finally:
        for future in futures:
            future.cancel()


_DIED = (
    "a worker process died (out of memory?); what was finished is kept: run the same command again "
    "to go on, with fewer --jobs if memory is short."
)


def one_line(record: Record) -> str:
    """A record for a person who waits."""
    end = final_mtre_mm(record)
    text = f"{record['case']} {record['method']}: "
    if record["error"]:
        return text + f"{record['reason']}: {record['error']}"
    if record["reject"] is None:
        text += f"{record['start_mtre_mm']:.1f} -> {end:.2f} mm"
    if record["accepted"] is not None:
        text += ", accepted" if record["accepted"] else f", refused ({record['reason']})"
    return text + f", {record['cpu_s']:.2f} CPU s"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
