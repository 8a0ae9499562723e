"""Images per second: of the loader alone, of the training step alone, and of both together.

The number of workers changes no result, so it may be chosen by these numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import product

import pandas as pd
import torch

from remi_lib.devices import resolve_device
from remi_lib.experiments.image_rates import wait
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
from remi_lib.experiments.rules import device_of
from remi_lib.progress import progress

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
    """Images per second by run, workers and part; ``hours``: of ImageNet at that rate."""
    where = resolve_device(device)
    rows = []
    with progress(len(runs) * len(workers), label, "case") as bar:
        for (run, files), count in product(runs, workers):
            task = run.task
            about = [task.net, run.size, len(run.members), run.batch, task.precision, count]
            rows += [[*about, *own] for own in rates(run, files, count, where, seconds).items()]
            bar.update()
    columns = ["net", "size", "losses", "batch", "precision", "workers", "part", "value"]
    table = pd.DataFrame(rows, columns=columns)
    table["hours"] = IMAGENET_IMAGES / table["value"] / 3600
    return table.assign(device=device_of({"device": device}), date=date.today().isoformat())


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
    batches: Iterator[Batch], use: Callable[[Batch], None], device: torch.device, seconds: float
) -> float:
    use(next(batches))
    wait(device)
    images, count, spent, started = 0, 0, 0.0, time.perf_counter()
    while spent < seconds or count < 2:
        batch = next(batches)
        use(batch)
        wait(device)
        images, count = images + len(batch.labels), count + 1
        spent = time.perf_counter() - started
    return images / spent


def choose_workers(table: pd.DataFrame) -> int:
    """The number of workers with which loader and step together are fastest; fewer if equal."""
    both = table[table["part"] == "both"].groupby("workers")["value"].mean()
    return int(both[both >= 0.98 * both.max()].index.min())


def at_batch(run: LongRun, batch: int, **task) -> LongRun:
    """The first member of a run alone, at another batch size and with other task settings."""
    member = replace(run.members[0], batch=batch)
    return replace(run, members=(member,), task=replace(run.task, **task))
