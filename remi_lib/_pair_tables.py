"""The score tables of :mod:`remi_lib.nn` in the memory of one table.

A :class:`~remi_lib.scores.Scores` carries the log-mass of every cell under two measures, and each
reading of it makes tables of its own: right for small tables of any kind, and four times what a
cross-entropy takes where a batch has thousands of rows.  Here a cell is joint or a candidate or
not, which a boolean says; a row's sum of e^T is read block by block, and so is its gradient, which
needs the scores and the sum and nothing else.

The formulas stay where they are.  What a bound asks about e^T it asks of :meth:`PairTable.sums`,
a ``Scores`` of one cell for each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from remi_lib.scores import NEG_INF, Scores, cells, support_counts

# Cells read at a time: what stays in a core's cache, and what fills a GPU.
CPU_BLOCK, GPU_BLOCK = 2**18, 2**23


@dataclass
class PairTable:
    """A table of scores, which cells are joint and which are candidates; reads as ``Scores`` does.

    Args:
        values: T, (..., R, K), float32 or wider.
        joint: booleans that broadcast to ``values``, or, where each row has one joint cell, its
            column (R,).
        weight: the mass of a joint cell of each row, (..., R).
        candidates: booleans that broadcast to ``values``; None for every cell.  All weigh the same.
        both_ways: also the table's transpose, as further rows, at half the weight each
            (:func:`~remi_lib.scores.symmetric_pairs`).  The joint cells are the diagonal.
    """

    values: Tensor
    joint: Tensor
    weight: Tensor
    candidates: Tensor | None = None
    both_ways: bool = False
    _sums: Scores | None = field(default=None, init=False, repr=False)

    def sums(self) -> Scores:
        """The rows (..., R, 1), of both directions where there are two: each its log-mean-exp.

        What P and Q give to a row is the mass of its one cell, so that every mean over e^T reads
        as it would from all cells.  Read once: bounds ask for them several times.
        """
        if self._sums is not None:
            return self._sums
        count, mass = self.counts(), self.row_mass()
        row = log_row_sums(self.values, self.candidates, self.both_ways) - count.clamp(min=1).log()
        share = count / count.sum(-1, keepdim=True).clamp(min=1)
        self._sums = Scores(*(x.unsqueeze(-1) for x in (row, mass.log(), share.log())))
        return self._sums

    def counts(self) -> Tensor:
        """How many candidates each row has, (..., R), or (..., 2R) both ways."""
        rows, columns = self.values.shape[-2:]
        if self.candidates is None:
            return self.values.new_full((rows * (1 + self.both_ways),), columns)
        return _count(self.candidates).to(self.values.dtype)

    def row_mass(self) -> Tensor:
        """P of each row, (..., R), or (..., 2R) both ways."""
        mass = self.weight
        if self.joint.dtype == torch.bool:
            mass = mass * _count(self.joint)
        return torch.cat([mass, mass], -1) / 2 if self.both_ways else mass

    def joint_mean(self) -> Tensor:
        """As :meth:`Scores.joint_mean`."""
        if self.joint.dtype == torch.bool:
            own = row_sums(self.values, self.joint)
        else:
            # By index: gather would keep the table for its gradient.
            rows = torch.arange(self.values.shape[-2], device=self.values.device)
            own = self.values[..., rows, self.joint]
        return (own * self.weight).sum(-1)

    def product_mean(self) -> Tensor:
        """As :meth:`Scores.product_mean`."""
        if self.candidates is None:
            return self.values.mean((-2, -1))
        total = row_sums(self.values, self.candidates).sum(-1)
        return total / self.counts().sum(-1).clamp(min=1)

    def log_mean_exp(self) -> Tensor:
        """As :meth:`Scores.log_mean_exp`."""
        return self.sums().log_mean_exp()

    def rows(self) -> Tensor:
        """As :meth:`Scores.rows`."""
        return self.sums().rows()

    def row_log_mean_exp(self) -> Tensor:
        """As :meth:`Scores.row_log_mean_exp`."""
        return self.sums().row_log_mean_exp()

    def row_variance(self) -> Tensor:
        """As :meth:`Scores.row_variance`."""
        return self.sums().row_variance()

    def map(self, values: Tensor) -> PairTable:
        """As :meth:`Scores.map`."""
        return PairTable(values, self.joint, self.weight, self.candidates, self.both_ways)

    def clip(self, tau: float | Tensor) -> PairTable:
        """As :meth:`Scores.clip`."""
        limit = cells(torch.as_tensor(tau, dtype=self.values.dtype, device=self.values.device))
        return self.map(self.values.clamp(-limit, limit))

    def full(self) -> Scores:
        """The table with the log-mass of every cell, for a bound that asks for those."""
        t, joint = self.values, self.joint
        if joint.dtype != torch.bool:
            joint = joint.unsqueeze(-1) == torch.arange(t.shape[-1], device=t.device)
        parts = [t, joint * self.weight.unsqueeze(-1), torch.ones_like(t[..., :1, :1])]
        parts[2] = parts[2].expand_as(t) if self.candidates is None else self.candidates
        if self.both_ways:
            parts = [torch.cat([x, x.mT], -2) for x in parts]
        return support_counts(*parts)


def matched(
    t: Tensor, column: Tensor, candidates: Tensor | None = None, both_ways: bool = False
) -> PairTable:
    """The table ``t`` (..., R, K) whose one joint cell in each row is at ``column`` (R,)."""
    weight = t.new_full((), 1 / t.shape[-2]).expand(t.shape[-2])
    return PairTable(t, column, weight, candidates, both_ways)


def marked(t: Tensor, joint: Tensor, candidates: Tensor, per_anchor: bool) -> PairTable:
    """As ``scores.marked_pairs``, of ``"anchors"`` if ``per_anchor``, else of ``"pairs"``."""
    count = _count(joint).to(t.dtype)
    if per_anchor:
        anchors = (count > 0).sum(-1, keepdim=True).clamp(min=1)
        weight = 1 / (count.clamp(min=1) * anchors)
    else:
        weight = (1 / count.sum(-1, keepdim=True).clamp(min=1)).expand_as(count)
    return PairTable(t, joint, weight, candidates)


def row_sums(values: Tensor, seen: Tensor) -> Tensor:
    """Sum of T over each row's ``seen`` cells, (..., R); see :func:`log_row_sums`."""
    return _RowSums.apply(values, seen)


def log_row_sums(values: Tensor, seen: Tensor | None, columns: bool) -> Tensor:
    """log of the sum of e^T over each row's ``seen`` cells, (..., R); -inf where none is.

    ``seen``: booleans that broadcast to ``values`` (..., R, K), None for all.  With ``columns``
    the sums of the columns follow, (..., R + K).
    """
    return _LogRowSums.apply(values, seen, columns)


class _RowSums(torch.autograd.Function):
    """Keeps the booleans alone; no table but the gradient is made."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, seen: Tensor) -> Tensor:
        parts = [_seen_of(values, seen, part, 0.0).sum(-1) for part in _blocks(values)]
        return torch.cat(parts, -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (seen,), (weight,) = ctx.saved_tensors, gradients
        return torch.where(seen, weight.unsqueeze(-1), 0.0), None


class _LogRowSums(torch.autograd.Function):
    """Keeps the scores, which are there anyhow, and the sums; torch's would keep a masked copy."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, seen: Tensor | None, columns: bool) -> Tensor:
        across, down = [], []
        for part in _blocks(values):
            x = _seen_of(values, seen, part, NEG_INF)
            across.append(x.logsumexp(-1))
            if columns:
                down.append(x.logsumexp(-2))
        if columns:
            across.append(torch.stack(down, -1).logsumexp(-1))
        return torch.cat(across, -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, seen, ctx.columns = inputs
        ctx.save_for_backward(values, seen, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, seen, total = ctx.saved_tensors
        total = torch.where(total == NEG_INF, 0.0, total)  # -inf less -inf would be NaN
        (weight,) = gradients
        rows = values.shape[-2]
        gradient = torch.empty_like(values)
        for part in _blocks(values):
            x = _seen_of(values, seen, part, NEG_INF)
            own = (x - total[..., part, None]).exp() * weight[..., part, None]
            if ctx.columns:
                own = own + (x - total[..., None, rows:]).exp() * weight[..., None, rows:]
            gradient[..., part, :] = own
        return gradient, None, None


def _seen_of(values: Tensor, seen: Tensor | None, part: slice, otherwise: float) -> Tensor:
    x = values[..., part, :]
    return x if seen is None else torch.where(seen[..., part, :], x, otherwise)


def _count(seen: Tensor) -> Tensor:
    """How many cells of each row are seen (...); a sum of booleans would copy them as integers."""
    return torch.cat([seen[..., part, :].sum(-1) for part in _blocks(seen)], -1)


def _blocks(values: Tensor) -> Iterator[slice]:
    """The rows of a table, so many at a time that their cells are about a block."""
    rows = values.shape[-2]
    size = rows
    if not torch.compiler.is_compiling():  # a compiler fuses by itself
        block = CPU_BLOCK if values.device.type == "cpu" else GPU_BLOCK
        size = max(1, block * rows // max(1, values.numel()))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
