"""CLB on 10,000 images of CIFAR-10, each score divided by the root of the width: who fails then?

In :mod:`.small_images` SMILE, NWJ and TUBA fail there without the penalty.  Images, network, batch
and rate are the same here.  Failure shows early, so the runs are shorter, as notebook 5's are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from remi_lib.experiments import small_images
from remi_lib.experiments.image_results import runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.published import FAILING
from remi_lib.experiments.small_images import DATASET, cell_of
from remi_lib.experiments.verdicts import lambda_sweep
from remi_lib.experiments.verdicts.common import at_complete_seeds
from remi_lib.replication.cells import Cell, Tables
from remi_lib.replication.claims import Ledger

EPOCHS, SEEDS = 5, 6  # at six seeds that agree the exact interval of a share leaves out a half
KEYS = ["loss", "seed"]  # what tells a row of the table from the others
COLUMNS = ["mi", "test_mi", "accuracy", "diverged_step", "frozen", "epochs", "read"]


def planned() -> list[Run]:
    """The three losses that fail, without the penalty and without clipping but SMILE's own."""
    options = small_images.options("clb") | {"epochs": {"clb": EPOCHS}, "seeds": SEEDS}
    return runs_of(FAILING, scale="sqrt", **options)


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        yield cell_of(run, "table2-scaled", f"{run.member.loss} / √d seed {run.member.seed}")


def rows_of(found: Mapping[Run, Tables]) -> pd.DataFrame:
    """A row per finished run."""
    return small_images.rows_of(found)[[*KEYS, *COLUMNS]]


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge whether any of the three fails, from the seeds that all of them have; two at least."""
    ledger = Ledger("05_lambda_sweep", profile, [DATASET])
    own = at_complete_seeds(rows, FAILING).assign(dataset=DATASET, benchmark="clb")
    if own["seed"].nunique() > 1:
        lambda_sweep.judge_scaled(ledger, DATASET, own)
    return ledger
