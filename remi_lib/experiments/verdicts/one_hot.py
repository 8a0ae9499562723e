"""Verdicts of notebooks 1 and 2 that take more than a line: the one-hot problem."""

from __future__ import annotations

import numpy as np
import pandas as pd

from remi_lib.experiments.verdicts.common import columns_of, seeds_with
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import exact

RUNAWAY = -27.7  # nats: ten times the true MI, log 16, below zero
TWINS = ("ReMINE", "ReNWJ")


def dv_above_nwj(terms: pd.DataFrame) -> float:
    """The smallest DV(T) - NWJ(T) over recorded batches of MINE and NWJ, nats.

    With L = log E_Q[e^T] it is e^(L-1) - L, and not below 0.  MINE records L, NWJ e^(L-1).
    """
    mine = terms.loc[terms["loss"] == "mine", "product_term"].astype(float)
    second = terms.loc[terms["loss"] == "nwj", "product_term"].astype(float)
    gaps = pd.concat([np.exp(mine - 1) - mine, second - np.log(second) - 1])
    return float(gaps.min())


def judge_explosion(
    ledger: Ledger,
    mi: pd.DataFrame,
    probes: pd.DataFrame,
    diverged: pd.DataFrame,
    overflow: pd.Series,
) -> None:
    """Judge the claims of notebook 2; ``mi``: the batch estimates of the last window.

    ``overflow``: whether NWJ's numbers stopped being finite at further seeds.
    """
    by = ["name", "seed"]
    scatter = mi.groupby(by)["mi"].std().fillna(np.inf)  # diverged: more than any number
    last = probes[probes["step"] == probes["step"].max()].set_index(by)
    lost = diverged.set_index(by)["step"].notna()
    ledger.judge("fig3.mine-scatters", scatter["MINE"])
    ledger.judge("fig3.nwj-overflows", overflow)
    gone = lost.unstack("name")[list(TWINS)]
    ledger.judge("fig5.finite", seeds_with(gone, all_of_them=False), columns_of(gone))
    alive = last["on_max"] - last["off_min"] > 0.01
    kept = alive & (last["off_min"] > RUNAWAY) & (last["on_min"] > RUNAWAY)
    both = kept.unstack("name")[list(TWINS)]
    ledger.judge("fig5.bounded", seeds_with(both, all_of_them=True), columns_of(both))
    ledger.judge("fig5.remine-scatter", scatter["ReMINE"])
    ledger.judge("fig5.remine-mi", last["exact_mi"]["ReMINE"])
    ledger.judge("fig5.renwj-mi", last["exact_mi"]["ReNWJ"])


def judge_drift(
    ledger: Ledger, early: pd.DataFrame, late: pd.DataFrame, end: pd.DataFrame, terms: pd.DataFrame
) -> None:
    """Judge the claims of notebook 1, from means of two windows and the last step."""
    drift, gap = late - early, (end["on_min"] - end["off_max"]).unstack("loss")
    ledger.judge("fig1.mine-drifts", drift["log_second"]["mine"])
    ledger.judge("fig1.nwj-does-not-drift", drift["log_second"]["nwj"])
    ledger.judge("fig1.mine-estimate-settles", drift["mi"]["mine"])
    parts = {str(loss): gap[loss].to_numpy() for loss in gap}
    ledger.judge("fig2.isolates-joint", gap.min(axis=1), parts)
    ledger.judge("dv.above-nwj", exact(dv_above_nwj(terms)))
