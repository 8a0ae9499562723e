"""Critics on pairs of a sample, and the table of scores that a loss takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import silu

from remi_lib.critics import ConcatCritic
from remi_lib.losses import Terms, dv, infonce
from remi_lib.scores import Scores

CHUNK = 2**14  # pairs that pass through the critics at once: more would leave the CPU's cache


class PairCritic(ConcatCritic):
    """T(x, y) = MLP([x, y]) with SiLU on chosen pairs of a batch; parameters as in ConcatCritic."""

    def forward(self, x: Tensor, y: Tensor, shifts: Tensor | None = None) -> Tensor:
        """Scores (M, n, S) of x_i with y_(i + shift mod n); shift 0 is the joint pair.

        ``x`` (M, n, x_dim), ``y`` (M, n, y_dim), ``shifts`` (S,), only 0 if None.
        """
        shifts = torch.zeros(1, dtype=torch.long) if shifts is None else shifts
        chunk = max(1, CHUNK // (len(self.weights[0]) * x.shape[1]))
        if len(shifts) > chunk and not torch.is_grad_enabled():
            return torch.cat([self(x, y, part) for part in shifts.split(chunk)], -1)
        n, first = x.shape[1], self.weights[0]
        others = partners_of(n, shifts.to(x.device)).flatten()
        h_x = x @ first[:, : self.x_dim] + self.biases[0].unsqueeze(1)
        h_y = (y @ first[:, self.x_dim :]).index_select(1, others)
        once = not torch.is_grad_enabled()
        h = silu(h_x.unsqueeze(2) + h_y.unflatten(1, (n, len(shifts))), once).flatten(1, 2)
        for layer in range(1, len(self.weights) - 1):
            h = silu(torch.baddbmm(self.biases[layer].unsqueeze(1), h, self.weights[layer]), once)
        return (h @ self.weights[-1]).view(-1, n, len(shifts))


def partners_of(n: int, shifts: Tensor) -> Tensor:
    """Which sample each of n samples meets at each shift, (n, S)."""
    return (torch.arange(n, device=shifts.device).unsqueeze(1) + shifts) % n


def shifted_pairs(values: Tensor, own_too: bool = False) -> Scores:
    """Scores of n samples with their own partner, first, and with others: (..., n, 1 + others).

    The first column is joint, the others are product; all are if ``own_too``, as InfoNCE has it.
    """
    n, k = values.shape[-2:]
    own = torch.arange(k, device=values.device) == 0
    even = values.new_zeros(k)
    joint = torch.where(own, even - math.log(n), -math.inf)
    if own_too:
        product = even - math.log(n * k)
    else:
        product = torch.where(own, -math.inf, even - math.log(n * (k - 1)))
    return Scores(values, joint.expand(n, k), product.expand(n, k))


def bound_of(per_row: bool) -> Callable[[Scores], Terms]:
    """What a table of :func:`shifted_pairs` is read by: DV, or InfoNCE for its own critics."""
    return infonce if per_row else dv
