"""CIFAR-10 at 32 pixels on a CPU: the runs of a small residual network, and what they decide.

The overnight profile's real images: 10,000 of them, at the paper's batch, for as many passes as let
cross-entropy fit them, since the paper's networks have fitted theirs.  In as many steps CLB tells
which losses fail, and which have begun to train; none has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import pandas as pd

from remi_lib.experiments import image_runs
from remi_lib.experiments.image_results import at_weights, per_run, runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.lambda_sweep import TWINS, lambda_runs, two_by_two
from remi_lib.experiments.protocols import PROTOCOLS, choices
from remi_lib.experiments.published import AHEAD, FAILING, RESCUED, TRAINING
from remi_lib.experiments.verdicts import benchmark, lambda_sweep
from remi_lib.experiments.verdicts.common import (
    PAPER_WEIGHTS,
    accuracy_gains,
    at_best_weight,
    at_complete_seeds,
    complete_seeds,
    gains,
    test_images,
    trained,
)
from remi_lib.experiments.z_loss import report
from remi_lib.images import load_images
from remi_lib.losses import LOSSES, regularized, split_name
from remi_lib.replication import cells
from remi_lib.replication.cells import Cell
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import measure

NOTEBOOK = "04_benchmark"
DATASET, NET, BATCH, EPOCHS = "cifar10_10k", "resnet8", 10, 15  # the batch is the paper's
# In CLB six: the fewest whose share can be told from a half where all agree.
SEEDS = {"slb": 3, "clb": 6}
WEIGHT, TAU = 0.01, 10.0  # the middle one of the paper's lambdas; its threshold
REJS_TARGET = 1.0  # as the authors' code for images has it
CROSS_ENTROPY = "infonce"  # in SLB
# Notebook 12's: every row's log-sum-exp drawn to 0, which is C = -log 10, to digits a table keeps.
Z_LOSS, Z_TARGET = "reinfonce_rows", -2.3026
PAIRS = (*TRAINING, *map(regularized, TRAINING))  # what trains in CLB with and without the penalty
# The losses that are compared with each other, and so at the same seeds, by benchmark.
GROUPS = (("slb", LOSSES), ("clb", PAIRS), ("clb", (*FAILING, *RESCUED)))
# What tells a row of the table from the others.
KEYS = ["dataset", "benchmark", "loss", "weight", "target", "tau", "epochs", "seed"]


def options(benchmark: str, seeds: int | None = None) -> dict[str, Any]:
    """What the runs of a benchmark have in common, as ``runs_of`` takes it."""
    return {
        "dataset": DATASET,
        "net": NET,
        "batch": BATCH,
        "epochs": {benchmark: EPOCHS},
        "seeds": SEEDS[benchmark] if seeds is None else seeds,
    }


def planned() -> list[Run]:
    """SLB with all losses, then CLB: clip x penalty of the families that fail, the others, Fig 6.

    Seed by seed; in SLB first what message 9 needs: cross-entropy and the losses that the paper
    finds ahead of it.  SLB's other lambdas, which the paper's protocol chooses from, and the z-loss
    at all three come last.
    """
    first = [CROSS_ENTROPY, *AHEAD]
    losses = [*first, *(name for name in LOSSES if name not in first)]
    one_lambda: dict[str, Any] = {"weight": WEIGHT, "rejs_target": REJS_TARGET}
    apart = [run for runs in by_square().values() for run in runs]
    others = [name for name in LOSSES if name not in {run.member.loss for run in apart}]
    return [
        *runs_of(losses, **options("slb"), **one_lambda),
        *sorted(apart, key=lambda run: run.member.seed),
        *runs_of(others, **options("clb", SEEDS["slb"]), **one_lambda),
        *sorted(_other_lambdas("clb"), key=lambda run: run.member.seed),
        *_other_lambdas("slb"),
        *_z_losses(),
    ]


def _other_lambdas(benchmark: str) -> list[Run]:
    """The six regularised losses at the paper's other lambdas; in CLB they are Fig 6."""
    weights = [weight for weight in PAPER_WEIGHTS if weight != WEIGHT]
    return lambda_runs(weights, rejs_target=REJS_TARGET, **options(benchmark, SEEDS["slb"]))


def _z_losses() -> list[Run]:
    """SLB by cross-entropy with the z-loss at the paper's lambdas, a penalty of each row."""
    plain = runs_of([Z_LOSS], **options("slb"))
    return [
        replace(run, member=replace(run.member, weight=weight, target=Z_TARGET))
        for weight in PAPER_WEIGHTS
        for run in plain
    ]


def by_square() -> dict[str, list[Run]]:
    """Notebook 5's clip x penalty, of these images."""
    return two_by_two(WEIGHT, TAU, **options("clb"))


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        tau = "" if run.member.tau is None else f" tau {run.member.tau:g}"
        where = f"{run.task.dataset} {run.task.benchmark}"
        weight = "" if run.member.weight in (None, WEIGHT) else f" lambda {run.member.weight:g}"
        kind = "table2" if run.task.benchmark == "clb" else "table2-slb"  # each has its own pace
        yield cell_of(run, kind, f"{where} {run.member.loss}{tau}{weight} seed {run.member.seed}")


def cell_of(run: Run, kind: str, name: str) -> Cell:
    """A run as a cell of the overnight plan."""
    compute = partial(image_runs.finish, [run], label=name)
    return Cell(kind, name, "runs/", run.config, image_runs.__name__, run.epochs, compute)


def done(module: ModuleType) -> dict[Any, cells.Tables]:
    """The results of those of a module's planned runs that are in the cache.

    Whatever code computed them: an edit makes no result disappear.
    """
    pairs = zip(module.planned(), module.image_cells(), strict=True)
    return {run: tables for run, cell in pairs if (tables := cells.tables_of(cell))}


def rows_of(found: Mapping[Run, cells.Tables]) -> pd.DataFrame:
    """A row per finished run, as :func:`~.image_results.per_run` has it."""
    rows = per_run(image_runs.results_of(list(found), list(found.values())))
    read = [load_images(run.task.dataset).printed for run in found]  # "CIFAR-10 (JPEG copy)"
    rows = rows.astype({"tau": float, "weight": float})  # None and numbers
    return rows.assign(epochs=[run.epochs for run in found], read=read)


def offered(rows: pd.DataFrame, losses: Sequence[str]) -> pd.DataFrame:
    """A benchmark's runs of some losses, clipped as in the paper, at the lambdas to choose from.

    Of the seeds at which all of the losses ran the lambdas that ran at every one, so that a choice
    compares the same seeds, and a seed that one loss has more of takes no lambda away.
    """
    rows = at_complete_seeds(rows[rows["tau"].isna()], losses)
    here = rows.groupby(["loss", "weight"], dropna=False)["seed"].transform("nunique")
    return benchmark.prepared(rows[here == rows["seed"].nunique()])


def reported(rows: pd.DataFrame) -> pd.DataFrame:
    """Every group of :data:`GROUPS` at the lambda of best MI, the paper's protocol."""
    groups = [
        at_best_weight(own)
        for where, losses in GROUPS
        if len(own := offered(rows[rows["benchmark"] == where], losses))
    ]
    return pd.concat(groups) if groups else rows.iloc[:0]


def by_protocol(rows: pd.DataFrame) -> pd.DataFrame:
    """What message 8 asks, with lambda chosen by each protocol: a row per benchmark and protocol.

    ``closer`` (nats) and ``accuracy`` are means over the families that train, with the 95%
    intervals that the claims have; of the seeds at which all these families ran.
    """
    found = []
    for where, losses in GROUPS[:2]:
        own = offered(rows[rows["benchmark"] == where], losses)
        if own["seed"].nunique() < 2:
            continue
        for protocol in PROTOCOLS:
            runs = at_weights(own, choices(own, protocol, WEIGHT))
            families = trained(runs, [name for name in losses if not split_name(name)[1]])
            closer = measure("mean", -gains(runs, families, "error").mean(axis=1))
            better, _ = accuracy_gains(runs, families, test_images(DATASET))
            row = {"benchmark": where, "protocol": protocol, "families": len(families)}
            for name, one in (("closer", closer), ("accuracy", better)):
                row |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
            found.append(row | {"seeds": closer.n})
    return pd.DataFrame(found)


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge what seeds at which all runs are there decide of notebook 4's claims.

    Two such seeds at least; without them an empty ledger.
    """
    ledger = Ledger(NOTEBOOK, profile, [DATASET])
    slb, clb = (rows[rows["benchmark"] == name] for name in ("slb", "clb"))
    for own, losses, judged in (
        (slb, LOSSES, benchmark.judge_pairs),
        (slb, (CROSS_ENTROPY, *AHEAD), benchmark.judge_beats_ce),
        (clb, (*FAILING, *RESCUED), benchmark.judge_failures),
        (clb, LOSSES, benchmark.judge_competitive),
    ):
        _judge(ledger, offered(own, losses), judged)
    _judge(ledger, offered(slb, LOSSES), benchmark.judge_middle, chosen=False)
    both = complete_seeds(slb, LOSSES) & complete_seeds(clb, LOSSES)
    spread = [offered(own[own["seed"].isin(both)], LOSSES) for own in (slb, clb)]
    _judge(ledger, pd.concat(spread), benchmark.judge_spread)
    return ledger


def _judge(
    ledger: Ledger,
    rows: pd.DataFrame,
    judged: Callable[[Ledger, str, pd.DataFrame], None],
    chosen: bool = True,
) -> None:
    """Judge, at the lambda of best MI or at all of them, if there are two seeds."""
    if rows["seed"].nunique() > 1:
        judged(ledger, DATASET, at_best_weight(rows) if chosen else rows)


def judge_z_loss(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge notebook 12's claims about real images, of the seeds at which every lambda ran."""
    ledger = Ledger("12_z_loss", profile, [DATASET])
    _judge(ledger, z_loss(rows), report.judge_real, chosen=False)
    return ledger


def z_loss(rows: pd.DataFrame) -> pd.DataFrame:
    """Cross-entropy, ReInfoNCE and the z-loss in SLB, at the seeds at which all of them ran.

    ``log_z``: the mean over held-out images of log sum_k exp T_k, in nats.
    """
    penalised = ["re" + CROSS_ENTROPY, Z_LOSS]
    found = _at_every_weight(rows[rows["benchmark"] == "slb"], penalised, [CROSS_ENTROPY])
    return found.assign(log_z=found["test_row_term"] - Z_TARGET)


def _at_every_weight(
    rows: pd.DataFrame, penalised: Sequence[str], plain: Sequence[str] = ()
) -> pd.DataFrame:
    """A benchmark's runs, clipped as in the paper, at the seeds at which all of these ran.

    ``penalised``: each at every one of the paper's lambdas.  ``plain``: those that have none.
    """
    rows = rows[rows["tau"].isna() & rows["loss"].isin([*penalised, *plain])]
    own = rows["loss"] + rows["weight"].map(" {:g}".format).astype(str)
    each = rows.assign(loss=rows["loss"].where(rows["loss"].isin(plain), own))
    every = [f"{loss} {weight:g}" for loss in penalised for weight in PAPER_WEIGHTS]
    return rows[rows["seed"].isin(complete_seeds(each, [*plain, *every]))]


def squares(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of :func:`by_square`'s runs."""
    found = {}
    for name, runs in by_square().items():
        own = pd.DataFrame([run.columns() for run in runs]).astype({"tau": float, "weight": float})
        found[name] = rows.merge(own[["dataset", "benchmark", "loss", "weight", "tau", "seed"]])
    return found


def judge_sweep(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge notebook 5's claims, as :func:`judge` does its own.

    What clipping and the penalty do apart in CLB, what the penalty does there to the losses that
    train without it, and what lambda does.
    """
    ledger = Ledger("05_lambda_sweep", profile, [DATASET])
    by = squares(rows)
    complete = complete_seeds(by["clip"], FAILING) & complete_seeds(by["penalty"], RESCUED[1:])
    if len(complete) > 1:
        clip, penalty = (by[name][by[name]["seed"].isin(complete)] for name in ("clip", "penalty"))
        lambda_sweep.judge_squares(ledger, DATASET, clip, penalty)
    clb = rows[rows["benchmark"] == "clb"]
    _judge(ledger, offered(clb, PAIRS), lambda_sweep.judge_pairs, chosen=False)
    _judge(ledger, offered(clb, TWINS), lambda_sweep.judge_order, chosen=False)
    lambdas = benchmark.prepared(swept(rows))
    _judge(ledger, lambdas, lambda_sweep.judge_trade_off, chosen=False)
    return ledger


def swept(rows: pd.DataFrame) -> pd.DataFrame:
    """Fig 6's runs: CLB at the seeds at which every regularised loss ran at every lambda."""
    found = _at_every_weight(rows[rows["benchmark"] == "clb"], TWINS)
    return found.sort_values("loss", key=lambda names: names.map(TWINS.index), kind="stable")
