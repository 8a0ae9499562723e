"""Verdicts of notebook 10 from published numbers and small runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from remi_lib.experiments import published
from remi_lib.experiments.findings import CLASSES, non_negative_optima
from remi_lib.intervals import Estimate, interval
from remi_lib.replication.claims import Ledger


def judge(
    ledger: Ledger,
    profile: str,
    renwj: pd.DataFrame,
    rounding: pd.DataFrame,
    initial: pd.DataFrame,
) -> None:
    """Judge notebook 10's claims: about the published numbers, and about the runs made here."""
    printed = published.table2_long().set_index(["dataset", "benchmark", "loss"])
    for name, classes in CLASSES.items():
        row = printed.loc[(name, "slb", "js")]
        gap = row["mi"] - (math.log(classes) - 1 / math.e)
        estimate = Estimate(gap, gap - row["mi_ci"], gap + row["mi_ci"])
        ledger.judge(f"finding.published-js.{name}", estimate)
    optima = non_negative_optima(profile)
    for name in CLASSES:
        own = optima[optima["dataset"] == name]
        gap = (own["paper"] - own["predicted"]).abs().mean()
        ledger.judge(f"finding.published-clb.{name}", Estimate(gap, gap, gap))
    difference = renwj.loc["official"]["exact_mi"] - renwj.loc["paper"]["exact_mi"]
    ledger.judge("finding.renwj-anchor", interval(difference))
    wide = initial.loc[[i for i in initial.index if i.startswith("digits")][-1]]
    share = wide["share above tau = 10"]
    ledger.judge("finding.initial-scores-clipped", Estimate(share, share, share))
    adam = rounding[rounding["optimizer"] == "adam"]
    ratio = np.log10(adam["gap of the bias"] / adam["gap of the MI estimate"])
    ledger.judge("finding.rounding-becomes-drift", interval(ratio))
    sgd = rounding[rounding["optimizer"] == "sgd"]
    ledger.judge("finding.rounding-not-under-sgd", interval(np.log10(sgd["output bias"] + 1e-12)))
