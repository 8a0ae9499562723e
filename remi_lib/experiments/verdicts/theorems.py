"""Verdicts of the appendix's theorems, from the tables that its notebook publishes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from remi_lib.experiments import theorems
from remi_lib.experiments.theorems import Class, Problem, noisy_channel, two_cells
from remi_lib.experiments.verdicts.common import columns_of, seeds_with
from remi_lib.losses import make_loss
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import exact

EPSILON, DELTA = 0.2, 0.05  # Theorems 3 and 4 are checked at this accuracy and failure rate


def judge_duals(
    ledger: Ledger, problems: Problem, duality: pd.DataFrame, climb: pd.DataFrame
) -> None:
    """Theorem 1 and Lemma 9, from ``check_duals`` with ``ascend_duals`` and ``one_hot_ascent``."""
    family = float(theorems.shift_gap(problems, range(-5, 6)))
    by_dual = duality.assign(dual=duality["dual"].str.lower()).groupby("dual")["gap"].max()
    parts = {**by_dual.to_dict(), "any critic above KL": duality["excess"].max(), "lemma 9": family}
    shown = {name: exact(value) for name, value in parts.items()}
    ledger.judge("thm1.duals", exact(max(parts.values())), shown)
    # The class that holds only T = 0, as any class of functions may.
    zero = torch.zeros_like(problems.p)
    at_one = make_loss("remine", weight=1.0, target=1.0)(problems.scores(zero)).objective
    ledger.judge("thm1.any-class", exact(float((problems.kl() - at_one).min())))
    middle = climb["step"].max() // 2
    ends = [
        climb.loc[climb["step"] >= at, "off_max"].iloc[0] for at in (middle, climb["step"].max())
    ]
    ledger.judge("thm1.attained", exact(ends[1] - ends[0]))


def judge_consistency(ledger: Ledger, finite: pd.DataFrame) -> None:
    """Theorem 2, from the estimates by sample size."""
    truth = float(noisy_channel(8, 0.2).kl())
    names = {loss: theorems.critics_name(loss, 4) for loss in ("remine", "renwj")}
    errors = {k: np.abs(theorems.last_errors(finite, name, truth)) for k, name in names.items()}
    ledger.judge("thm2.consistent", np.maximum(*errors.values()), errors)


def judge_samples(ledger: Ledger, draws: int) -> None:
    """Theorems 3 and 4: how often the estimate misses with as many samples as the bounds ask."""
    missed = pd.DataFrame()
    for loss, shift in (("remine", 0.0), ("renwj", 1.0)):
        fitted, critics = make_loss(loss, tau=math.inf), Class(64, 8.0, shift)
        n = critics.samples(EPSILON, DELTA)
        found = theorems.failures(noisy_channel(8, 0.2), fitted, critics, n, EPSILON, draws)
        missed[loss] = np.asarray(found, dtype=bool)
    either = seeds_with(missed, all_of_them=False)  # both have the same samples
    ledger.judge("thm34.enough", either, columns_of(missed))
    for name, constant in (("any", math.log(2) - 14), ("zero", 0.0)):
        critics = Class(2, 14.0)
        fitted = make_loss("remine", weight=1.0, target=constant)
        n = critics.samples(0.3, DELTA)
        found = theorems.failures(two_cells(14, constant), fitted, critics, n, 0.3, draws)
        ledger.judge(f"thm3.{name}-constant", np.asarray(found, dtype=bool))


def judge_variance(ledger: Ledger, variances: pd.DataFrame) -> None:
    """Theorem 5, from the sampled variances by constant.

    The logarithm's does not depend on C: its slope is 0 but for rounding, the draws being the same.
    """
    mean, log = (theorems.log_slopes(variances, name) for name in ("mean", "log"))
    ledger.judge("thm5.exponential", np.asarray(mean, dtype=float))
    ledger.judge("thm5.second-term", exact(float(np.max(np.asarray(log, dtype=float)))))


def judge_averages(ledger: Ledger, ends: pd.DataFrame) -> None:
    """Theorem 6; ``ends``: bias of the macro- and micro-averages by name, seed and ``reading``."""
    macro, micro = (
        ends[ends["reading"] == r].set_index(["name", "seed"]) for r in ("macro", "micro")
    )
    gone = {
        k: (t["bias"] - t["bias_centred"]).abs()["MINE"]
        for k, t in (("macro", macro), ("micro", micro))
    }
    ledger.judge("thm6.macro-drift", exact(gone["macro"].max()))
    ledger.judge("thm6.micro-drift", gone["micro"])


def judge_entropy(ledger: Ledger, labelled: pd.DataFrame, per_batch: float) -> None:
    """Theorems 7 and 8; ``labelled``: MI per set, the digits last, and H(Y).

    ``per_batch``: what a perfect critic reads on average of the digits' batches of 10.
    """
    gap = labelled.sub(labelled["entropy"], axis=0).drop(columns="entropy")
    worst = gap[["theorem 7", "theorem 8"]].abs().max()
    parts = {str(name): exact(value) for name, value in worst.items()}
    ledger.judge("thm78.entropy", exact(worst.max()), parts)
    ledger.judge("thm8.per-batch", exact(per_batch - labelled["entropy"].iloc[-1]))
