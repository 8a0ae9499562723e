"""Verdicts of notebook 08 from the long runs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from remi_lib.experiments.benchmark import failed
from remi_lib.experiments.imagenet.table3 import LOSSES3
from remi_lib.intervals import difference, fraction_interval, interval
from remi_lib.replication.claims import Ledger
from remi_lib.tasks import BENCHMARKS


def judge(ledger: Ledger, runs: pd.DataFrame, entropy: float, classes: int) -> None:
    """Judge every claim of notebook 8 that is due, from :func:`per_run` alone."""
    for dataset in ledger.datasets:
        own = runs.assign(
            failed=failed(runs),
            # A network of NaNs calls every picture the first class.
            guess=runs["accuracy"].fillna(1 / classes),
            exploded=runs["diverged_step"] < 100,
        )
        own = own.set_index(["benchmark", "loss", "seed"]).sort_index()
        for benchmark in BENCHMARKS:
            cell = own.loc[benchmark]
            _judge_drift(ledger, cell, f"fig9.{benchmark}", dataset)
            for family in ("mine", "nwj"):
                plain, twin = cell.loc[family], cell.loc["re" + family]
                key = f"table3.{benchmark}.{family}"
                ledger.judge(f"{key}.mi@{dataset}", interval(_gain(plain, twin)))
                ahead = twin["guess"] - plain["guess"]
                ledger.judge(f"{key}.accuracy@{dataset}", interval(ahead))
        slb, clb = own.loc["slb"], own.loc["clb"]
        exploded = fraction_interval(clb.loc["nwj"]["exploded"])
        ledger.judge(f"fig9.clb.nwj-explodes@{dataset}", exploded)
        trains = fraction_interval(clb.loc["renwj"]["failed"])
        ledger.judge(f"fig9.clb.renwj-trains@{dataset}", trains)
        for loss in LOSSES3:
            share = fraction_interval(slb.loc[loss]["failed"])
            ledger.judge(f"fig9.slb.{loss}-finite@{dataset}", share)
        contenders = [loss for loss in LOSSES3 if loss != "infonce"]
        for loss in contenders:
            ahead = slb.loc[loss]["guess"] - slb.loc["infonce"]["guess"]
            ledger.judge(f"table3.slb.{loss}.beats-ce@{dataset}", interval(ahead))
        # A loss that diverged reads no MI, which is as far from H(Y) as can be.
        mi = slb["mi"].fillna(-np.inf).unstack("loss")[contenders]
        ledger.judge(f"table3.slb.close-to-optimal@{dataset}", interval(mi.min(axis=1) / entropy))


def _judge_drift(ledger: Ledger, cell: pd.DataFrame, key: str, dataset: str) -> None:
    # A run that diverged has moved without limit.
    moved = {loss: cell.loc[loss]["drift"].abs().fillna(np.inf) for loss in ("mine", "remine")}
    settling = cell.loc["mine"]["settling"].abs().fillna(np.inf)
    ledger.judge(f"{key}.mine-estimate-settles@{dataset}", interval(settling))
    ledger.judge(f"{key}.mine-drifts@{dataset}", interval(moved["mine"]))
    ledger.judge(f"{key}.remine-rests@{dataset}", interval(moved["remine"]))
    less = (moved["mine"] - moved["remine"]).fillna(0)  # both without limit: no reduction
    ledger.judge(f"{key}.remine-drifts-less@{dataset}", interval(less))


def _gain(plain: pd.DataFrame, twin: pd.DataFrame) -> pd.Series:
    """MI of the twin minus that of the original; a run that diverged lies below every other."""
    twin_mi, plain_mi = (runs["mi"].fillna(-np.inf) for runs in (twin, plain))
    return pd.Series(difference(twin_mi, plain_mi), plain.index)
