"""Verdicts of notebook 04 from the runs of Table 2."""

from __future__ import annotations

import numpy as np
import pandas as pd

from remi_lib.experiments.benchmark import (
    accuracy_or_guess,
    failed,
    mi_error,
    paired,
    per_run,
    shifted_js,
)
from remi_lib.experiments.sweep import Results
from remi_lib.images import load_images
from remi_lib.intervals import difference, fraction_interval, interval
from remi_lib.losses import FAMILIES, LOSSES
from remi_lib.replication.claims import Ledger


def judge(
    ledger: Ledger, main: Results, variants: Results, optima: pd.Series, rejs_zero: float = 0.0
) -> None:
    """Judge every claim of notebook 4 that is due, from the runs alone.

    ``variants`` holds the ReJS runs at other targets than the main ones.
    """
    runs = per_run(main)
    runs = runs[runs["loss"].isin(LOSSES)]  # the paper's claims are about the paper's losses
    runs["error"], runs["failed"] = mi_error(runs), failed(runs)
    runs["accuracy"] = accuracy_or_guess(runs)
    runs["shifted"] = shifted_js(main)
    other = per_run(variants).query("target == @rejs_zero")
    for name in ledger.datasets:
        entropy = load_images(name).entropy
        own = runs[runs["dataset"] == name].set_index(["benchmark", "loss", "seed"]).sort_index()
        for benchmark in ("slb", "clb"):
            cell = own.loc[benchmark]
            for family in FAMILIES:
                plain, twin = cell.loc[family], cell.loc["re" + family]
                key = f"table2.{benchmark}.{family}"
                closer = difference(plain["error"], twin["error"])
                better = twin["accuracy"] - plain["accuracy"]
                ledger.judge(f"{key}.mi@{name}", interval(closer))
                ledger.judge(f"{key}.accuracy@{name}", interval(better))
        slb, clb = own.loc["slb"], own.loc["clb"]
        for family in ("smile", "nwj", "tuba"):
            key, twin = f"table2.clb.{family}", clb.loc["re" + family]
            ledger.judge(f"{key}.fails@{name}", fraction_interval(clb.loc[family]["failed"]))
            ledger.judge(f"{key}.rescued@{name}", fraction_interval(twin["failed"]))
            ahead = twin["accuracy"] - clb.loc["infonce"]["accuracy"]
            ledger.judge(f"{key}.competitive@{name}", interval(ahead))
        for family in ("mine", "smile", "nwj", "tuba"):
            ahead = slb.loc[family]["accuracy"] - slb.loc["infonce"]["accuracy"]
            ledger.judge(f"table2.slb.{family}.beats-infonce@{name}", interval(ahead))
        cost = (-paired(runs[runs["dataset"] == name], "accuracy")).max(axis=0)
        ledger.judge(f"table2.harmless@{name}", interval(cost))
        js = slb.loc["js"]
        ledger.judge(f"quirk1.js-low-by-1/e@{name}", interval(js["mi"] - entropy + np.exp(-1)))
        ledger.judge(f"quirk1.js-read-at-t+1@{name}", interval(js["shifted"] - entropy))
        zero = other[(other["dataset"] == name) & (other["benchmark"] == "slb")].set_index("seed")
        ledger.judge(f"quirk2.rejs-target@{name}", interval(slb.loc["rejs"]["mi"] - zero["mi"]))
        for loss in ("infonce", "js", "renwj", "retuba"):
            gap = (clb.loc[loss]["mi"] - optima[name, "clb", loss]).abs().fillna(np.inf)
            ledger.judge(f"quirk7.clb-ceiling.{loss}@{name}", interval(gap))
