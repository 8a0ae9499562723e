"""CLB on 10,000 images of CIFAR-10 with scores that do not start out in the hundreds.

In :mod:`.small_images` SMILE, NWJ and TUBA fail there without the penalty.  Who fails where scores
are divided by the root of the width, or are cosines over a temperature, and what does the penalty
add?  Images, network, batch and rate are the same here.  Failure shows early, so the runs are
shorter, as notebook 5's are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from remi_lib.experiments import small_images
from remi_lib.experiments.image_results import runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.published import FAILING, RESCUED, TRAINING
from remi_lib.experiments.small_images import DATASET, PAIRS, REJS_TARGET, WEIGHT, cell_of, offered
from remi_lib.experiments.verdicts import lambda_sweep
from remi_lib.experiments.verdicts.common import PAPER_WEIGHTS, at_complete_seeds
from remi_lib.losses import FAMILIES, regularized, split_name
from remi_lib.replication.cells import Cell, Tables
from remi_lib.replication.claims import Ledger

EPOCHS, SEEDS = 5, 6  # at six seeds that agree the exact interval of a share leaves out a half
PENALTY_SEEDS = 3
SCALES = {"sqrt": "/ √d", "cosine": "cosine"}  # as a run has them, and how a cell is named
KEYS = ["scale", "loss", "weight", "seed"]  # what tells a row of the table from the others
COLUMNS = ["mi", "test_mi", "accuracy", "diverged_step", "frozen", "epochs", "read"]


def planned() -> list[Run]:
    """The grid of scale, loss and lambda, the most informative first, each part seed by seed.

    The three losses that fail on plain scores, without clipping but SMILE's own; the same with the
    penalty at each of the paper's lambdas, clipped as in the paper; then cosines, first those that
    train on plain scores; and the latter at the first scale.
    """
    others = [weight for weight in PAPER_WEIGHTS if weight != WEIGHT]
    return [
        *_runs("sqrt", FAILING, [None], SEEDS),
        *_runs("sqrt", RESCUED, PAPER_WEIGHTS),
        *_runs("cosine", PAIRS, [WEIGHT]),
        *_runs("cosine", (*FAILING, *RESCUED), [WEIGHT]),
        *_runs("cosine", map(regularized, TRAINING), others),
        *_runs("sqrt", PAIRS, [WEIGHT]),
        *_runs("cosine", RESCUED, others),
        *_runs("sqrt", map(regularized, TRAINING), others),
    ]


def _runs(
    scale: str, losses: Iterable[str], weights: Iterable[float | None], seeds: int | None = None
) -> list[Run]:
    losses = list(losses)
    options = small_images.options("clb", PENALTY_SEEDS if seeds is None else seeds)
    options |= {"epochs": {"clb": EPOCHS}, "scale": scale, "rejs_target": REJS_TARGET}
    runs = [run for weight in weights for run in runs_of(losses, weight=weight, **options)]
    return sorted(runs, key=lambda run: run.member.seed)


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        weight = "" if run.member.weight is None else f" lambda {run.member.weight:g}"
        name = f"{run.member.loss} {SCALES[run.task.scale]}{weight} seed {run.member.seed}"
        yield cell_of(run, "table2-scaled", name)


def rows_of(found: Mapping[Run, Tables]) -> pd.DataFrame:
    """A row per finished run."""
    return small_images.rows_of(found)[[*KEYS, *COLUMNS]]


def by_setting(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs of each scale and lambda, each under the name of its family."""
    own = rows.assign(loss=rows["loss"].map(lambda name: split_name(name)[0]))
    found = {}
    for scale, title in SCALES.items():
        for weight in (0.0, *sorted(PAPER_WEIGHTS)):
            here = own[(own["scale"] == scale) & (own["weight"].fillna(0) == weight)]
            if len(here):
                order = here["loss"].map(FAMILIES.index)
                penalty = f"λ = {weight:g}" if weight else "no penalty"
                found[f"{title}, {penalty}"] = here.iloc[order.argsort(kind="stable")]
    return found


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge whether any of the three fails, and whether the penalty brings losses closer to H(Y).

    Each from the seeds that all of its runs have; two at least.
    """
    ledger = Ledger("05_lambda_sweep", profile, [DATASET])
    rows = rows.assign(dataset=DATASET, benchmark="clb", tau=np.nan)
    divided, cosines = (rows[rows["scale"] == scale] for scale in SCALES)
    own = at_complete_seeds(divided, FAILING)
    if own["seed"].nunique() > 1:
        lambda_sweep.judge_scaled(ledger, DATASET, own)
    for claim, runs, losses in (
        ("ablation.scaled-penalty", divided, (*FAILING, *RESCUED)),
        ("ablation.scaled-pairs", divided, PAIRS),
        ("ablation.cosine-penalty", cosines, PAIRS),
    ):
        own = offered(runs, losses)
        if own["seed"].nunique() > 1:
            lambda_sweep.judge_closer_at_best(ledger, DATASET, claim, own)
    return ledger
