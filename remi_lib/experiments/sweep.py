"""A list of runs in, a finished list of results out.

A result appears in the cache only when it is whole: an interrupted sweep goes on with what is
missing, and two notebooks that ask for the same run share it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import torch

from remi_lib.checks import at_least, number, one_of
from remi_lib.devices import resolve_device
from remi_lib.experiments.cluster import ray_engine
from remi_lib.experiments.image_runs import Results, Run, finish, is_done, load
from remi_lib.progress import progress, say
from remi_lib.replication.workers import WorkerDied, unordered

ATTEMPTS = 3  # rounds over what is missing, after workers died
Engine = Callable[[Sequence[Sequence[Run]], str, int | None], Iterator[int]]


def sweep(
    name: str,
    runs: Sequence[Run],
    *,
    engine: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    stack: int = 12,
) -> Results:
    """Finish the runs and return all their results.

    Args:
        engine: "local" (processes) or "ray" (:mod:`.cluster`); the environment's ENGINE if None.
        workers: local processes; one per core, or :func:`per_gpu` per GPU, if None.
        stack: at most so many runs of equal company are trained as one batched model.

    Raises RuntimeError if runs are missing after their workers died :data:`ATTEMPTS` times.
    """
    engine = engine or os.environ.get("ENGINE") or "local"
    one_of("engine", engine, ENGINES)
    runs = list(dict.fromkeys(runs))
    missing = [run for run in runs if not is_done(run)]
    say(f"{name}: {len(runs)} runs, {len(runs) - len(missing)} from the cache")
    with progress(len(missing), name if missing else None, unit="run") as bar:
        for _ in range(ATTEMPTS):
            if not missing:
                break
            for finished in ENGINES[engine](chunks(missing, stack), device, workers):
                bar.update(finished)
            missing = [run for run in missing if not is_done(run)]
    if missing:
        raise RuntimeError(
            f"{name}: {len(missing)} runs are missing after {ATTEMPTS} attempts, the first: "
            f"{missing[0].columns()}; out of memory? Lower `stack` or `workers` and run again"
        )
    return load(runs)


def chunks(runs: Sequence[Run], stack: int) -> list[list[Run]]:
    """Runs of equal company in groups of at most ``stack``, the longest groups first."""
    companies: dict[tuple, list[Run]] = {}
    for run in runs:
        companies.setdefault(run.company, []).append(run)
    cut: list[list[Run]] = []
    for company in companies.values():
        size = stack if company[0].task.stacks else 1
        cut += [company[i : i + size] for i in range(0, len(company), size)]
    return sorted(cut, key=lambda group: -len(group) * group[0].epochs)


def per_gpu() -> int:
    """Processes that share a GPU: REMI_PER_GPU, or 1; the paper ran 4 (Appendix D.1)."""
    count = number("REMI_PER_GPU", os.environ.get("REMI_PER_GPU", "1"), int)
    at_least("REMI_PER_GPU", count, 1)
    return count


def _work(runs: Sequence[Run], device: str) -> int:
    first = runs[0]
    finish(runs, device, f"{first.task.benchmark} seed {first.member.seed} ({len(runs)} runs)")
    return len(runs)


def _local(groups: Sequence[Sequence[Run]], device: str, workers: int | None) -> Iterator[int]:
    """Worker processes on this machine; a dead one ends the round, the next takes the rest."""
    gpus = torch.cuda.device_count() if resolve_device(device).type == "cuda" else 0
    if gpus and device in ("auto", "cuda"):
        workers = workers or per_gpu() * gpus
        jobs = [(group, f"cuda:{i % gpus}") for i, group in enumerate(groups)]
    else:
        jobs = [(group, device) for group in groups]
    try:
        yield from unordered(_work, jobs, workers)
    except WorkerDied as error:
        say(f"a worker died ({error}); going on with what is missing")


ENGINES: dict[str, Engine] = {"local": _local, "ray": ray_engine}
