"""Verdicts of notebook 8: Fig 9 and Table 3, from the table of its runs."""

from __future__ import annotations

import pandas as pd

from remi_lib.experiments.image_results import failed
from remi_lib.experiments.verdicts.common import columns_of, sayer
from remi_lib.replication.claims import Ledger

PAIRS = (("slb", "mine"), ("slb", "nwj"), ("clb", "mine"))  # NWJ explodes in CLB
CONTENDERS = ["mine", "remine", "nwj", "renwj"]  # against cross-entropy, which is InfoNCE


def judge(ledger: Ledger, runs: pd.DataFrame, entropy: float, classes: int) -> None:
    """Judge every claim of notebook 8 that is due, from ``table3.per_run`` alone."""
    runs = runs.assign(
        failed=failed(runs),
        # A network of NaNs calls every picture the first class.
        guess=runs["accuracy"].fillna(1 / classes),
        exploded=runs["diverged_step"] < 100,
    )
    wide = runs.pivot(index="seed", columns=["benchmark", "loss"])
    for dataset in ledger.datasets:
        say = sayer(ledger, dataset)
        say("fig9.slb.mine-drifts", wide["drift", "slb", "mine"].abs())
        say("fig9.slb.mine-estimate-settles", wide["settling", "slb", "mine"].abs())
        rest = pd.DataFrame({b: wide["drift", b, "remine"].abs() for b in ("slb", "clb")})
        say("fig9.remine-rests", rest.max(axis=1), columns_of(rest))
        say("fig9.clb.nwj-explodes", wide["exploded", "clb", "nwj"].astype(bool))
        say("fig9.clb.renwj-trains", wide["failed", "clb", "renwj"].astype(bool))
        mi = wide["mi"]["slb"][CONTENDERS].fillna(0.0)  # a loss that diverged reads no MI
        say("table3.slb.close-to-optimal", mi.min(axis=1) / entropy, columns_of(mi / entropy))
        ahead = wide["guess"]["slb"][CONTENDERS].sub(wide["guess", "slb", "infonce"], axis=0)
        say("table3.slb.beats-ce", ahead.mean(axis=1), columns_of(ahead))
        for claim, quantity in (("table3.more-mi", "mi"), ("table3.accuracy", "guess")):
            gain = pd.DataFrame(
                {
                    f"{b} {f}": (wide[quantity, b, "re" + f] - wide[quantity, b, f]).astype(float)
                    for b, f in PAIRS
                }
            ).dropna(axis="columns")
            say(claim, gain.mean(axis=1), columns_of(gain))
