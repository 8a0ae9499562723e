"""Verdicts of notebook 4: Table 2, from the table of its runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from remi_lib.experiments.benchmark import theory
from remi_lib.experiments.image_results import accuracy_or_guess, failed, mi_error
from remi_lib.experiments.published import AHEAD, FAILING, RESCUED, TRAINING
from remi_lib.experiments.verdicts.common import (
    PAPER_WEIGHTS,
    accuracy_lead,
    at_best_weight,
    gains,
    judge_closer,
    judge_gains,
    sayer,
    seeds_with,
    test_images,
    trained,
)
from remi_lib.losses import FAMILIES, LOSSES
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import Evidence, exact


def prepared(runs: pd.DataFrame) -> pd.DataFrame:
    """The paper's losses among the runs, with ``error``, ``failed`` and an accuracy for all.

    Without any run there is nothing to add.
    """
    runs = runs[runs["loss"].isin(LOSSES)].copy()
    if runs.empty:
        return runs
    runs["error"], runs["failed"] = mi_error(runs), failed(runs)
    return runs.assign(accuracy=accuracy_or_guess(runs))


def judge(ledger: Ledger, runs: pd.DataFrame, rejs: pd.DataFrame) -> None:
    """Judge every claim of notebook 4 that is due; ``rejs``: runs of ReJS at several targets."""
    runs = prepared(runs)
    for name in ledger.datasets:
        own = at_best_weight(runs[runs["dataset"] == name])
        slb, clb = (own[own["benchmark"] == b] for b in ("slb", "clb"))
        judge_pairs(ledger, name, slb)
        judge_beats_ce(ledger, name, slb)
        judge_failures(ledger, name, clb)
        judge_competitive(ledger, name, clb)
        judge_spread(ledger, name, own)
        zero = rejs[(rejs["dataset"] == name) & (rejs["benchmark"] == "slb")]
        at_zero = prepared(zero[zero["target"] == 0])
        judge_js_target(ledger, name, pd.concat([slb[slb["loss"] == "js"], at_zero]))


def judge_pairs(
    ledger: Ledger, dataset: str, slb: pd.DataFrame, answers: pd.DataFrame | None = None
) -> None:
    """Judge what the penalty does in SLB, to the families of which both losses ran.

    ``answers``: as :func:`~.common.accuracy_gains` takes them.
    """
    ran = set(slb["loss"])
    pairs = [family for family in FAMILIES if {family, "re" + family} <= ran]
    judge_gains(ledger, dataset, "slb", slb, trained(slb, pairs), answers)
    others = trained(slb, [family for family in pairs if family != "js"])
    judge_closer(ledger, dataset, "table2.slb.closer-without-js", slb, others)


def judge_js_target(ledger: Ledger, dataset: str, runs: pd.DataFrame) -> None:
    """Judge what the penalty at the target 0 does to JS; ``runs``: JS, and ReJS at that target."""
    closer = -gains(at_best_weight(runs), ["js"], "error")
    sayer(ledger, dataset)("quirk2.js-gain-at-target-0", closer["js"])


def judge_middle(ledger: Ledger, dataset: str, slb: pd.DataFrame) -> None:
    """Judge from SLB runs of all lambdas whether the MI comes closer at the middle one."""
    runs, families = at_best_weight(slb, PAPER_WEIGHTS[1:2]), trained(slb, FAMILIES)
    judge_closer(ledger, dataset, "table2.slb.closer-at-middle-lambda", runs, families)


def judge_beats_ce(
    ledger: Ledger, dataset: str, slb: pd.DataFrame, answers: pd.DataFrame | None = None
) -> None:
    """Judge from SLB runs whether :data:`~.published.AHEAD` beat cross-entropy in accuracy.

    ``answers``: as :func:`~.common.accuracy_lead` takes them.
    """
    wide = slb.pivot(index="seed", columns="loss", values="accuracy").dropna(axis=1)
    images = test_images(dataset)

    def ahead(losses: list[str]) -> Evidence:
        return accuracy_lead(wide, losses, ["infonce"], images, answers)

    each = {str(x): ahead([str(x)]) for x in wide.columns.drop("infonce")}
    sayer(ledger, dataset)("table2.slb.beats-ce", ahead(list(AHEAD)), each)


def judge_failures(ledger: Ledger, dataset: str, clb: pd.DataFrame) -> None:
    """Judge from CLB runs that three families fail, and what becomes of them with the penalty."""
    say = sayer(ledger, dataset)
    gone, rescued = _of(FAILING, clb, "failed"), _of(RESCUED, clb, "failed")
    say("table2.clb.three-fail", seeds_with(gone, all_of_them=True), dict(gone))
    say("table2.clb.rescued", seeds_with(rescued, all_of_them=False), dict(rescued))
    runs = clb[clb["loss"].isin(RESCUED)]
    half = _of(RESCUED, runs.assign(half=way(runs) >= 0.5), "half")
    say("table2.clb.half-way", seeds_with(half, all_of_them=True), dict(half))
    mi = _of(RESCUED, runs.fillna({"mi": 0.0}), "mi")
    say("table2.clb.learn", mi[mi.mean().idxmin()], dict(mi))


def _of(losses: Sequence[str], runs: pd.DataFrame, what: str) -> pd.DataFrame:
    """A column of the three families, or of their regularised forms: a row per seed."""
    wide = runs.pivot(index="seed", columns="loss", values=what)
    return wide[list(losses)].set_axis(FAILING, axis=1)


def way(runs: pd.DataFrame) -> pd.Series:
    """How far each run of a benchmark came: its MI over that at its loss's optimum."""
    return runs["mi"] / runs["loss"].map(theory(runs).groupby("loss").first())


def judge_competitive(ledger: Ledger, dataset: str, clb: pd.DataFrame) -> None:
    """Judge from CLB runs whether the rescued three are as accurate as the best of the others."""
    wide = clb.pivot(index="seed", columns="loss", values="accuracy")
    best = wide[list(TRAINING)].mean().idxmax()
    rescued = list(RESCUED)
    ahead = wide[rescued].sub(wide[best], axis=0)
    evidence = accuracy_lead(wide, rescued, [best], test_images(dataset))
    sayer(ledger, dataset)("table2.clb.competitive", evidence, dict(ahead))


def judge_spread(ledger: Ledger, dataset: str, runs: pd.DataFrame) -> None:
    """Judge from runs of both benchmarks whether the penalty makes the MI scatter less over seeds.

    A sample per benchmark and family that trains: log(SD of the original / of the regularised).
    """
    ratios = {}
    for benchmark, own in runs.groupby("benchmark", sort=False):
        sd = own.groupby("loss")["mi"].std()
        for family in trained(own, FAMILIES):
            ratios[f"{benchmark} {family}"] = float(np.log(sd[family] / sd["re" + family]))
    parts = {key: exact(ratio) for key, ratio in ratios.items()}
    sayer(ledger, dataset)("table2.seed-spread", list(ratios.values()), parts)
