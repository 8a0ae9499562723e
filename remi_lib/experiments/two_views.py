"""Two augmented views of an image on a CPU: does the penalty matter where SimCLR stands?

The overnight profile's small network and images, at the temperature and with the normalised
embeddings of SimCLR on CIFAR-10.  The runs (:mod:`.view_runs`), and what complete seeds decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial

import pandas as pd

from remi_lib.experiments import view_runs
from remi_lib.experiments.verdicts.common import at_complete_seeds
from remi_lib.experiments.view_runs import VICREG, View
from remi_lib.experiments.z_loss import report
from remi_lib.images import load_images
from remi_lib.replication.cells import Cell, Tables
from remi_lib.replication.claims import Ledger

NOTEBOOK = "12_z_loss"
FAMILIES = ("infonce", "mine", "nwj")
LOSSES = (*(name for family in FAMILIES for name in (family, "re" + family)), VICREG)
DATASET, NET, BATCH, EPOCHS, SEEDS = "cifar10_10k", "resnet8", 128, 10, 3
WEIGHT, TEMPERATURE, RATE = 0.1, 0.5, 1e-3  # of the penalty; SimCLR's on CIFAR-10; Adam's
KEYS = ["loss", "seed"]  # what tells a row of the table from the others


def planned() -> list[View]:
    """Every loss at every seed, seed by seed."""
    return [
        View(loss, seed, BATCH, EPOCHS, DATASET, NET, WEIGHT, TEMPERATURE, RATE)
        for seed in range(SEEDS)
        for loss in LOSSES
    ]


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for view in planned():
        name = f"{view.dataset} {view.loss} seed {view.seed}"
        compute = partial(view_runs.run, view, f"two views, {name}")
        yield Cell("views", name, "views", asdict(view), view_runs.__name__, view.epochs, compute)


def rows_of(found: Mapping[View, Tables]) -> pd.DataFrame:
    """A row per finished run.

    ``accuracy`` of the probe on test images; ``train_mi`` and so on in nats; ``diverged_step``, the
    first at which the objective was not finite, counted from 0, or NaN.
    """
    runs = [
        tables["summary"].assign(loss=view.loss, seed=view.seed, epochs=view.epochs)
        for view, tables in found.items()
    ]
    rows = pd.concat(runs, ignore_index=True).assign(read=load_images(DATASET).printed)
    return rows[[*KEYS, *rows.columns.difference(KEYS, sort=False)]]


def said(rows: pd.DataFrame) -> str:
    """How much of the plan a table has, for the notebook to print above it."""
    plan = f"{len(LOSSES)} losses at {SEEDS} seeds, batch {BATCH}, {EPOCHS} passes"
    lost = int(rows["diverged_step"].notna().sum())
    return (
        f"{len(rows)} of {len(LOSSES) * SEEDS} runs ({plan}); {', '.join(rows['read'].unique())}; "
        f"runs that became non-finite: {lost}"
    )


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge the claims about two views from the seeds at which every loss ran, two at least."""
    ledger = Ledger(NOTEBOOK, profile, [DATASET])
    own = at_complete_seeds(rows, LOSSES)
    if own["seed"].nunique() > 1:
        report.judge_views(ledger, DATASET, FAMILIES, own)
    return ledger
