"""Fig 8 in the paper's direction on a CPU: CIFAR-10's critic on digits of MNIST."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd

from remi_lib.experiments import image_outputs
from remi_lib.experiments.small_images import BATCH, DATASET, EPOCHS, NET
from remi_lib.experiments.verdicts import out_of_distribution as verdicts
from remi_lib.images import load_images
from remi_lib.replication import cells
from remi_lib.replication.cells import Cell
from remi_lib.replication.claims import Ledger
from remi_lib.tasks import ImageTask, Member

NOTEBOOK = "07_out_of_distribution"
LOSS, WEIGHT, LR = "remine", 0.1, 1e-3
FOREIGN = ("mnist", "inverted", "shuffled", "photos")  # the paper's first
SEEDS = 5


def output_cells() -> Iterator[Cell]:
    """A network a seed."""
    task = ImageTask(DATASET, net=NET)
    options: dict[str, Any] = {"batch": BATCH, "epochs": EPOCHS, "weight": WEIGHT, "lr": LR}
    for seed in range(SEEDS):
        config = image_outputs.config_of(
            task, [Member(LOSS, seed, BATCH, WEIGHT)], FOREIGN, EPOCHS, LR
        )
        compute = partial(
            image_outputs.critic_outputs, task, [LOSS], FOREIGN, seeds=[seed], **options
        )
        name = f"{DATASET} {LOSS} seed {seed}"
        yield Cell("fig8", name, "outputs", config, image_outputs.__name__, EPOCHS, compute)


def outputs() -> list[pd.DataFrame]:
    """What the finished networks say of every image and label, a table a seed."""
    return [t["outputs"] for cell in output_cells() if (t := cells.tables_of(cell))]


def ideal() -> int:
    """K, the ideal e^T of a true pair."""
    return load_images(DATASET).classes


def judge(
    sets: pd.DataFrame, areas: pd.DataFrame, runs: pd.DataFrame | None, profile: str
) -> Ledger:
    """Judge notebook 7's claims from two or more seeds; an empty ledger from fewer.

    ``runs``: Table 2's, of which those in SLB at this lambda tell how accurate the critic is.
    """
    ledger = Ledger(NOTEBOOK, profile, [DATASET])
    if sets["seed"].nunique() > 1:
        accuracies = None
        if runs is not None:
            same = (runs["benchmark"] == "slb") & (runs["loss"] == LOSS)
            accuracies = runs["accuracy"][same & (runs["weight"] == WEIGHT)]
        verdicts.judge(ledger, DATASET, sets, areas, FOREIGN[0], accuracies)
    return ledger
