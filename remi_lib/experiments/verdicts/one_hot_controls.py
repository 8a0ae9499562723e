"""Verdicts on the one-hot controls: step size, clipping, moving average, causes of the drift."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
from numpy.typing import ArrayLike

from remi_lib.experiments.one_hot_controls import NAME
from remi_lib.intervals import difference, fraction_interval, median_interval
from remi_lib.replication.claims import Ledger

WORST = {"sd": math.inf, "exact_mi": -math.inf}  # what a lost member counts as


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


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge the claims ``control.*`` from the table of all members."""
    ledger = Ledger(NAME, profile)

    def say(claim: str, values: ArrayLike) -> None:
        ledger.judge(f"control.{claim}", median_interval(values))

    def share_lost(claim: str, **where: object) -> None:
        lost = chosen(rows, "diverged_step", **where).notna()
        ledger.judge(f"control.{claim}", fraction_interval(lost))

    share_lost("step.nwj-finite", loss="nwj", lr=0.03)
    nwj, renwj = (chosen(rows, "exact_mi", loss=x, lr=0.03) for x in ("nwj", "renwj"))
    mine, remine = (chosen(rows, "exact_mi", loss=x, lr=0.01) for x in ("mine", "remine"))
    say("step.mine-scatter", chosen(rows, "sd", loss="mine", lr=0.01))
    say("step.remine-gain", difference(remine, mine))
    say("step.renwj-gain", difference(renwj, nwj))
    share_lost("clip.nwj-finite", loss="nwj", clipped=True)
    say("clip.mine-scatter", chosen(rows, "sd", loss="mine", clipped=True))
    drift = partial(chosen, rows, study="drift", loss="mine")
    say("drift.exact-gradient", drift("log_partition_drift", exact="both", batch=0))
    say("drift.product-noise", drift("log_partition_drift", exact="joint", batch=100))
    say("variance.second-term", drift("variance_ratio", batch=100))
    return ledger
