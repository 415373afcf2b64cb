"""A cohort beyond one machine: the same tasks on the workers of a Dask cluster.

Why Dask and not Ray is in docs/design/cohorts.md. Every worker needs this package, the patients'
data (`make data`) and, best, one thread (``dask worker --nthreads 1 --nworkers 4 tcp://...``).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from xray_registration.errors import InputError
from xray_registration.optional import require

_CONNECT_S = 20


@contextmanager
def cluster_executor(address: str) -> Iterator[Executor]:
    """Tasks go to the scheduler at ``address``, e.g. "tcp://10.0.0.5:8786".

    Raises:
        MissingDependencyError: the package distributed is not installed.
        InputError: nobody answers at the address, or no worker has joined.
    """
    distributed = require("distributed")
    try:
        client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"cluster {address!r}: no Dask scheduler answers there ({error}); expected "
            "tcp://host:port of a running 'dask scheduler'."
        ) from error
    try:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise InputError(
                f"cluster {address!r}: the scheduler has no workers; start some with "
                f"'dask worker --nthreads 1 {address}'."
            )
        # pure=False: a task is a record to be made, not a value that may be shared
        yield client.get_executor(pure=False)
    finally:
        client.close()
