"""The cross-fitted reading and its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from remi_lib.estimate.fit import table_of
from remi_lib.estimate.folds import Rows
from remi_lib.estimate.pairs import PairCritic, bound_of, partners_of, shifted_pairs
from remi_lib.scores import Scores

PAIRS = 2**17  # of a fold that are read at most


@dataclass(frozen=True)
class Reading:
    """The cross-fitted value and its standard error, each seed's own value, and log K."""

    value: float
    error: float
    by_seed: tuple[float, ...]
    ceiling: float


@torch.no_grad()
def read(
    critic: PairCritic, data: Sequence[Tensor], rows: Rows, per_row: bool, alive: Tensor
) -> Reading:
    """Read every fold by the critics that did not see it.

    A fold's scores are averaged over its usable seeds, the value is the mean over folds.
    """
    size = rows.test.shape[1]
    shifts = torch.arange(min(size - 1, max(PAIRS // size, 1)) + 1)
    values = table_of(critic, data, rows.test, shifts, per_row).values
    usable = alive.to(values.device).view(rows.seeds, rows.folds)
    by_member = bound_of(per_row)(shifted_pairs(values, per_row)).mi.view(rows.seeds, rows.folds)
    by_member = by_member.where(usable, math.nan)  # a critic that never was finite says nothing
    values = values.view(rows.seeds, rows.folds, size, -1)
    weight = usable / usable.sum(0)  # NaN where a fold has no critic: then there is no estimate
    table = shifted_pairs(
        torch.where(usable[..., None, None], values, 0.0).mul(weight[..., None, None]).sum(0),
        per_row,
    )
    value = bound_of(per_row)(table).mi.mean().item()
    by_seed = by_member.nanmean(1)
    variance = influence(table, per_row).var().item() / (size * rows.folds)
    finite = by_seed[by_seed.isfinite()]
    if len(finite) > 1:
        variance += finite.var().item() / len(finite)
    return Reading(value, math.sqrt(variance), tuple(by_seed.tolist()), math.log(len(shifts)))


def influence(table: Scores, per_row: bool = False) -> Tensor:
    """What each sample adds to the bound of its table, mean 0: (..., n, 1 + others) -> (..., n).

    Its variance over n is that of the bound.  A sample enters DV once by its joint pair and
    twice by its product pairs, as x_i and as y_i: T_ii - E[T] - (w_i. + w_.i - 2) with w_i. and
    w_.i the means of e^T over its row and column, relative to the mean of all.  InfoNCE has
    log E[e^T] of the row in place of w_i., and w relative to the mean of the row.
    """
    own = table.values[..., 0]
    n, k = table.values.shape[-2:]
    met = partners_of(n, torch.arange(k, device=own.device))
    if per_row:
        share, gain = table.values.softmax(-1), own - torch.logsumexp(table.values, -1)
    else:
        share = (table.values[..., 1:] - table.log_mean_exp()[..., None, None]).exp() / (k - 1)
        met, gain = met[:, 1:], own - share.sum(-1)
    as_y = torch.zeros_like(own).index_add_(-1, met.flatten(), share.flatten(-2))
    return gain - gain.mean(-1, keepdim=True) - (as_y - 1)
