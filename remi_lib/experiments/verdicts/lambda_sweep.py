"""Verdicts of notebook 05 from the runs of the lambda sweep and its two controls."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from scipy.stats import spearmanr

from remi_lib.experiments.benchmark import accuracy_or_guess, failed, mi_error
from remi_lib.experiments.lambda_sweep import FAILING, family_of
from remi_lib.intervals import difference, fraction_interval, interval
from remi_lib.replication.claims import Ledger


def _per_seed(runs: pd.DataFrame, statistic) -> pd.Series:
    """A statistic of each (seed, loss) over lambda, averaged over losses: one value per seed."""
    by = runs.groupby(["seed", "loss"])[["mi", "accuracy"]].apply(statistic)
    return by.groupby("seed").mean()


def _rank_correlation(frame: pd.DataFrame) -> float:
    """Spearman's correlation of MI and accuracy; 0 where one of them does not move at all."""
    if frame["mi"].nunique() == 1 or frame["accuracy"].nunique() == 1:
        return 0.0
    return float(spearmanr(frame["mi"], frame["accuracy"]).statistic)


def judge(
    ledger: Ledger,
    swept: pd.DataFrame,
    squares: Mapping[str, pd.DataFrame],
    scaled: Mapping[str, pd.DataFrame],
) -> None:
    """Judge every claim of notebook 5 that is due, from the runs alone."""
    for name in ledger.datasets:
        runs = swept[swept["dataset"] == name]
        runs = runs.assign(accuracy=accuracy_or_guess(runs))
        correlation = _per_seed(runs, _rank_correlation)
        spread = _per_seed(runs, lambda f: f["accuracy"].max() - f["accuracy"].min())
        ledger.judge(f"fig6.trade-off@{name}", interval(correlation))
        ledger.judge(f"fig6.accuracy-hardly-moves@{name}", interval(spread))
        best = runs.assign(error=mi_error(runs)).groupby(["loss", "seed"])["error"].min()
        others = best.drop(index=["remine", "resmile"], level="loss").groupby("seed").min()
        for loss in ("remine", "resmile"):
            ahead = difference(others, best[loss])
            ledger.judge(f"fig6.{loss}.best-mi@{name}", interval(ahead))
        moved = runs.groupby(["loss", "seed"])["accuracy"].agg(lambda x: x.max() - x.min())
        rest = moved.drop(index="reinfonce", level="loss").groupby("seed").mean()
        ledger.judge(f"fig6.reinfonce.stable@{name}", interval(rest - moved["reinfonce"]))
        _judge_ablation(ledger, name, squares, scaled)


def _judge_ablation(
    ledger: Ledger,
    name: str,
    squares: Mapping[str, pd.DataFrame],
    scaled: Mapping[str, pd.DataFrame],
) -> None:
    def share(cells: Mapping[str, pd.DataFrame], setting: str, family: str, twin: bool | None):
        runs = cells[setting]
        runs = runs[(runs["dataset"] == name) & (family_of(runs) == family)]
        if twin is not None:
            runs = runs[runs["loss"].str.startswith("re") == twin]
        return fraction_interval(failed(runs))

    for family in FAILING:
        key = f"ablation.{family}"
        ledger.judge(f"{key}.clip-alone@{name}", share(squares, "clip", family, None))
        ledger.judge(f"{key}.both@{name}", share(squares, "both", family, None))
        ledger.judge(f"{key}.scaled@{name}", share(scaled, "divided by √d", family, False))
        runs = scaled["divided by √d"]
        runs = runs.assign(accuracy=accuracy_or_guess(runs))
        own = runs[runs["dataset"] == name].set_index(["loss", "seed"])["accuracy"]
        ledger.judge(f"{key}.penalty-adds@{name}", interval(own["re" + family] - own[family]))
    for family in ("nwj", "tuba"):
        key = f"ablation.{family}.penalty-alone@{name}"
        ledger.judge(key, share(squares, "penalty", family, None))
