"""Fig 9 and Table 3 on real images on a CPU: Tiny ImageNet at 32 pixels, a small residual network.

The overnight profile's nearest to ImageNet: 200 of its classes, 150 training images of each, the
batch, rate and lambdas of notebook 8's GPU profile.  The passes are few, as in the paper: they tell
which losses fail in CLB, and how far the others come is measured, not supposed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from remi_lib.experiments import small_images
from remi_lib.experiments.image_results import runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.imagenet import table3
from remi_lib.experiments.small_images import CROSS_ENTROPY, cell_of
from remi_lib.experiments.verdicts import imagenet as verdicts
from remi_lib.experiments.verdicts.common import complete_seeds, test_images
from remi_lib.image_folders import LAYOUTS
from remi_lib.replication import cells
from remi_lib.replication.cells import Cell
from remi_lib.replication.claims import Ledger

NOTEBOOK = "08_imagenet"

DATASET, NET, SIZE, BATCH, LR = "tinyimagenet", "resnet8", 32, 100, 1e-3
EPOCHS = {"clb": 10, "slb": 10}
# Of what fails in CLB and its regularised form six, last: the fewest whose share can be told from a
# half where all agree.
SEEDS, PAIR, PAIR_SEEDS = 3, ("nwj", "renwj"), 6
# Of notebook 8's GPU profile: the largest and the middle one of the paper's three.  The paper does
# not say which Table 3 used.
WEIGHTS = {"clb": 0.01, "slb": 0.1}
# In the order in which they run: first what explodes in CLB and what does not, last cross-entropy,
# which one verdict needs.
LOSSES = {
    "clb": ("nwj", "renwj", "mine", "remine"),
    "slb": ("mine", "remine", "nwj", "renwj", CROSS_ENTROPY),
}
# What tells a row of the table from the others.
KEYS = ["dataset", "benchmark", "loss", "weight", "epochs", "seed"]
TERMS = ["joint_term", "product_term", "mi"]
CLASSES = LAYOUTS[DATASET].classes
ENTROPY = math.log(CLASSES)  # H(Y): each has as many images
MOST = 0.8  # of H(Y); the paper's Table 3 has a little more in SLB


def planned() -> list[Run]:
    """Every run, seed by seed; after the seeds of all of them :data:`PAIR` in CLB at more."""
    options: dict[str, Any] = {
        "dataset": DATASET,
        "net": NET,
        "size": SIZE,
        "batch": BATCH,
        "lr": LR,
    }
    return [
        run
        for seed in range(PAIR_SEEDS)
        for benchmark, losses in (LOSSES if seed < SEEDS else {"clb": PAIR}).items()
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
        yield cell_of(run, "table3", name)


def course(found: Mapping[Run, cells.Tables]) -> pd.DataFrame:
    """Fig 9's terms over training, a row per run and pass: the mean over it, at its middle step.

    ``diverged_step`` is of the run; from the pass that it falls in on there is no mean.
    """
    rows = []
    for run, tables in found.items():
        per_pass = int((tables["batches"]["split"] == "train").sum())  # those of the last one
        own = tables["epochs"][["epoch", *TERMS]]
        own.insert(0, "step", (own.pop("epoch") + 0.5) * per_pass)
        lost = tables["summary"]["diverged_step"].iloc[0]
        gone = own["step"] + per_pass / 2 > lost
        own = own.assign(**own[TERMS].mask(gone), diverged_step=lost)
        settings = {key: value for key, value in run.columns().items() if key in KEYS}
        rows.append(own.assign(**settings, epochs=run.epochs))
    whole = pd.concat(rows, ignore_index=True).astype({"weight": float, "diverged_step": float})
    return whole[[*KEYS, "step", *TERMS, "diverged_step"]]


def rows_of(found: Mapping[Run, cells.Tables]) -> pd.DataFrame:
    """A row a run; ``drift``: the second term of the last pass minus that of the middle one."""
    second = course(found).groupby(KEYS, dropna=False)["product_term"]
    drift = second.agg(lambda means: means.iloc[-1] - means.iloc[table3.middle(len(means) - 1)])
    return small_images.rows_of(found).merge(drift.rename("drift").reset_index(), on=KEYS)


def complete(rows: pd.DataFrame) -> set[int]:
    """The seeds at which every run is there but cross-entropy's, which one verdict needs."""
    each = rows.assign(loss=rows["benchmark"] + " " + rows["loss"])
    needed = [f"{b} {loss}" for b, own in LOSSES.items() for loss in own if loss != CROSS_ENTROPY]
    return complete_seeds(each, needed)


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge notebook 8's claims at complete seeds; an empty ledger from fewer than two.

    What happens to :data:`PAIR` in CLB is counted at all seeds, how ReNWJ ends there too.
    """
    ledger = Ledger(NOTEBOOK, profile, [DATASET])
    whole = complete(rows)
    pair = (rows["benchmark"] == "clb") & rows["loss"].isin(PAIR)
    if len(whole) > 1:
        own = rows[pair | rows["seed"].isin(whole)]
        verdicts.judge(ledger, own, CLASSES, test_images(DATASET))
    return ledger


def attained(rows: pd.DataFrame) -> str:
    """Which losses of SLB end beyond :data:`MOST` of H(Y) on training pairs, in a sentence."""
    mi = rows[rows["benchmark"] == "slb"].fillna({"mi": 0.0}).groupby("loss")["mi"].mean()
    share = mi / ENTROPY
    ends = [f"{table3.name(x, 'slb')} {share[x]:.2f}" for x in LOSSES["slb"] if x in share]
    return (
        f"SLB, MI of training pairs over H(Y) at the end: {', '.join(ends)}; "
        f"{(share > MOST).sum()} of {len(share)} pass {MOST:.0%}"
    )


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Over seeds, as printed: MI of training and of held-out pairs, drift (nats), accuracy."""
    columns = {"mi": "MI", "test_mi": "held-out MI", "drift": "drift", "accuracy": "accuracy"}
    names = [table3.name(*one) for one in zip(rows["loss"], rows["benchmark"], strict=True)]
    named = rows.assign(loss=names, benchmark=rows["benchmark"].str.upper())
    found = named.groupby(["benchmark", "loss"])[list(columns)].mean().rename(columns=columns)
    found = found.round({"MI": 3, "held-out MI": 3, "drift": 2, "accuracy": 4}) + 0.0  # no -0.0
    return found.astype(object).fillna("diverged")
