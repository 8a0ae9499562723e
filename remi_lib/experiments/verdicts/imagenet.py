"""Verdicts of notebook 8: Fig 9 and Table 3, from the table of its runs."""

from __future__ import annotations

import pandas as pd

from remi_lib.experiments.image_results import failed
from remi_lib.experiments.verdicts.common import columns_of, sayer
from remi_lib.replication.claims import Ledger

PAIRS = (("slb", "mine"), ("slb", "nwj"), ("clb", "mine"))  # NWJ explodes in CLB


def judge(ledger: Ledger, runs: pd.DataFrame, classes: int) -> None:
    """Judge every claim of notebook 8 that is due, from ``table3.per_run`` alone."""
    runs = runs.assign(
        failed=failed(runs),
        # A network of NaNs calls every picture the first class.
        guess=runs["accuracy"].fillna(1 / classes),
        exploded=runs["diverged_step"] < 100,
    )
    wide = runs.pivot(index="seed", columns=["benchmark", "loss"])
    nwj, renwj = wide["exploded", "clb", "nwj"], wide["failed", "clb", "renwj"]
    for dataset in ledger.datasets:
        say = sayer(ledger, dataset)
        say("fig9.clb.nwj-explodes", nwj.dropna())
        say("fig9.clb.renwj-trains", renwj.dropna())
        gain = pd.DataFrame(
            {f"{b} {f}": wide["guess", b, "re" + f] - wide["guess", b, f] for b, f in PAIRS}
        ).astype(float)
        say("table3.accuracy", gain.mean(axis=1), columns_of(gain))
