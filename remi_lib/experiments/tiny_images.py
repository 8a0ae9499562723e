"""Fig 9 and Table 3 on real images on a CPU: Tiny ImageNet at 32 pixels, a small residual network.

The overnight profile's nearest to ImageNet: 200 of its classes, 150 training images of each, the
batch, rate and lambdas of notebook 8's GPU profile.  A few passes, as in the paper: enough to tell
which losses fail in CLB, and none is finished at their end.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd

from remi_lib.experiments import image_runs
from remi_lib.experiments.image_results import runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.small_images import finished, rows_of
from remi_lib.replication.cells import Cell

DATASET, NET, SIZE, BATCH, LR = "tinyimagenet", "resnet8", 32, 100, 1e-3
EPOCHS = {"clb": 10, "slb": 10}
SEEDS = 3
# Of notebook 8's GPU profile: the largest and the middle one of the paper's three.  The paper does
# not say which Table 3 used.
WEIGHTS = {"clb": 0.01, "slb": 0.1}
CROSS_ENTROPY = "infonce"  # in SLB
# In the order in which they run: first what explodes in CLB and what does not, last cross-entropy,
# which no verdict needs.
LOSSES = {
    "clb": ("nwj", "renwj", "mine", "remine"),
    "slb": ("mine", "remine", "nwj", "renwj", CROSS_ENTROPY),
}
# What tells a row of the table from the others.
KEYS = ["dataset", "benchmark", "loss", "weight", "epochs", "seed"]


def planned() -> list[Run]:
    """Every run, seed by seed."""
    options: dict[str, Any] = {
        "dataset": DATASET,
        "net": NET,
        "size": SIZE,
        "batch": BATCH,
        "lr": LR,
    }
    return [
        run
        for seed in range(SEEDS)
        for benchmark, losses in LOSSES.items()
        for run in runs_of(
            losses,
            epochs={benchmark: EPOCHS[benchmark]},
            weight=WEIGHTS[benchmark],
            seeds=[seed],
            **options,
        )
    ]


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        name = f"{run.task.dataset} {run.task.benchmark} {run.member.loss} seed {run.member.seed}"
        compute = partial(image_runs.finish, [run], label=name)
        yield Cell("table3", name, "runs/", run.config, image_runs.__name__, run.epochs, compute)


def table() -> pd.DataFrame | None:
    """A row per finished run, as :func:`~.small_images.rows_of` has it; None without any."""
    found = finished(planned(), image_cells())
    return rows_of(found) if found else None
