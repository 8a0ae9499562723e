"""CLB on 10,000 images of CIFAR-10, each score divided by the root of the width.

In :mod:`.small_images` SMILE, NWJ and TUBA fail there without the penalty.  Who fails at this
scale, and what does the penalty add?  Images, network, batch and rate are the same here.  Failure
shows early, so the runs are shorter, as notebook 5's are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from remi_lib.experiments import small_images
from remi_lib.experiments.image_results import runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.published import FAILING, RESCUED
from remi_lib.experiments.small_images import DATASET, cell_of, offered
from remi_lib.experiments.verdicts import lambda_sweep
from remi_lib.experiments.verdicts.common import PAPER_WEIGHTS, at_complete_seeds
from remi_lib.replication.cells import Cell, Tables
from remi_lib.replication.claims import Ledger

EPOCHS, SEEDS = 5, 6  # at six seeds that agree the exact interval of a share leaves out a half
PENALTY_SEEDS = 3
KEYS = ["loss", "weight", "seed"]  # what tells a row of the table from the others
COLUMNS = ["mi", "test_mi", "accuracy", "diverged_step", "frozen", "epochs", "read"]


def planned() -> list[Run]:
    """The three losses that fail, without clipping but SMILE's own; then with the penalty.

    The regularised ones clip as in the paper; seed by seed, at each of the paper's lambdas.
    """
    options = small_images.options("clb") | {"epochs": {"clb": EPOCHS}, "scale": "sqrt"}
    penalised = [
        run
        for weight in PAPER_WEIGHTS
        for run in runs_of(RESCUED, weight=weight, **options | {"seeds": PENALTY_SEEDS})
    ]
    plain = runs_of(FAILING, **options | {"seeds": SEEDS})
    return [*plain, *sorted(penalised, key=lambda run: run.member.seed)]


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        weight = "" if run.member.weight is None else f" lambda {run.member.weight:g}"
        name = f"{run.member.loss} / √d{weight} seed {run.member.seed}"
        yield cell_of(run, "table2-scaled", name)


def rows_of(found: Mapping[Run, Tables]) -> pd.DataFrame:
    """A row per finished run."""
    return small_images.rows_of(found)[[*KEYS, *COLUMNS]]


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge whether any of the three fails, and whether the penalty brings them closer to H(Y).

    Each from the seeds that all of its runs have; two at least.
    """
    ledger = Ledger("05_lambda_sweep", profile, [DATASET])
    rows = rows.assign(dataset=DATASET, benchmark="clb", tau=np.nan)
    own = at_complete_seeds(rows, FAILING)
    if own["seed"].nunique() > 1:
        lambda_sweep.judge_scaled(ledger, DATASET, own)
    own = offered(rows, (*FAILING, *RESCUED))
    if own["seed"].nunique() > 1:
        lambda_sweep.judge_scaled_penalty(ledger, DATASET, own)
    return ledger
