"""Which samples a critic trains on, is stopped by, and is read on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WATCHED = 1000  # samples that decide when a critic stops, at most


@dataclass(frozen=True)
class Rows:
    """The samples of each member, by role: (M, .) indices; members are seed by seed, fold by fold.

    ``streams`` seed the members' parameters and batches.
    """

    seeds: int
    folds: int
    train: Tensor
    watch: Tensor
    test: Tensor
    streams: list[int]


def split(n: int, folds: int, seeds: int, seed: int) -> Rows:
    """Folds shared by all seeds; a tenth of all samples (50, if that is more and there are enough)
    decides when to stop, another tenth for each member.

    ``n % folds`` samples are in no fold: they are trained on, not read.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator)
    size = n // folds
    train, watch, test = [], [], []
    for _ in range(seeds):
        for fold in range(folds):
            own = slice(fold * size, (fold + 1) * size)
            rest = torch.cat([order[: own.start], order[own.stop :]])
            rest = rest[torch.randperm(len(rest), generator=generator)]
            count = min(max(n // 10, 50), len(rest) // 4, WATCHED)
            test.append(order[own])
            watch.append(rest[:count])
            train.append(rest[count:])
    streams = torch.randint(2**31, (len(test),), generator=generator).tolist()
    return Rows(seeds, folds, torch.stack(train), torch.stack(watch), torch.stack(test), streams)
