"""A sweep on a Ray cluster: ``ENGINE=ray``, and RAY_ADDRESS for one that is already up.

Workers train, the driver writes: nodes need no common file system for results, and the files are
those of a local sweep.  A worker that dies is retried by Ray; a driver that dies has lost only
what had not come back.  Image archives must be where each node's REMI_DATA says.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import remi_lib
from remi_lib.checks import number
from remi_lib.experiments.image_runs import Run, Tables, execute, folder_of
from remi_lib.progress import say
from remi_lib.replication.store import locked, write_tables

RETRIES = 2  # of a task whose worker died


def gpu_share(device: str) -> float:
    """The part of a GPU that a task asks for: REMI_GPU_SHARE, one GPU a task if unset; 0 on a CPU.

    Processes that share a GPU take turns: a smaller share pays only where `make gpu-check` says so.
    """
    if device == "cpu":
        return 0.0
    share = number("REMI_GPU_SHARE", os.environ.get("REMI_GPU_SHARE", "1"), float)
    if not 0 < share <= 1:
        raise ValueError(f"REMI_GPU_SHARE: {share} is not allowed; more than 0, at most 1")
    return share


def ray_engine(groups: Sequence[Sequence[Run]], device: str, workers: int | None) -> Iterator[int]:
    """Finish groups of runs on a cluster; yields how many runs each finished group had."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # At Ray's own niceness, 15, a worker starves on a busy machine: its start times out for ever.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ValueError("engine: 'ray' needs Ray; `pip install ray`, or ENGINE=local") from error

    address = os.environ.get("RAY_ADDRESS")
    # Another machine's workers get this checkout's library; on this one it is importable.
    environment: dict[str, Any] | None = {"py_modules": [remi_lib]} if address else None
    python = shlex.quote(sys.executable)
    if environment and python != sys.executable:
        # Ray writes the path into a shell's command as it is: with a space in it no worker starts.
        environment["py_executable"] = python
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    ours = not ray.is_initialized()
    if ours:
        ray.init(address or "local", runtime_env=environment, log_to_driver=False, **options)
    if device == "auto" and not ray.cluster_resources().get("GPU"):
        device = "cpu"
    task = ray.remote(execute).options(
        num_cpus=1, num_gpus=gpu_share(device), max_retries=RETRIES, name="remi"
    )
    waiting = list(groups)[::-1]
    flying: dict = {}
    try:
        while waiting or flying:
            while waiting and len(flying) < (workers or len(groups)):
                group = list(waiting.pop())
                flying[task.remote(group, device)] = group
            done, _ = ray.wait(list(flying), num_returns=1)
            group = flying.pop(done[0])
            try:
                results: list[Tables] = ray.get(done[0])
            except ray.exceptions.WorkerCrashedError as error:
                say(f"a worker died {RETRIES + 1} times ({error}); going on with the others")
                continue
            for run, tables in zip(group, results, strict=True):
                with locked(folder_of(run)):
                    write_tables(folder_of(run), tables, run.config)
            yield len(group)
    finally:
        if ours:
            ray.shutdown()
