"""Verdicts of notebook 07 from the critics' outputs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from remi_lib.images import load_images
from remi_lib.intervals import interval, mean_interval
from remi_lib.replication.claims import Ledger


def judge(ledger: Ledger, name: str, scores: pd.DataFrame, areas: pd.DataFrame, far: str) -> None:
    """Judge notebook 7's claims for one data set; ``far`` is the foreign set they are about."""
    ideal = float(load_images(name).classes)
    remine = scores[scores["loss"] == "remine"]
    ratio = remine.assign(ratio=np.exp(remine["true"]), largest=np.exp(remine["largest"]))
    known = ratio[ratio["set"] == "train"].groupby("seed")["ratio"].median() / ideal
    ledger.judge(f"fig8.train-at-the-ideal@{name}", mean_interval(known))
    held_out = ratio[ratio["set"] == "test"]
    near = held_out["ratio"].between(ideal / 2, 2 * ideal).groupby(held_out["seed"]).mean()
    ledger.judge(f"fig8.test-alike@{name}", mean_interval(near))
    other = ratio[ratio["set"] == far]
    rejected = (other["largest"] < ideal / 2).groupby(other["seed"]).mean()
    ledger.judge(f"fig8.foreign-rejected@{name}", mean_interval(rejected))
    area = areas[areas["foreign"] == far].set_index(["loss", "score", "seed"])["auroc"]
    area = area.sort_index()
    gain = area["remine", "largest"] - area["remine", "softmax"]
    ledger.judge(f"fig8.beats-max-softmax@{name}", interval(gain))
    gain = area["remine", "largest"] - area["infonce", "largest"]
    ledger.judge(f"fig8.beats-infonce@{name}", interval(gain))
