"""Members that have stopped learning: an epoch left parameters and reading as they were.

A loss whose clipped scores have no gradient trains for hours without changing anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

STILL = 1e-5  # nats within which the reading of a frozen member stays


def frozen(mi: Tensor) -> Tensor:
    """Whether readings (steps, M) stand still: finite and within :data:`STILL` of each other."""
    return mi.isfinite().all(0) & (mi.amax(0) - mi.amin(0) < STILL)


class Stillness:
    """Watches a critic from epoch to epoch.

    A member stands still if an epoch left every one of its parameters as it was, byte for byte,
    and its reading is :func:`frozen`.  What a further epoch would change is the running statistics
    of batch norm.  A penalty that still moves the parameters under a clipped reading is none.
    """

    def __init__(self, critic: nn.Module, members: int, epoch: int) -> None:
        self.critic, self.members, self.epoch = critic, members, epoch
        self.before = self._copies()

    def over(self, record: Sequence[Tensor], names: Sequence[str]) -> bool:
        """Whether every member stands still, or read nothing finite in the last epoch.

        ``record``: blocks (steps, M, names) so far; False in the middle of an epoch.
        """
        done = sum(len(block) for block in record)
        if done % self.epoch:
            return False
        mi = torch.cat(list(record))[-self.epoch :, :, list(names).index("mi")]
        lost = ~mi.isfinite().any(0)
        same = self._same()
        self.before = self._copies()
        return bool((lost | (same.cpu() & frozen(mi))).all())

    def _copies(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.critic.parameters()]

    def _same(self) -> Tensor:
        """Per member, whether its parameters are those of the last look; NaN is no parameter."""
        same = [
            (p.detach() == q).reshape(self.members, -1).all(1)
            for p, q in zip(self.critic.parameters(), self.before, strict=True)
        ]
        return torch.stack(same).all(0)
