"""Verdicts of the appendix's theorems, from tables of notebooks 9 and 13 or from own draws."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from remi_lib.experiments import theorems
from remi_lib.experiments.theorems import Class, Problem, noisy_channel, two_cells
from remi_lib.experiments.verdicts.common import seeds_with
from remi_lib.losses import Loss, make_loss
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

    def missed(problem: Problem, loss: Loss, critics: Class, epsilon: float) -> np.ndarray:
        n = critics.samples(epsilon, DELTA)
        return theorems.failures(problem, loss, critics, n, epsilon, draws)

    both = pd.DataFrame()
    for name, shift in (("remine", 0.0), ("renwj", 1.0)):
        loss, critics = make_loss(name, tau=math.inf), Class(64, 8.0, shift)
        both[name] = missed(noisy_channel(8, 0.2), loss, critics, EPSILON)
    either = seeds_with(both, all_of_them=False)  # both have the same samples
    ledger.judge("thm34.enough", either, dict(both))
    for name, constant in (("any", math.log(2) - 14), ("zero", 0.0)):
        loss = make_loss("remine", weight=1.0, target=constant)
        found = missed(two_cells(14, constant), loss, Class(2, 14.0), 0.3)
        ledger.judge(f"thm3.{name}-constant", found)


def judge_variance(ledger: Ledger, variances: pd.DataFrame) -> None:
    """Theorem 5, from the sampled variances by constant.

    The logarithm's does not depend on C: its slope is 0 but for rounding, the draws being the same.
    """
    mean, log = (theorems.log_slopes(variances, name) for name in ("mean", "log"))
    ledger.judge("thm5.exponential", mean)
    ledger.judge("thm5.second-term", exact(log.max()))


def judge_averages(ledger: Ledger, ends: pd.DataFrame) -> None:
    """Theorem 6; ``ends``: bias of the macro- and micro-averages by name, seed and ``reading``."""
    by = ends[ends["name"] == "MINE"].set_index(["reading", "seed"])
    gone = (by["bias"] - by["bias_centred"]).abs()
    ledger.judge("thm6.macro-drift", exact(gone["macro"].max()))
    ledger.judge("thm6.micro-drift", gone["micro"])


def judge_entropy(ledger: Ledger, labelled: pd.DataFrame, per_batch: float) -> None:
    """Theorems 7 and 8; ``per_batch``: what a perfect critic reads of the digits' batches."""
    gap = labelled.sub(labelled["entropy"], axis=0).drop(columns="entropy")
    worst = gap[["theorem 7", "theorem 8"]].abs().max()
    parts = {str(name): exact(value) for name, value in worst.items()}
    ledger.judge("thm78.entropy", exact(worst.max()), parts)
    ledger.judge("thm8.per-batch", exact(per_batch - labelled["entropy"].iloc[-1]))
