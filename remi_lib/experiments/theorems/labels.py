"""Theorems 7 and 8: the MI of both benchmarks is H(Y)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import gammaln
from torch import Tensor

from remi_lib.experiments.theorems.finite import Problem, of_joint
from remi_lib.streams import numpy_generator


def entropy(labels: Tensor) -> float:
    """H(Y) of the empirical label distribution, in nats."""
    p = torch.bincount(labels).double() / len(labels)
    return float(torch.special.entr(p).sum())


def random_labels(samples: int, classes: int, seed: int) -> Tensor:
    """Labels of an unbalanced set: class shares uniform on the simplex, two samples at least."""
    stream = numpy_generator(seed, "labels")
    drawn = stream.choice(classes, samples, p=stream.dirichlet(np.ones(classes)))
    kept = np.concatenate([np.repeat(np.arange(classes), 2), drawn[2 * classes :]])
    return torch.from_numpy(kept)


def supervised_problem(labels: Tensor) -> Problem:
    """Theorem 7: a sample drawn uniformly, and its label; cells are samples x classes."""
    joint = torch.nn.functional.one_hot(labels).double() / len(labels)
    return of_joint(joint)


def benchmark_supervised_problem(labels: Tensor) -> Problem:
    """The two measures that SLB scores: true-label cells, and all samples x classes evenly."""
    joint = supervised_problem(labels).p
    return Problem(joint, torch.full_like(joint, 1 / joint.numel()))


def contrastive_problem(labels: Tensor) -> Problem:
    """Theorem 8: X drawn uniformly, X' uniformly among the samples with X's label (X included)."""
    same = (labels[:, None] == labels).double()
    return of_joint(same / same.sum(-1, keepdim=True) / len(labels))


def benchmark_contrastive_problem(labels: Tensor) -> Problem:
    """The two measures that CLB scores: same-label pairs of distinct samples, and all of them."""
    distinct = 1 - torch.eye(len(labels), dtype=torch.float64)
    same = (labels[:, None] == labels) * distinct
    return Problem(same / same.sum(), distinct / distinct.sum())


def pair_information(class_counts: Sequence[int]) -> float:
    """KL between same-label pairs of distinct samples and all of them: log(N (N-1) / J), nats.

    J = sum n (n-1) over classes; with n samples in every class it is log((N-1) / (n-1)).
    """
    total = sum(class_counts)
    return math.log(total * (total - 1) / sum(n * (n - 1) for n in class_counts))


def batch_law(class_counts: Sequence[int], batch: int) -> pd.DataFrame:
    """Exact law of J, the ordered same-label pairs of a batch drawn without replacement.

    ``reading``: what a perfect critic's DV reads of such a batch, log(B (B-1) / J).  Numbers of one
    class in a batch that are rarer than 1e-16 are left out.
    """
    counts = [int(c) for c in class_counts]
    if not 2 <= batch <= sum(counts):
        raise ValueError(f"batch: {batch} is not allowed; from 2 to {sum(counts)}, the set's size")
    most = batch * (batch - 1) // 2
    # state[b, j]: probability that the classes so far gave b of the batch, with j unordered pairs.
    state = np.zeros((batch + 1, most + 1))
    state[0, 0] = 1.0
    left = sum(counts)
    for count in counts:
        left -= count
        reached = np.zeros_like(state)
        for taken in range(batch + 1):
            if not state[taken].any():
                continue
            weights = _hypergeometric(count, left, batch - taken)
            for c in np.flatnonzero(weights > 1e-16):
                pairs = c * (c - 1) // 2
                reached[taken + c, pairs:] += weights[c] * state[taken, : most + 1 - pairs]
        state = reached
    law = state[batch]
    kept = np.flatnonzero(law > 0)
    with np.errstate(divide="ignore"):
        reading = np.log(batch * (batch - 1)) - np.log(2.0 * kept)
    return pd.DataFrame({"pairs": 2 * kept, "probability": law[kept], "reading": reading})


def _hypergeometric(count: int, other: int, drawn: int) -> np.ndarray:
    """P(c of ``drawn`` come from ``count`` items and the rest from ``other``), c = 0 ... drawn."""
    c = np.arange(drawn + 1)
    possible = (c <= count) & (drawn - c <= other)

    def log_choose(n: int, k: np.ndarray) -> np.ndarray:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    total = log_choose(count + other, np.array(drawn))
    kept = c[possible]
    law = np.zeros(drawn + 1)
    law[kept] = np.exp(log_choose(count, kept) + log_choose(other, drawn - kept) - total)
    return law


class BatchReading(NamedTuple):
    """A perfect critic's CLB reading over batches that have a pair: mean, SD, and P(J = 0)."""

    mean: float
    sd: float
    empty: float


def batch_reading(law: pd.DataFrame) -> BatchReading:
    """Mean and SD of log(B (B-1) / J) given J > 0, and the probability of J = 0."""
    some = law[law["pairs"] > 0]
    share = some["probability"] / some["probability"].sum()
    mean = float((share * some["reading"]).sum())
    variance = float((share * (some["reading"] - mean) ** 2).sum())
    return BatchReading(mean, math.sqrt(variance), float(1 - some["probability"].sum()))


def labelled_sets(sets: Mapping[str, Tensor]) -> pd.DataFrame:
    """H(Y) and the KL of the theorems' pairs and of the code's, a row per labelled set (nats)."""
    problems = {
        "theorem 7": supervised_problem,
        "theorem 8": contrastive_problem,
        "SLB pairs": benchmark_supervised_problem,
        "CLB pairs": benchmark_contrastive_problem,
    }
    rows = {
        name: {"entropy": entropy(labels)}
        | {key: problem(labels).kl().item() for key, problem in problems.items()}
        for name, labels in sets.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("set")


def batch_table(settings: Mapping[str, tuple[Sequence[int], int]]) -> pd.DataFrame:
    """What a perfect critic reads of (class counts, batch size): all pairs, and over batches."""
    rows = {}
    for name, (counts, batch) in settings.items():
        reading = batch_reading(batch_law(counts, batch))
        rows[name, batch] = [pair_information(counts), *reading]
    columns = ["all pairs", "mean per batch", "SD over batches", "P(J = 0)"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["class counts of", "batch"])
    return frame
