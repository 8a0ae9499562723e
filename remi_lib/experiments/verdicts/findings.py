"""Verdicts of notebook 10: the paper's printed numbers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from remi_lib.experiments import published
from remi_lib.experiments.findings import CLASSES, non_negative_optima
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import Evidence, exact


def judge(ledger: Ledger, profile: str) -> None:
    """Judge notebook 10's claims, all about the published numbers."""
    judge_published(ledger, published.table2())
    optima = non_negative_optima(profile)
    above = (optima["paper"] - optima["predicted"]).groupby(optima["dataset"]).max()
    parts = {str(name): exact(gap) for name, gap in above.items()}
    ledger.judge("finding.published-clb", exact(above.max()), parts)


def pairs_that_train(table: pd.DataFrame) -> pd.DataFrame:
    """The pairs of Table 2 whose original trains (it prints an MI), with what the penalty gains.

    ``closer`` (nats towards H(Y) = log K), ``better`` (accuracy); ``*_apart``: intervals disjoint.
    """
    pairs = table[table["mi_original"] > 0].copy()
    truth = np.log(pairs["dataset"].map(CLASSES))
    original, regularised = ((pairs[f"mi_{k}"] - truth).abs() for k in ("original", "regularized"))
    pairs["closer"] = original - regularised
    pairs["better"] = (pairs["accuracy_regularized"] - pairs["accuracy_original"]).round(6)
    for quantity in ("mi", "accuracy"):
        gap = (pairs[f"{quantity}_original"] - pairs[f"{quantity}_regularized"]).abs()
        both = [pairs[f"{quantity}_{k}_ci95"] for k in ("original", "regularized")]
        pairs[f"{quantity}_apart"] = gap > both[0] + both[1] + 1e-9
    return pairs


def judge_published(ledger: Ledger, table: pd.DataFrame) -> None:
    """What the paper's own Table 2 shows, read again."""
    pairs = pairs_that_train(table)
    ledger.judge("published.closer", pairs["closer"] > 0)
    ledger.judge("published.accuracy", pairs.loc[pairs["better"] != 0, "better"] > 0)
    apart = {q: pairs[f"{q}_apart"].to_numpy() for q in ("mi", "accuracy")}
    ledger.judge("published.intervals-apart", np.concatenate(list(apart.values())), apart)
    slb = table[table["task"] == "slb"]
    wide = slb.pivot(index="dataset", columns="loss", values="accuracy_original")
    ahead = wide[list(published.AHEAD)].sub(wide["infonce"], axis=0).min(axis=1).round(6)
    each = {str(name): exact(least) for name, least in ahead.items()}
    ledger.judge("published.ahead-of-ce", exact(ahead.min()), each)
    printed = slb[slb["loss"] == "js"].set_index("dataset")
    readings = {}
    for name, classes in CLASSES.items():
        row = printed.loc[name]
        gap = row["mi_original"] - (math.log(classes) - 1 / math.e)
        ci = row["mi_original_ci95"]
        readings[name] = Evidence("mean", gap, gap - ci, gap + ci, 5)
    ledger.judge("finding.published-js", readings["cifar10"], readings)
