"""What several verdicts need: due claims of one data set, pairs of losses, the chosen lambda."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from remi_lib.experiments.image_results import at_weights, best_weight
from remi_lib.images import load_images
from remi_lib.losses import split_name
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import Evidence, with_answers, with_test_images

PAPER_WEIGHTS = (0.1, 0.01, 0.001)  # Section 5.2: the lambdas among which the paper chose


def sayer(ledger: Ledger, dataset: str) -> Callable[..., None]:
    """A function that judges ``claim@dataset`` where the ledger asks for it."""
    due = set(ledger.due())

    def say(claim: str, evidence: Any, parts: Mapping[str, Any] | None = None) -> None:
        if f"{claim}@{dataset}" in due:
            ledger.judge(f"{claim}@{dataset}", evidence, parts)

    return say


def test_images(dataset: str) -> int:
    """How many held-out images an accuracy on a data set is counted on."""
    return len(load_images(dataset).test_y)


def at_best_weight(runs: pd.DataFrame, weights: Sequence[float] = PAPER_WEIGHTS) -> pd.DataFrame:
    """The original runs, and of each regularised loss those at its lambda of best MI.

    The paper's protocol: of its three lambdas (those of ``weights`` that were run) the one whose
    ``error`` = |MI - H(Y)|, averaged over seeds, is smallest.  It is chosen on the training MI
    that is then compared, and a small lambda hardly differs from none, so it can hardly lose.
    """
    regularised = np.array([split_name(name)[1] for name in runs["loss"]])
    candidates = runs[regularised & runs["weight"].isin(weights)]
    lost = set(runs["loss"][regularised]) - set(candidates["loss"])
    if lost:
        raise ValueError(f"weights: {sorted(lost)} were run at none of {tuple(weights)}")
    return at_weights(runs, best_weight(candidates, -candidates["error"]))


def trained(runs: pd.DataFrame, families: Sequence[str]) -> list[str]:
    """The families of which neither the original nor the regularised loss failed in any seed."""
    failed = runs.groupby("loss")["failed"].any()
    return [f for f in families if not failed[f] and not failed["re" + f]]


def seeds_with(failed: pd.DataFrame, all_of_them: bool) -> np.ndarray:
    """Of a row per seed and a column per loss: the seeds at which all, or any, of them failed.

    Losses share the network's start and the batches of a seed, so that their runs are no
    independent samples of what happens; a claim about several losses counts seeds.
    """
    if failed.isna().any(axis=None):
        raise ValueError(f"failed: a run of {list(failed)} is missing at a seed")
    table = failed.to_numpy(dtype=bool)
    return table.all(1) if all_of_them else table.any(1)


def complete_seeds(runs: pd.DataFrame, losses: Sequence[str]) -> set[int]:
    """The seeds at which every one of the losses has run."""
    count = runs[runs["loss"].isin(losses)].groupby("seed")["loss"].nunique()
    return set(count.index[count == len(losses)])


def at_complete_seeds(runs: pd.DataFrame, losses: Sequence[str]) -> pd.DataFrame:
    """The runs of these losses at the seeds at which every one of them has run."""
    own = runs[runs["loss"].isin(losses)]
    return own[own["seed"].isin(complete_seeds(own, losses))]


def gains(runs: pd.DataFrame, families: Sequence[str], quantity: str) -> pd.DataFrame:
    """Regularised minus original of a quantity: a row per seed, a column per family."""
    wide = runs.pivot(index="seed", columns="loss", values=quantity)
    return pd.DataFrame({f: wide["re" + f] - wide[f] for f in families})


def accuracy_lead(
    wide: pd.DataFrame,
    losses: Sequence[str],
    others: Sequence[str],
    images: int,
    answers: pd.DataFrame | None = None,
) -> Evidence:
    """By how much some losses' mean accuracy exceeds others', with the test images' error.

    ``wide``: accuracies, a row per seed, a column per loss.  ``answers``, if known: a row per test
    image, a column per loss, the share of the seeds that get it right.
    """
    losses, others = list(losses), list(others)
    lead = wide[losses].mean(axis=1) - wide[others].mean(axis=1)
    if answers is None:
        return with_test_images(lead, [wide[losses], wide[others]], images)
    return with_answers(lead, answers[losses].mean(axis=1) - answers[others].mean(axis=1))


def accuracy_gains(
    runs: pd.DataFrame,
    families: Sequence[str],
    images: int,
    answers: pd.DataFrame | None = None,
) -> tuple[Evidence, dict[str, Evidence]]:
    """The mean gain in accuracy over families, and each family's, as :func:`accuracy_lead`."""
    wide = runs.pivot(index="seed", columns="loss", values="accuracy")

    def gain(own: Sequence[str]) -> Evidence:
        return accuracy_lead(wide, ["re" + f for f in own], own, images, answers)

    return gain(families), {f: gain([f]) for f in families}


def judge_closer(
    ledger: Ledger, dataset: str, claim: str, runs: pd.DataFrame, families: Sequence[str]
) -> None:
    """Judge by a claim whether the penalty brings the families' MI closer to H(Y).

    Where there is none the claim stays "not run".
    """
    if families:
        closer = -gains(runs, families, "error")
        sayer(ledger, dataset)(claim, closer.mean(axis=1), dict(closer))


def judge_gains(
    ledger: Ledger,
    dataset: str,
    benchmark: str,
    runs: pd.DataFrame,
    families: Sequence[str],
    answers: pd.DataFrame | None = None,
) -> None:
    """Judge what the penalty gains the families in a benchmark; nothing where there is none."""
    if not families:
        return
    say = sayer(ledger, dataset)
    judge_closer(ledger, dataset, f"table2.{benchmark}.closer", runs, families)
    better, parts = accuracy_gains(runs, families, test_images(dataset), answers)
    say(f"table2.{benchmark}.accuracy", better, parts)
    say(f"table2.{benchmark}.harmless", worst_cost(parts), parts)


def worst_cost(parts: Mapping[str, Evidence]) -> Evidence:
    """Of gains in accuracy the loss of the family whose interval reaches highest."""
    worst = min(parts.values(), key=lambda e: e.low)
    return Evidence("mean", -worst.value, -worst.high, -worst.low, worst.n)
