"""Verdicts of notebook 6: Fig 7, from its tables of errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from remi_lib.experiments.gaussian_staircase import READINGS
from remi_lib.experiments.verdicts.common import sayer
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import exact

EXCEPTION = "infonce"  # of the paper's "clear superiority, with the exception of"
FAMILIES = ("mine", "smile", "nwj", "tuba", "js")  # the others
WORST = math.log(10)  # a level on which a run diverged counts as ten times worse


def log_ratio(first: pd.Series, second: pd.Series) -> pd.Series:
    """log(first / second), at most :data:`WORST` either way; 0 where both are infinite."""
    first, second = first.align(second)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(first / second)
    # Two runs of which none lived on a level do not differ there.
    return ratio.mask(np.isinf(first) & np.isinf(second), 0.0).clip(-WORST, WORST)


def ratios(errors: pd.DataFrame, first: str, second: str, quantity: str = "rmse") -> pd.Series:
    """The log ratio of two losses' errors, mean over the levels: a value per seed."""
    by = errors.assign(**{quantity: errors[quantity].fillna(np.inf)})
    by = by.set_index(["loss", "seed", "true_mi"])[quantity]
    return log_ratio(by[first], by[second]).groupby("seed").mean()


def judge(ledger: Ledger, dataset: str, errors_of: Mapping[str, pd.DataFrame]) -> None:
    """Judge every claim of notebook 6 that is due, for the staircase named ``dataset``.

    ``errors_of``: "learned" (the twelve), "js", "clipped" (clip-only NWJ), "bent" (transformed).
    """
    learned = errors_of["learned"]
    judge_twelve(ledger, dataset, learned)
    say = sayer(ledger, dataset)
    cubic = gains(errors_of["bent"], FAMILIES[:4], "rmse")
    say("fig7.cubic", cubic.mean(axis=1), dict(cubic))
    judge_js(ledger, dataset, errors_of["js"])
    judge_clip_alone(ledger, dataset, learned, errors_of["clipped"])


def gains(errors: pd.DataFrame, families: Sequence[str], quantity: str) -> pd.DataFrame:
    """:func:`ratios` of originals and regularised forms: a row per seed, a column per family."""
    return pd.DataFrame({f: ratios(errors, f, "re" + f, quantity) for f in families})


def judge_twelve(ledger: Ledger, dataset: str, learned: pd.DataFrame) -> None:
    """Judge what the paper's twelve losses decide."""
    at_top = learned[learned["true_mi"] == learned["true_mi"].max()]
    say = sayer(ledger, dataset)
    gain = gains(learned, (*FAMILIES, EXCEPTION), "rmse")
    say("fig7.rmse", gain[list(FAMILIES)].mean(axis=1), dict(gain))
    say("fig7.js.as-the-paper-reads", gain["js"])
    steadier = gains(at_top, (*FAMILIES, EXCEPTION), "sd")
    say("fig7.sd", steadier[list(FAMILIES)].mean(axis=1), dict(steadier))


def judge_js(ledger: Ledger, dataset: str, readings: pd.DataFrame) -> None:
    """Judge the ways to read JS and ReJS."""
    say = sayer(ledger, dataset)
    shifted = readings[readings["reading"] == READINGS["shifted"]]
    say("fig7.js.same-reading", ratios(shifted, "js", "rejs"))
    raw = readings[(readings["reading"] == READINGS["raw"]) & (readings["loss"] == "js")]
    say("fig7.js.raw-curve-is-negative", exact((raw["bias"] + raw["true_mi"]).max()))


def judge_clip_alone(
    ledger: Ledger, dataset: str, learned: pd.DataFrame, clipped: pd.DataFrame
) -> None:
    """Judge clip-only NWJ beside ReNWJ, on the seeds of the former."""
    both = pd.concat([clipped.assign(loss="clipped"), learned[learned["loss"] == "renwj"]])
    both = both[both["seed"].isin(clipped["seed"])]
    sayer(ledger, dataset)("fig7.clip-alone", ratios(both, "clipped", "renwj"))
