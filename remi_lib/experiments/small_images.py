"""CIFAR-10 at 32 pixels on a CPU: the runs of a small residual network, and what they decide.

The overnight profile's real images: 10,000 of them, at the paper's batch, for as many passes as let
cross-entropy fit them, since the paper's networks have fitted theirs.  In as many steps CLB tells
which losses fail, and which have begun to train; none has finished.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from remi_lib.experiments import image_runs
from remi_lib.experiments.image_results import per_run
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.published import AHEAD, FAILING
from remi_lib.experiments.verdicts import benchmark, lambda_sweep
from remi_lib.experiments.verdicts.common import complete_seeds
from remi_lib.images import load_images
from remi_lib.losses import LOSSES, split_name
from remi_lib.replication import cells
from remi_lib.replication.cells import Cell
from remi_lib.replication.claims import Ledger
from remi_lib.tasks import ImageTask, Member

NOTEBOOK, NET = "04_benchmark", "resnet8"
WEIGHT = 0.01
CONTROL = "infonce"  # cross-entropy in SLB; in CLB whether anything is learned in so few steps
REJS_TARGET = 1.0  # as the authors' code for images has it
TAU = 10.0  # the paper's threshold


@dataclass(frozen=True)
class Size:
    """The images, batch and length of a benchmark's runs."""

    dataset: str
    batch: int
    epochs: int
    seeds: int


SLB = Size("cifar10_10k", batch=10, epochs=15, seeds=3)  # the batch is the paper's
# Six seeds: the fewest whose share can be told from a half where all agree.
CLB = Size("cifar10_10k", batch=10, epochs=15, seeds=6)
# What tells a row of the table from the others.
KEYS = ["dataset", "benchmark", "loss", "weight", "target", "tau", "epochs", "seed"]


def planned() -> list[Run]:
    """SLB with all losses, then CLB: the families that fail in it by the paper, then the others.

    Seed by seed; in SLB first what message 9 needs: cross-entropy, which is InfoNCE there, and the
    losses that the paper finds ahead of it.
    """
    first = ["infonce", *AHEAD]
    losses = [*first, *(name for name in LOSSES if name not in first)]
    failing = [name for family in FAILING for name in (family, "re" + family)]
    others = [CONTROL, *(name for name in LOSSES if name not in (*failing, CONTROL))]
    few = replace(CLB, seeds=min(CLB.seeds, SLB.seeds))
    return [
        *runs_at(SLB, "slb", losses),
        *runs_at(CLB, "clb", failing),
        # Clipping without the penalty, and the penalty without clipping.
        *runs_at(CLB, "clb", FAILING[1:], TAU),
        *runs_at(CLB, "clb", ["re" + family for family in FAILING[1:]], math.inf),
        *runs_at(few, "clb", others),
    ]


def runs_at(
    size: Size, benchmark: str, losses: Sequence[str], tau: float | None = None
) -> list[Run]:
    """A run per seed and loss, at one lambda; clipped as in the paper if ``tau`` does not say."""
    task = ImageTask(size.dataset, benchmark, NET)
    runs = []
    for seed in range(size.seeds):
        for loss in losses:
            weight = WEIGHT if split_name(loss)[1] else None
            target = REJS_TARGET if loss == "rejs" else None
            member = Member(loss, seed, size.batch, weight, target, tau)
            runs.append(Run(task, member, size.epochs))
    return runs


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        tau = "" if run.member.tau is None else f" tau {run.member.tau:g}"
        where = f"{run.task.dataset} {run.task.benchmark}"
        name = f"{where} {run.member.loss}{tau} seed {run.member.seed}"
        compute = partial(image_runs.finish, [run], label=name)
        kind = "table2" if run.task.benchmark == "clb" else "table2-slb"  # each has its own pace
        yield Cell(kind, name, "runs/", run.config, image_runs.__name__, run.epochs, compute)


def table() -> pd.DataFrame | None:
    """A row per finished run, as :func:`~.image_results.per_run` has it; None without any.

    Whatever code computed it: an edit makes no result disappear.
    """
    found = {
        run: tables
        for run, cell in zip(planned(), image_cells(), strict=True)
        if (tables := cells.tables_of(cell))
    }
    if not found:
        return None
    done = list(found)
    rows = per_run(image_runs.results_of(done, list(found.values())))
    read = [load_images(run.task.dataset).printed for run in done]  # "CIFAR-10 (JPEG copy)"
    tau = rows["tau"].astype(float)  # None and numbers
    return rows.assign(epochs=[run.epochs for run in done], read=read, tau=tau)


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge what seeds at which all runs are there decide of notebook 4's claims.

    Two such seeds at least; without them an empty ledger.
    """
    rows = rows[rows["tau"].isna()]
    ledger = Ledger(NOTEBOOK, profile, sorted({SLB.dataset, CLB.dataset}))
    slb, clb = (
        rows[(rows["dataset"] == size.dataset) & (rows["benchmark"] == name)]
        for size, name in ((SLB, "slb"), (CLB, "clb"))
    )
    twins = [*FAILING, *("re" + family for family in FAILING)]
    for own, losses, judged in (
        (slb, LOSSES, benchmark.judge_pairs),
        (slb, (CONTROL, *AHEAD), benchmark.judge_beats_ce),
        (clb, twins, benchmark.judge_failures),
        (clb, LOSSES, benchmark.judge_competitive),
    ):
        complete = complete_seeds(own, losses)
        if len(complete) > 1:
            own = benchmark.prepared(own[own["seed"].isin(complete)])
            judged(ledger, own["dataset"].iloc[0], own)
    return ledger


def squares(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """CLB's runs by what is on, as notebook 5 names it: "neither", "clip", "penalty", "both"."""
    rows = rows[(rows["dataset"] == CLB.dataset) & (rows["benchmark"] == "clb")]
    paper, smile = rows["tau"].isna(), rows["loss"] == "smile"  # as the paper clips; SMILE does
    twins = rows["loss"].isin(["re" + family for family in FAILING])
    return {
        "neither": rows[paper & rows["loss"].isin(FAILING[1:])],
        "clip": rows[(rows["tau"] == TAU) | (paper & smile)],
        "penalty": rows[np.isinf(rows["tau"])],
        "both": rows[paper & twins],
    }


def judge_squares(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge, as :func:`judge` does, what clipping and the penalty do apart in CLB: notebook 5's."""
    ledger = Ledger("05_lambda_sweep", profile, [CLB.dataset])
    by = squares(rows)
    complete = complete_seeds(by["clip"], FAILING)
    complete &= complete_seeds(by["penalty"], ["re" + family for family in FAILING[1:]])
    if len(complete) > 1:
        clip, penalty = (by[name][by[name]["seed"].isin(complete)] for name in ("clip", "penalty"))
        lambda_sweep.judge_squares(ledger, CLB.dataset, clip, penalty)
    return ledger
