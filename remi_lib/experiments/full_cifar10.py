"""SLB on all 50,000 training images of CIFAR-10: are MI losses ahead of cross-entropy there, too?

:mod:`.small_images` has a fifth of them, few enough for its networks to fit.  Network, batch and
rate are the same here.  What each network answers of every test image is kept: the losses share
those images, so a difference of accuracies is judged image by image.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from remi_lib.critics import ImageCritic
from remi_lib.evaluation import class_accuracy
from remi_lib.experiments.image_results import accuracy_or_guess, runs_of
from remi_lib.experiments.image_runs import Run, execute, outputs
from remi_lib.experiments.published import AHEAD
from remi_lib.experiments.small_images import BATCH, CROSS_ENTROPY, NET, NOTEBOOK, rows_of
from remi_lib.experiments.verdicts import benchmark
from remi_lib.experiments.verdicts.common import complete_seeds, test_images
from remi_lib.images import ImageSet, load_images
from remi_lib.replication import cells
from remi_lib.replication.cells import Cell
from remi_lib.replication.claims import Ledger
from remi_lib.replication.store import Tables, cached

DATASET, EPOCHS, SEEDS = "cifar10", 10, 3
LOSSES = (CROSS_ENTROPY, *AHEAD)
KEYS = ["loss", "seed"]  # what tells a row of the table from the others
COLUMNS = ["accuracy", "mi", "test_mi", "exact", "test_exact", "diverged_step", "frozen"]


def planned() -> list[Run]:
    """Cross-entropy and the losses that the paper finds ahead of it, seed by seed."""
    return runs_of(
        LOSSES, dataset=DATASET, net=NET, batch=BATCH, epochs={"slb": EPOCHS}, seeds=SEEDS
    )


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        name = f"{run.task.dataset} {run.member.loss} seed {run.member.seed}"
        compute = partial(answered, run, f"all images, {name}")
        yield Cell("table2-full", name, "answers", run.config, __name__, run.epochs, compute)


def answered(run: Run, label: str | None = None) -> Tables:
    """A run's tables and ``answers``, a row per test image: ``right``.  Remembered."""

    def compute() -> Tables:
        seen: dict[str, pd.DataFrame] = {}

        def look(critic: ImageCritic, data: ImageSet) -> None:
            logits = outputs(run.task, critic, data.test_x, data)[0]
            each = class_accuracy(logits[:, None], data.test_y[:, None])  # an image at a time
            seen["answers"] = pd.DataFrame({"right": each.bool().cpu().numpy()})

        (tables,) = execute([run], label=label, look=look)
        return {**tables, **seen}

    return cached("answers", run.config, __name__, compute)


def table() -> pd.DataFrame | None:
    """A row per finished run, whatever code computed it; None without any.

    ``right``: the test images that the network classifies correctly, a bit each, as
    :func:`packed` has them.
    """
    found = {
        run: dict(tables)
        for run, cell in zip(planned(), image_cells(), strict=True)
        if (tables := cells.tables_of(cell))
    }
    if not found:
        return None
    answers = [packed(tables.pop("answers")["right"].to_numpy()) for tables in found.values()]
    rows = rows_of(found)[[*KEYS, *COLUMNS, "epochs", "read"]]
    return rows.assign(right=answers)


def packed(right: np.ndarray) -> str:
    """Bits, eight of them in two hexadecimal digits, for a table to hold."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, images: int) -> np.ndarray:
    """The bits that :func:`packed` packed (images,)."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=images).astype(bool)


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge message 9's claim from the seeds at which every loss ran, two at least."""
    ledger = Ledger(NOTEBOOK, profile, [DATASET])
    complete = complete_seeds(rows, LOSSES)
    if len(complete) > 1:
        own = rows[rows["seed"].isin(complete)].assign(dataset=DATASET)
        known = own.assign(accuracy=accuracy_or_guess(own))
        benchmark.judge_beats_ce(ledger, DATASET, known, answers(own))
    return ledger


def answers(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per test image, a column per loss: the share of its seeds that get the image right.

    A run that diverged guesses, as its accuracy does.
    """
    images, guess = test_images(DATASET), 1 / load_images(DATASET).classes

    def bits(run: pd.Series) -> np.ndarray:
        lost = np.isfinite(run["diverged_step"])
        return np.full(images, guess) if lost else unpacked(run["right"], images)

    by_loss = rows.groupby("loss", sort=False)
    return pd.DataFrame(
        {loss: np.mean([bits(run) for _, run in own.iterrows()], 0) for loss, own in by_loss}
    )
