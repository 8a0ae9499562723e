"""Many losses as one function of a score table: what trains an ensemble in one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from remi_lib.losses import Bound, BoundOf, Loss, Number
from remi_lib.scores import Scores


def stack(losses: Sequence[Loss], device: torch.device | str = "cpu") -> BoundOf:
    """M losses as one function of a score table with leading dimension M, in any order.

    Losses that share their formula are evaluated together, with their weights, targets and
    thresholds as tensors of the table's precision, so that a dozen losses cost six calls.  Each
    member's result is what its own loss gives on its own slice.
    """
    families: dict[tuple, list[int]] = {}
    for i, loss in enumerate(losses):
        families.setdefault((loss.bound, loss.anchor, loss.clip), []).append(i)
    groups = list(families.values())

    @cache
    def merged(dtype: torch.dtype) -> list[Loss]:
        return [_merge([losses[i] for i in group], dtype, device) for group in groups]

    sizes = [len(group) for group in groups]
    order = torch.tensor([i for group in groups for i in group], device=device)
    back = order.argsort()
    sorted_already = order.tolist() == sorted(order.tolist())

    def evaluate(scores: Scores) -> Bound:
        table = [x.expand_as(scores.values) for x in scores]
        if not sorted_already:
            table = [x.index_select(0, order) for x in table]
        parts = zip(*(x.split(sizes) for x in table), strict=True)
        own = merged(scores.values.dtype)
        bounds = [loss(Scores(*part)) for loss, part in zip(own, parts, strict=True)]
        fields = [torch.cat(field) for field in zip(*bounds, strict=True)]
        return Bound(*(fields if sorted_already else (x.index_select(0, back) for x in fields)))

    return evaluate


def _merge(losses: Sequence[Loss], dtype: torch.dtype, device: torch.device | str) -> Loss:
    def column(values: Sequence[Number | None], off: float) -> Tensor | None:
        if all(value is None for value in values):
            return None
        numbers = [off if v is None else float(v) for v in values]
        return torch.tensor(numbers, dtype=dtype, device=device)

    weight = column([loss.weight for loss in losses], 0.0)
    target = column([loss.target for loss in losses], 0.0)
    assert target is not None
    tau = column([loss.tau for loss in losses], math.inf)
    return replace(losses[0], weight=weight, target=target, tau=tau)
