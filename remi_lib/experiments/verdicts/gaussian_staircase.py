"""Verdicts of notebook 06 from its tables of errors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from remi_lib.experiments.gaussian_staircase import READINGS, differences, js_readings
from remi_lib.intervals import Estimate, difference, interval, median_interval
from remi_lib.losses import FAMILIES
from remi_lib.replication.claims import Ledger


def judge(
    ledger: Ledger,
    dataset: str,
    errors_of: Mapping[str, pd.DataFrame],
    terms: pd.DataFrame,
    batch: int,
) -> None:
    """Judge every claim of notebook 6 from its tables of errors and the history of the twelve.

    ``errors_of``: "learned" and "oracle" (the twelve), "js" (with ``reading``), "extra" (with
    ``name``) and "bent" (the transformed task), each as :func:`errors` gives it.
    """
    learned, exact, bent = (errors_of[key] for key in ("learned", "oracle", "bent"))
    top = learned["true_mi"].max()
    at_top = learned[learned["true_mi"] == top].set_index(["loss", "seed"])
    exact_top = exact[exact["true_mi"] == top].set_index(["loss", "seed"])

    def say(key: str, estimate: Estimate) -> None:
        ledger.judge(f"fig7.{key}@{dataset}", estimate)

    gains, bent_gains = differences(learned, "rmse"), differences(bent, "rmse")
    for family in FAMILIES:
        say(f"{family}.rmse", interval(gains[family]))
        if family != "infonce":
            ratio = np.log(at_top.loc[family]["sd"] / at_top.loc["re" + family]["sd"])
            say(f"{family}.sd-at-the-top", interval(ratio.fillna(np.inf)))
        if family not in ("infonce", "js"):
            say(f"cubic.{family}", interval(bent_gains[family]))
    say("mine.rmse-at-the-top", median_interval(at_top.loc["mine"]["rmse"]))
    reached = (at_top.loc["infonce"]["bias"] + top) / math.log(batch)
    say("infonce.saturates", interval(reached))
    readings = errors_of["js"]
    raw = js_readings(terms[terms["loss"] == "js"]).query("reading == @READINGS['raw']")
    say("js.raw-curve-is-negative", interval(raw.groupby("seed")["mi"].max()))
    shifted = readings[readings["reading"] == READINGS["shifted"]]
    mean = shifted.groupby(["loss", "seed"])["rmse"].mean()
    say("js.same-reading", interval(difference(mean["js"], mean["rejs"])))
    say("nwj.failure-is-the-bounds", median_interval(exact_top.loc["nwj"]["rmse"]))
    gap = at_top.loc["remine"]["bias"] - exact_top.loc["remine"]["bias"]
    say("remine.gap-is-the-trainings", interval(gap))
    extra = errors_of["extra"].groupby(["name", "seed"])["rmse"].mean()["NWJ, clipped"]
    twin = learned.groupby(["loss", "seed"])["rmse"].mean()["renwj"]
    say("clip-alone.nwj", interval((extra - twin).dropna()))
