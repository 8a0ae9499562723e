"""The critics of all folds as one batched module, with the closed-form base under them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from remi_lib.estimate.elliptical import Base
from remi_lib.estimate.folds import Rows
from remi_lib.estimate.pairs import PairCritic, shifted_pairs
from remi_lib.scores import Scores


class Team(nn.Module):
    """M = seeds x folds critics, the fold running fastest.

    With a ``base`` each is factor x base + network, whose factor starts at 1 and whose last layer
    starts at 0.  Without it each is a network.

    Args:
        data: x (n, d_x) and y (n, d_y), float32, where the critics are to live.
        rows: samples by fold and role.
        base: the closed form under the networks, one fit a fold.
        masks: (F, d_x), (F, d_y), zero where a fold's critics do not see a column; None: all do.
        streams: a seed for each member's parameters.
    """

    def __init__(
        self,
        data: Sequence[Tensor],
        rows: Rows,
        base: Base | None,
        masks: Sequence[Tensor] | None,
        streams: Sequence[int],
        hidden: Sequence[int],
    ) -> None:
        super().__init__()
        self.data, self.rows, self.base, self.masks = data, rows, base, masks
        device = data[0].device
        self.members = len(streams)
        self.fold = torch.arange(self.members, device=device) % rows.folds
        self.critic = PairCritic(streams, data[0].shape[1], data[1].shape[1], hidden).float()
        if base is not None:
            self.factor = nn.Parameter(torch.ones(self.members, dtype=torch.float32))
            nn.init.zeros_(self.critic.weights[-1])
        self.to(device)

    def table(self, index: Tensor, shifts: Tensor, own_too: bool) -> Scores:
        """Scores of the samples ``index`` (M, m), each with its own partner and with others."""
        values = self.critic(*self._inputs(index), shifts)
        if self.base is not None:
            under = self.base.pairs(self.fold, index, shifts)
            values = values + self.factor[:, None, None] * under
        return shifted_pairs(values, own_too)

    def _inputs(self, index: Tensor) -> list[Tensor]:
        taken = [d[index] for d in self.data]
        if self.masks is not None:
            taken = [t * m[self.fold].unsqueeze(1) for t, m in zip(taken, self.masks, strict=True)]
        return taken

    def of_members(self, role: Tensor) -> Tensor:
        """Indices of a role (F, m), a row for each member (M, m)."""
        return role[self.fold]
