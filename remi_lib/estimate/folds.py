"""Which samples a critic trains on, is stopped by and is read on; copies of a row stay together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

WATCHED = 1000  # samples that decide when a critic stops, at most
COPIES = 0.05  # of the samples, from where on equal rows are taken for copies
REPEATED = 10  # different rows that come more than once, at least, before that is said


@dataclass(frozen=True)
class Rows:
    """The samples of each fold by role: (F, .) indices; the roles share no sample and no group."""

    train: Tensor
    watch: Tensor
    test: Tensor

    @property
    def folds(self) -> int:
        return len(self.test)

    def to(self, device: torch.device) -> Rows:
        return Rows(*(role.to(device) for role in (self.train, self.watch, self.test)))


def split(n: int, folds: int, generator: torch.Generator, groups: NDArray | None = None) -> Rows:
    """Folds; of the rest a tenth of all samples (50, if that is more and there are enough) watches.

    ``groups`` (n,): samples of one group are in one fold and one role.  All folds are as large as
    the smallest; samples beyond that are trained on by the others, not read.

    Raises ValueError where the groups are too large for so many folds.
    """
    groups = np.arange(n) if groups is None else groups
    names, codes = np.unique(groups, return_inverse=True)
    order = _shuffled(codes.ravel(), torch.randperm(len(names), generator=generator).numpy())
    parts = _cut(codes[order], [n * k // folds for k in range(1, folds)])
    sizes = [stop - start for start, stop in parts]
    if min(sizes) < 2:
        raise ValueError(f"groups: {len(names)} groups do not fill {folds} folds; try fewer folds")
    test, watch, train = [], [], []
    for start, stop in parts:
        rest = np.concatenate([order[:start], order[stop:]])
        ranks = torch.randperm(len(names), generator=generator).numpy()
        rest = rest[_shuffled(codes[rest], ranks)]
        count = min(max(n // 10, 50), len(rest) // 4, WATCHED)
        (_, held), _ = _cut(codes[rest], [count])
        test.append(order[start:stop][: min(sizes)])
        watch.append(rest[:held])
        train.append(rest[held:])
    return Rows(*(_even(role) for role in (train, watch, test)))


def _shuffled(codes: NDArray, rank: NDArray) -> NDArray:
    """Positions ordered by the rank of their group; groups stay together."""
    return np.argsort(rank[codes], kind="stable")


def _cut(codes: NDArray, places: list[int]) -> list[tuple[int, int]]:
    """(start, stop) of the pieces between ``places``, each moved to the next end of a group."""
    ends = np.append(np.flatnonzero(np.diff(codes)) + 1, len(codes))
    cuts = [0, *(int(ends[np.searchsorted(ends, place)]) for place in places), len(codes)]
    return list(pairwise(cuts))


def _even(parts: list[NDArray]) -> Tensor:
    size = min(map(len, parts))
    return torch.as_tensor(np.stack([part[:size] for part in parts]))


def copies(x: pd.DataFrame | None, y: pd.DataFrame | None) -> NDArray | None:
    """Which row each sample is a copy of (n,), or None where no copying is to be suspected.

    Labels repeat by nature: a side that is only labels is None.  Rows that are many, and repeat
    as a whole although no number of theirs occurs in another row, are copies: of a bootstrap, of
    oversampling.
    """
    sides = [side for side in (x, y) if side is not None]
    if not sides:
        return None
    rows = _codes(pd.concat(sides, axis=1))
    counts = np.bincount(rows)
    repeated = counts[rows] > 1
    kinds = len(np.unique(rows[repeated]))
    n = len(rows)
    if kinds < REPEATED or n - len(counts) < COPIES * n or len(counts) < COPIES * n:
        return None
    alone = [len(np.unique(_codes(side)[repeated])) == kinds for side in sides]
    return rows if all(alone) else None


def _codes(frame: pd.DataFrame) -> NDArray:
    return pd.factorize(pd.util.hash_pandas_object(frame, index=False))[0]
