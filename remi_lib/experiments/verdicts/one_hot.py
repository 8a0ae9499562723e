"""Verdicts on the one-hot problem: notebooks 1 and 2, and the overnight controls."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from remi_lib.experiments.one_hot_controls import FIGURE1, NAME
from remi_lib.experiments.verdicts.common import seeds_with
from remi_lib.intervals import difference
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import exact

RUNAWAY = 27.7  # nats: ten times the true MI, log 16
OUTPUTS = ["on_min", "on_max", "off_min", "off_max"]  # of T, at a probe
TWINS = ("ReMINE", "ReNWJ")
WORST = {"sd": math.inf, "exact_mi": -math.inf}  # what a lost member counts as


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
    lost = diverged.set_index(by)["step"].notna()
    scatter = mi.groupby(by)["mi"].std().mask(lost, np.inf)  # more than any number
    last = probes[probes["step"] == probes["step"].max()].set_index(by)
    outputs = probes.set_index(by)[OUTPUTS]
    ledger.judge("fig3.mine-scatters", scatter["MINE"])
    ledger.judge("fig3.nwj-overflows", overflow)
    gone = lost.unstack("name")[list(TWINS)]
    ledger.judge("fig5.finite", seeds_with(gone, all_of_them=False), dict(gone))
    alive = last[OUTPUTS].max(axis=1) - last[OUTPUTS].min(axis=1) > 0.01
    widest = outputs.abs().max(axis=1).groupby(level=by).max()
    kept = alive & (widest < RUNAWAY) & ~lost
    both = kept.unstack("name")[list(TWINS)]
    ledger.judge("fig5.bounded", seeds_with(both, all_of_them=True), dict(both))
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
    ledger.judge("fig2.isolates-joint", gap.min(axis=1), dict(gap))
    ledger.judge("dv.above-nwj", exact(dv_above_nwj(terms)))


def chosen(rows: pd.DataFrame, column: str, **where: object) -> pd.Series:
    """A quantity by seed, of the sampled, unclipped grid at lr 0.1 and batch 32 if not ``where``.

    A lost member counts as :data:`WORST`, or as NaN where no number is the worst.
    """
    setting = {"study": "grid", "lr": 0.1, "batch": 32, "clipped": False, "exact": "none"} | where
    own = rows[(rows[list(setting)] == pd.Series(setting)).all(axis=1)].set_index("seed")
    if own.empty:
        raise ValueError(f"controls: no run of {setting}")
    if column == "diverged_step":
        return own[column]
    return own[column].mask(own["diverged_step"].notna(), WORST.get(column, math.nan))


def judge_controls(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge the claims ``control.*`` from the table of all members."""
    ledger = Ledger(NAME, profile)

    def say(claim: str, values: ArrayLike) -> None:
        ledger.judge(f"control.{claim}", values)

    def share_lost(claim: str, **where: object) -> None:
        say(claim, chosen(rows, "diverged_step", **where).notna())

    slow = partial(chosen, rows, study="long")
    nwj, renwj = (slow("exact_mi", loss=x, lr=0.03) for x in ("nwj", "renwj"))
    mine, remine = (slow("exact_mi", loss=x, lr=0.01) for x in ("mine", "remine"))
    share_lost("step.nwj-finite", study="long", loss="nwj", lr=0.03)
    say("step.mine-scatter", slow("sd", loss="mine", lr=0.01))
    say("step.remine-gain", difference(remine, mine))
    say("step.renwj-gain", difference(renwj, nwj))
    share_lost("clip.nwj-finite", loss="nwj", clipped=True)
    say("clip.mine-scatter", chosen(rows, "sd", loss="mine", clipped=True))
    drift = partial(chosen, rows, study="drift", loss="mine")
    say("drift.exact-gradient", drift("log_partition_drift", exact="both", batch=0))
    say("drift.product-noise", drift("log_partition_drift", exact="joint", batch=100))
    say("drift.ends", slow("log_partition_drift", loss="mine", batch=FIGURE1))
    say("variance.second-term", drift("variance_ratio", batch=100))
    return ledger
