"""Verdicts of notebook 8: Fig 9 and Table 3, from the table of its runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from remi_lib.experiments.image_results import failed
from remi_lib.experiments.verdicts.common import accuracy_lead, sayer
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import Evidence, with_test_images

PAIRS = (("slb", "mine"), ("slb", "nwj"), ("clb", "mine"))  # NWJ explodes in CLB
SLB = ("mine", "remine", "nwj", "renwj")
ORIGINALS = ("mine", "nwj")


def judge(ledger: Ledger, runs: pd.DataFrame, classes: int, images: int) -> None:
    """Judge every claim of notebook 8 that is due, from ``table3.per_run`` alone.

    What is said of a loss counts the seeds at which it ran, the penalty's gain in accuracy those of
    all of :data:`PAIRS`.  ``images``: how many pictures an accuracy is counted on.
    """
    runs = runs.assign(
        failed=failed(runs),
        # A network of NaNs calls every picture the first class.
        guess=runs["accuracy"].fillna(1 / classes),
        exploded=runs["diverged_step"] < 100,
        mi=runs["mi"].fillna(0.0),
    )
    wide = runs.pivot(index="seed", columns=["benchmark", "loss"]).sort_index(axis=1)
    nwj, renwj = wide["exploded", "clb", "nwj"], wide["failed", "clb", "renwj"]
    moved = wide["drift", "slb"][["mine", "remine"]].dropna().abs()
    share = wide["mi"] / math.log(classes)
    slb, clb = share["slb"][list(SLB)].dropna(), share["clb"][["mine", "remine"]].dropna()
    needed = [(b, regular + f) for b, f in PAIRS for regular in ("", "re")]
    guess = wide["guess"][needed].dropna().astype(float)  # the seeds at which all of them ran
    supervised = wide["guess", "slb"].reindex(columns=["infonce", *ORIGINALS]).dropna()

    def lead(losses: Sequence[str]) -> Evidence:
        return accuracy_lead(supervised.astype(float), losses, ["infonce"], images)

    for dataset in ledger.datasets:
        say = sayer(ledger, dataset)
        say("fig9.slb.drift", moved["mine"] - moved["remine"], dict(moved))
        say("fig9.slb.far-enough", slb.mean(axis=1), dict(slb))
        say("fig9.clb.far-enough", clb.mean(axis=1), dict(clb))
        say("fig9.clb.renwj-feasible", wide["mi", "clb", "renwj"].dropna())
        say("fig9.clb.nwj-explodes", nwj.dropna())
        say("fig9.clb.renwj-trains", renwj.dropna())
        if len(supervised) > 1:  # cross-entropy trained beside the others
            say("table3.beats-ce", lead(ORIGINALS), {loss: lead([loss]) for loss in ORIGINALS})
        pairs = {f"{b} {f}": (guess[b, "re" + f], guess[b, f]) for b, f in PAIRS}
        gain = pd.DataFrame({key: ours - bare for key, (ours, bare) in pairs.items()})
        parts = {key: with_test_images(gain[key], pair, images) for key, pair in pairs.items()}
        every = list(zip(*pairs.values(), strict=True))
        say("table3.accuracy", with_test_images(gain.mean(axis=1), every, images), parts)
