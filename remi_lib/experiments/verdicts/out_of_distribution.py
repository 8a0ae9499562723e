"""Verdicts of notebook 7: Fig 8, from the scores of every image."""

from __future__ import annotations

import numpy as np
import pandas as pd

from remi_lib.experiments.verdicts.common import sayer
from remi_lib.images import load_images
from remi_lib.replication.claims import Ledger


def judge(ledger: Ledger, name: str, scores: pd.DataFrame, areas: pd.DataFrame, far: str) -> None:
    """Judge notebook 7's claims for one data set; ``far`` is the foreign set they are about.

    ``scores``: :func:`~remi_lib.experiments.out_of_distribution.scores_of`.  ``areas``: the AUROC
    of each loss, seed, foreign set and score.
    """
    ideal, say = float(load_images(name).classes), sayer(ledger, name)
    remine = scores[scores["loss"] == "remine"]
    ratio = np.exp(remine["true"])
    remine = remine.assign(ratio=ratio, largest=np.exp(remine["largest"]))
    known = remine[remine["set"] == "train"]
    say("fig8.train-at-the-ideal", known.groupby("seed")["ratio"].median() / ideal)
    # softmax = largest / sum: the sum of e^T over the labels, less the true one's.
    wrong = known["largest"] / known["softmax"] - known["ratio"]
    say("fig8.false-pairs-at-0", (wrong < ideal / 10).groupby(known["seed"]).mean())
    held_out = remine[remine["set"] == "test"]
    near = held_out["ratio"].between(ideal / 2, 2 * ideal)
    say("fig8.test-alike", near.groupby(held_out["seed"]).mean())
    other = remine[remine["set"] == far]
    rejected = other["largest"] < ideal / 2
    say("fig8.foreign-rejected", rejected.groupby(other["seed"]).mean())
    area = areas[areas["foreign"] == far].set_index(["loss", "score", "seed"])["auroc"]
    area = area.sort_index()
    say("fig8.beats-max-softmax", area["remine", "largest"] - area["remine", "softmax"])
