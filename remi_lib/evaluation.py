"""What a trained critic is worth: sufficient statistics of a batch, averages, accuracies.

A batch is remembered by a handful of numbers (:class:`BatchStatistics`).  Every reading of MI,
per batch, averaged or pooled, is computed from them, so no table needs a second training run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from remi_lib.losses import Terms
from remi_lib.scores import Scores, inner_products, logsumexp, one_for_each, single_row


class BatchStatistics(NamedTuple):
    """What a table of scores says of MI, each (...), in nats but for the count.

    ``pairs``: number of joint cells.  ``joint``: E_P[T].  ``log_partition``: log E_Q[e^T].
    ``row_term``: mean over joint pairs of the log-mean-exp of their row (InfoNCE).
    """

    pairs: Tensor
    joint: Tensor
    log_partition: Tensor
    row_term: Tensor


def batch_statistics(scores: Scores) -> BatchStatistics:
    """The sufficient statistics of each table (..., R, K)."""
    pairs = (scores.log_joint > -math.inf).sum((-2, -1)).expand(scores.values.shape[:-2])
    return BatchStatistics(
        pairs, scores.joint_mean(), scores.log_mean_exp(), scores.row_log_mean_exp()
    )


def all_pairs_statistics(
    embeddings: Tensor, labels: Tensor, tau: Tensor, block: int = 1024
) -> BatchStatistics:
    """Statistics of CLB's table over *all* ordered pairs of a split, in blocks of rows.

    ``embeddings`` (..., N, d), ``labels`` (N,), ``tau`` (...) clips the scores (inf: not at
    all).  Equal to ``batch_statistics(same_label_pairs(embeddings, labels).clip(tau))`` without
    ever holding the N x N table.
    """
    n = embeddings.shape[-2]
    limit = tau[..., None, None]
    joint, rows, partitions = [], [], []
    index = torch.arange(n, device=embeddings.device)
    for start in range(0, n, block):
        here = slice(start, start + block)
        t = inner_products(embeddings[..., here, :], embeddings).clamp(-limit, limit)
        other = index[here, None] != index
        same = (labels[here, None] == labels) & other
        # Left out, not multiplied by 0: an infinite score elsewhere would be NaN.
        joint.append(t.masked_fill(~same, 0.0).sum((-2, -1)))
        partition = logsumexp(t.masked_fill(~other, -math.inf), -1)
        own = same.sum(-1)
        rows.append((partition.masked_fill(own == 0, 0.0) * own).sum(-1))
        partitions.append(partition)
    counts = torch.bincount(labels)
    pairs = (counts * (counts - 1)).sum()
    any_pairs = pairs.clamp(min=1)  # without a joint pair the means over them are 0
    return BatchStatistics(
        pairs.expand(tau.shape),
        torch.stack(joint).sum(0) / any_pairs,
        logsumexp(torch.cat(partitions, -1), -1) - math.log(n * (n - 1)),
        torch.stack(rows).sum(0) / any_pairs - math.log(n - 1) * (pairs > 0),
    )


def pooled(joint: Tensor, log_partition: Tensor, pairs: Tensor | None = None) -> Scores:
    """Batches (..., n) pooled into one table, for the micro-averaged estimate of a bound.

    The pool's E_P[T] is the mean of the batches' (weighted by their number of joint ``pairs``)
    and its log E_Q[e^T] the log-mean of their partition functions.  A table with these two terms
    is a single joint cell beside a single product cell, so a bound reads it as it reads a batch.
    """
    weight = torch.ones_like(joint) if pairs is None else pairs.to(joint.dtype)
    mean = (joint * weight).sum(-1) / weight.sum(-1)
    second = logsumexp(log_partition, -1) - math.log(log_partition.shape[-1])
    return single_row(mean.unsqueeze(-1), second.unsqueeze(-1))


def micro(
    bound: Callable[[Scores], Terms],
    joint: Tensor,
    log_partition: Tensor,
    pairs: Tensor | None = None,
) -> Tensor:
    """One estimate from all batches pooled (Section 4, micro-averaging): (..., n) -> (...).

    Not for InfoNCE, which has a second term per row and none per pool.
    """
    return bound(pooled(joint, log_partition, pairs)).mi


def windowed(
    bound: Callable[[Scores], Terms],
    joint: Tensor,
    log_partition: Tensor,
    window: int,
) -> Tensor:
    """Mean over windows of ``window`` batches of each window's pooled estimate: (..., n) -> (...).

    Window 1 is macro-averaging, window n micro-averaging.  A last, incomplete window is left out.
    """
    if not 1 <= window <= joint.shape[-1]:
        raise ValueError(f"window: {window} does not fit {joint.shape[-1]} batches")
    count = joint.shape[-1] // window

    def cut(x: Tensor) -> Tensor:
        return x[..., : count * window].unflatten(-1, (count, window))

    return micro(bound, cut(joint), cut(log_partition)).mean(-1)


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """SLB: fraction of rows whose largest logit is the label's; (..., B, K), (B,) -> (...).

    A row with a logit that is not finite counts as wrong.

    Raises ValueError for labels that are not one for each row.
    """
    one_for_each("labels", labels, logits, "logits")
    right = (logits.argmax(-1) == labels) & logits.isfinite().all(-1)
    return right.double().mean(-1)


def neighbour_accuracy(
    queries: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, block: int = 2048
) -> Tensor:
    """CLB: label of the training image with the largest inner product, (..., n, d) -> (...).

    Labels (..., n) and (..., N).  The (n, N) product table is taken in blocks of queries.  A query
    with a non-finite score counts as wrong.

    Raises ValueError for labels that are not one for each row.
    """
    one_for_each("labels", labels, queries, "queries")
    one_for_each("bank_labels", bank_labels, bank, "bank")
    right = []
    for start in range(0, queries.shape[-2], block):
        t = queries[..., start : start + block, :] @ bank.mT
        known = bank_labels.expand(*t.shape[:-2], -1)
        guess = known.gather(-1, t.argmax(-1))
        right.append((guess == labels[..., start : start + block]) & t.isfinite().all(-1))
    return torch.cat(right, -1).double().mean(-1)
