"""Optimisers that act on each member of a stack alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LARGEST = 1.0  # norm of a member's gradient that ClippedSGD lets through, the usual choice


class ClippedSGD(torch.optim.SGD):
    """SGD whose gradient is scaled down to norm :data:`LARGEST`, member by member.

    g <- g min(1, LARGEST / |g|), |g| the Euclidean norm over all of a member's parameters, whose
    leading dimension is the member (Pascanu et al. 2013).  A non-finite gradient is no direction
    and stays as it is.
    """

    def step(self, closure: Any = None) -> Any:
        found = [p.grad for group in self.param_groups for p in group["params"]]
        clip_by_member([g for g in found if g is not None])
        return super().step(closure)


@torch.no_grad()
def clip_by_member(gradients: list[Tensor], largest: float = LARGEST) -> Tensor:
    """Scale gradients (M, ...) in place to a joint norm of at most ``largest``; the norms (M,)."""
    squares = [g.flatten(1).double().square().sum(-1) for g in gradients]
    norm = torch.stack(squares).sum(0).sqrt()
    scale = (largest / norm).clamp(max=1.0).nan_to_num(nan=1.0)
    for g in gradients:
        g.mul_(scale.to(g.dtype).view(-1, *[1] * (g.dim() - 1)))
    return norm
