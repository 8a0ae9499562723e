"""Images per second: of the loader alone, of the training step alone, and of both together.

The number of workers changes no result, so it may be chosen by these numbers.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import product

import pandas as pd
import torch

from remi_lib.devices import resolve_device
from remi_lib.experiments.imagenet.textures import Textures, tree
from remi_lib.experiments.imagenet.training import LongRun, Trainer
from remi_lib.experiments.imagenet.trees import (
    IMAGENET_IMAGES,
    Batch,
    Batches,
    Pictures,
    Tree,
    feed,
    open_tree,
)
from remi_lib.progress import progress
from remi_lib.tasks import Member

PARTS = ("loader", "step", "both")


def imagenet_sized(count: int) -> Tree:
    """About ``count`` generated JPEG files with the mean side of ImageNet's, 500 x 375."""
    textures = Textures(classes=10, train=-(-count // 10), val=1, side=433)
    return open_tree("textures", tree(textures))


def measure(
    runs: Sequence[tuple[LongRun, Tree]],
    workers: Sequence[int] = (0,),
    device: str = "auto",
    seconds: float = 1.5,
    label: str | None = None,
) -> pd.DataFrame:
    """Rates of runs in images per second, a row per run, workers and part (:data:`PARTS`).

    ``hours``: what ImageNet's training pictures take at that rate.
    """
    where = resolve_device(device)
    rows = []
    with progress(len(runs) * len(workers), label, "case") as bar:
        for (run, files), count in product(runs, workers):
            about = {
                "net": run.task.net,
                "size": run.size,
                "losses": len(run.members),
                "batch": run.batch,
                "precision": run.task.precision,
                "workers": count,
            }
            for part, value in rates(run, files, count, where, seconds).items():
                rows.append({**about, "part": part, "value": value})
            bar.update()
    table = pd.DataFrame(rows)
    table["hours"] = IMAGENET_IMAGES / table["value"] / 3600
    hardware = torch.cuda.get_device_name() if where.type == "cuda" else platform.machine()
    return table.assign(device=f"{where.type} ({hardware})", date=date.today().isoformat())


def rates(
    run: LongRun, files: Tree, workers: int, device: torch.device, seconds: float
) -> dict[str, float]:
    """Images per second of each part; the step alone repeats one batch."""
    trainer = Trainer(run, files, device)
    pictures = Pictures(files.train, run.size, run.augment, True, run.seed)
    endless = Batches(len(pictures), run.batch, 10**9, run.seed)
    one = next(feed(pictures, Batches(len(pictures), run.batch, 1, run.seed), 0, device))

    def supply() -> Iterator[Batch]:
        return feed(pictures, endless, workers, device)

    def step(batch: Batch) -> None:
        trainer.step(batch.images, batch.labels)

    return {
        "loader": _rate(supply(), lambda batch: None, device, seconds),
        "step": _rate(iter(lambda: one, None), step, device, seconds),
        "both": _rate(supply(), step, device, seconds),
    }


def _rate(
    batches: Iterator[Batch],
    use: Callable[[Batch], None],
    device: torch.device,
    seconds: float,
) -> float:
    use(next(batches))
    _wait(device)
    images, spent, started = 0, 0.0, time.perf_counter()
    for count in itertools.count():
        if spent >= seconds and count >= 2:
            break
        batch = next(batches)
        use(batch)
        _wait(device)
        images += len(batch.labels)
        spent = time.perf_counter() - started
    return images / spent


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def choose_workers(table: pd.DataFrame) -> int:
    """The number of workers with which loader and step together are fastest; fewer if equal."""
    both = table[table["part"] == "both"].groupby("workers")["value"].mean()
    return int(both[both >= 0.98 * both.max()].index.min())


def at_batch(run: LongRun, batch: int, **task) -> LongRun:
    """The first member of a run alone, at another batch size and with other task settings."""
    member: Member = replace(run.members[0], batch=batch)
    return replace(run, members=(member,), task=replace(run.task, **task))
