"""Verdicts of notebook 5: Fig 6, CLB's half of Table 2 at the chosen lambda, and the ablations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
from scipy.stats import spearmanr

from remi_lib.experiments import published
from remi_lib.experiments.lambda_sweep import TWINS, family_of
from remi_lib.experiments.published import FAILING, TRAINING
from remi_lib.experiments.verdicts.benchmark import prepared, way
from remi_lib.experiments.verdicts.common import (
    PAPER_WEIGHTS,
    at_best_weight,
    judge_closer,
    judge_gains,
    sayer,
    seeds_with,
    test_images,
    trained,
)
from remi_lib.losses import FAMILIES, regularized
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import with_test_images


def judge(
    ledger: Ledger,
    originals: pd.DataFrame,
    swept: pd.DataFrame,
    squares: Mapping[str, pd.DataFrame],
    scaled: Mapping[str, pd.DataFrame],
) -> None:
    """Judge every claim of notebook 5 that is due; ``squares``, ``scaled``: the ablations."""
    runs = prepared(pd.concat([originals, swept], ignore_index=True))
    for name in ledger.datasets:
        own = runs[(runs["dataset"] == name) & (runs["benchmark"] == "clb")]
        judge_pairs(ledger, name, own)
        judge_order(ledger, name, own)
        judge_trade_off(ledger, name, own[own["weight"].isin(PAPER_WEIGHTS)])
        clip, penalty = (f[f["dataset"] == name] for f in (squares["clip"], squares["penalty"]))
        judge_squares(ledger, name, clip, penalty)
        plain = scaled["divided by √d"].query("dataset == @name")
        judge_scaled(ledger, name, plain[plain["loss"].isin(FAILING)])


def judge_squares(ledger: Ledger, dataset: str, clip: pd.DataFrame, penalty: pd.DataFrame) -> None:
    """Judge what clipping does without the penalty, and the penalty without clipping."""
    say = sayer(ledger, dataset)
    _share(say, "ablation.clip-alone", prepared(clip), FAILING, True)
    _share(say, "ablation.penalty-alone", prepared(penalty), FAILING[1:], True)


def judge_scaled(ledger: Ledger, dataset: str, runs: pd.DataFrame) -> None:
    """Judge whether a loss fails without the penalty where scores are divided by the root of d."""
    _share(sayer(ledger, dataset), "ablation.scaled", prepared(runs), FAILING, False)


def judge_closer_at_best(ledger: Ledger, dataset: str, claim: str, runs: pd.DataFrame) -> None:
    """Judge by a claim whether the best lambda brings what trains without it closer to H(Y)."""
    chosen = at_best_weight(runs)
    families = trained(chosen, [family for family in FAMILIES if family in set(chosen["loss"])])
    judge_closer(ledger, dataset, claim, chosen, families)


def judge_pairs(ledger: Ledger, dataset: str, runs: pd.DataFrame) -> None:
    """Judge from CLB runs what the penalty does to the families that the paper finds to train."""
    say, chosen = sayer(ledger, dataset), at_best_weight(runs)
    families = trained(chosen, TRAINING)
    if not families:  # nothing to compare; the claims stay "not run"
        return
    judge_gains(ledger, dataset, "clb", chosen, families)
    middle = at_best_weight(runs, PAPER_WEIGHTS[1:2])
    judge_closer(ledger, dataset, "table2.clb.closer-at-middle-lambda", middle, families)
    both = chosen[chosen["loss"].isin([*families, *map(regularized, families)])]
    come = both.assign(way=way(both)).pivot(index="seed", columns="loss", values="way")
    say("table2.clb.pairs-half-way", come.mean(axis=1), dict(come))


def judge_order(ledger: Ledger, dataset: str, runs: pd.DataFrame) -> None:
    """Judge from CLB runs whether the regularised losses read MI in the order of the paper's."""
    wide = at_best_weight(runs).pivot(index="seed", columns="loss", values="mi")[list(TWINS)]
    printed = published.table2_long().query("benchmark == 'clb'").set_index("dataset")
    paper = printed.loc["cifar100" if dataset == "cifar100" else "cifar10"].set_index("loss")["mi"]
    order = wide.apply(lambda row: _rank(row, paper[list(TWINS)]), axis=1)
    sayer(ledger, dataset)("table2.clb.order", order)


def judge_trade_off(ledger: Ledger, dataset: str, runs: pd.DataFrame) -> None:
    """Judge Fig 6 from CLB runs of the regularised losses at the paper's lambdas."""
    say, images = sayer(ledger, dataset), test_images(dataset)
    by = runs.assign(near=-runs["error"]).groupby(["seed", "loss"])
    rank = by[["near", "accuracy"]].apply(lambda f: _rank(f["near"], f["accuracy"])).unstack()
    say("fig6.trade-off", rank.mean(axis=1), dict(rank))
    say("fig6.aligned", rank.mean(axis=1), dict(rank))
    moved = (by["accuracy"].max() - by["accuracy"].min()).unstack()
    rates = runs.groupby(["loss", "weight"])["accuracy"].mean().groupby("loss")
    evidence = with_test_images(moved.mean(axis=1), [rates.max(), rates.min()], images)
    say("fig6.accuracy-hardly-moves", evidence, dict(moved))


def _rank(first: pd.Series, second: pd.Series) -> float:
    """Spearman's correlation; 0 where one of the two does not vary."""
    found = spearmanr(first, second).statistic if first.nunique() > 1 < second.nunique() else 0.0
    return float(found)


def _share(
    say: Callable, claim: str, runs: pd.DataFrame, families: tuple[str, ...], all_of_them: bool
) -> None:
    """Judge at how many seeds all of the families, or one of them, failed."""
    wide = runs.assign(family=family_of(runs)).pivot(
        index="seed", columns="family", values="failed"
    )
    wide = wide[list(families)]
    say(claim, seeds_with(wide, all_of_them), dict(wide))
