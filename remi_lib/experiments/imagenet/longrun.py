"""Many long runs: each computed once, its processes started again when they die, results kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from remi_lib import distributed
from remi_lib.checks import at_least
from remi_lib.devices import resolve_device, tensor_float
from remi_lib.distributed import share, world
from remi_lib.experiments.imagenet.evaluation import evaluate, result_tables
from remi_lib.experiments.imagenet.training import LongRun, train
from remi_lib.experiments.imagenet.trees import Tree, open_tree
from remi_lib.progress import say
from remi_lib.replication.store import locked, read_json, read_tables, write_json, write_tables
from remi_lib.replication.workers import WorkerDied, unordered
from remi_lib.tasks import ImageTask, Member

MODULE = "remi_lib.experiments.imagenet.longrun"  # also when it runs as __main__
ATTEMPTS = 3  # to finish a run whose processes die


@dataclass(frozen=True)
class Resources:
    """How a run is carried out: its speed depends on it, its configuration does not.

    ``minutes`` pass between checkpoints.  Workers change no number; processes change the order of
    sums and, on CPUs, batch norm, see :func:`~remi_lib.distributed.parallel`.
    """

    device: str = "auto"
    workers: int = 0
    processes: int = 1
    minutes: float = 10.0

    def __post_init__(self) -> None:
        for key, least in (("workers", 0), ("processes", 1), ("minutes", 0)):
            at_least(key, getattr(self, key), least)


def execute(run: LongRun, tree: Tree, resources: Resources, label: str | None = None) -> None:
    """Finish a run in this process, or this process's part of it, and file its tables."""
    folder = run.folder(tree)
    checkpoint = _checkpoint(folder)
    tf32 = tensor_float(run.task.precision == "tf32")
    with distributed.joined(resolve_device(resources.device)) as device, tf32:
        if world().rank > 0:
            if share(None)[0]:
                train(run, tree, device, checkpoint, resources.workers)
            return
        with locked(folder):
            missing = read_tables(folder) is None
            for leftover in checkpoint.parent.glob(".*"):
                leftover.unlink()  # of a process that was killed while it wrote
            if not share(missing)[0]:
                return
            trainer = train(
                run, tree, device, checkpoint, resources.workers, resources.minutes, label
            )
            found = result_tables(trainer, evaluate(trainer, resources.workers, label))
            write_tables(folder, found, run.config(tree))
            shutil.rmtree(checkpoint.parent, ignore_errors=True)


def _checkpoint(folder: Path) -> Path:
    return folder.with_name(folder.name + "-checkpoint") / "state.pt"


@dataclass(frozen=True)
class Results:
    """Finished runs by number: a row per step and member, per member, and per file skipped."""

    batches: pd.DataFrame
    summary: pd.DataFrame
    unreadable: pd.DataFrame


def finish(
    runs: Sequence[LongRun], tree: Tree, resources: Resources = Resources(), at_once: int = 1
) -> Results:
    """Compute what is missing, ``at_once`` runs side by side, and return all results.

    With ``resources.processes`` above 1 each run is torchrun's, on that many devices of this host.
    """
    at_least("at_once", at_once, 1)
    runs = list(dict.fromkeys(runs))
    missing = [run for run in runs if read_tables(run.folder(tree)) is None]
    say(f"{len(runs)} runs, {len(runs) - len(missing)} from the cache")
    for _ in range(ATTEMPTS):
        if not missing:
            break
        try:
            list(unordered(_work, [(run, tree, resources) for run in missing], at_once))
        except (WorkerDied, subprocess.CalledProcessError) as error:
            say(f"a run died ({str(error).splitlines()[0]}); going on from its checkpoint")
        missing = [run for run in missing if read_tables(run.folder(tree)) is None]
    if missing:
        raise RuntimeError(f"{len(missing)} runs are missing after {ATTEMPTS} attempts")
    return load(runs, tree)


def load(runs: Sequence[LongRun], tree: Tree) -> Results:
    """The results of finished runs."""
    found = [read_tables(run.folder(tree)) or {} for run in runs]
    return Results(
        *(
            pd.concat([t[name].assign(run=i) for i, t in enumerate(found)], ignore_index=True)
            for name in ("batches", "summary", "unreadable")
        )
    )


def _work(run: LongRun, tree: Tree, resources: Resources) -> None:
    if resources.processes == 1:
        execute(run, tree, resources, run.name)
        return
    job = _checkpoint(run.folder(tree)).with_name("job.json")
    write_job(job, run, tree, resources)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(resources.processes), "-m", MODULE, str(job)]
    subprocess.run(command, check=True)


def write_job(path: Path, run: LongRun, tree: Tree, resources: Resources) -> None:
    """A run as a file for ``torchrun ... -m`` this module and ``PATH``, on one host or several.

    On several, ``path``, the tree and the cache (REMI_CACHE) lie on storage they share.
    """
    write_json(
        {"run": asdict(run), "tree": [tree.name, str(tree.root)], "resources": asdict(resources)},
        path,
    )


def read_job(path: Path) -> tuple[LongRun, Tree, Resources]:
    """The run, its tree of pictures and its resources from a file of :func:`write_job`."""
    job = read_json(path)
    run = job["run"]
    members = tuple(Member(**m) for m in run.pop("members"))
    task = ImageTask(**run.pop("task"))
    name, root = job["tree"]
    return LongRun(task, members, **run), open_tree(name, Path(root)), Resources(**job["resources"])


if __name__ == "__main__":
    own_run, own_tree, own_resources = read_job(Path(sys.argv[1]))
    execute(own_run, own_tree, own_resources, own_run.name)
