"""Worker processes on this machine: single-threaded, in the driver's folders."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")
# Workers outlive a call, and with it the environment they were started in.
FOLDERS = ("REMI_CACHE", "REMI_DATA", "REMI_PROGRESS")


class WorkerDied(RuntimeError):
    """A worker process was killed (out of memory, a signal); finished results were yielded."""


def unordered(
    function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], workers: int | None = None
) -> Iterator[Result]:
    """``function(*job)`` of every job, as they finish, in ``workers`` processes.

    One process per core if None; a single job, or worker, runs in this process.  A process that was
    killed raises :class:`WorkerDied`.
    """
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    jobs = list(jobs)
    count = min(workers or joblib.cpu_count(), len(jobs))
    if count <= 1:
        yield from (function(*job) for job in jobs)
        return
    environment = {name: os.environ.get(name) for name in FOLDERS}
    parallel = joblib.Parallel(count, return_as="generator_unordered", batch_size=1)
    try:
        yield from parallel(
            joblib.delayed(_call)(environment, sys.path, function, job) for job in jobs
        )
    except TerminatedWorkerError as error:
        raise WorkerDied(str(error).splitlines()[0]) from error


def _call(
    environment: dict[str, str | None], path: list[str], function: Callable[..., Result], job: tuple
) -> Result:
    sys.path[:] = path  # a worker is older than a module that was written since
    importlib.invalidate_caches()
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    torch.set_num_threads(1)
    return function(*job)
