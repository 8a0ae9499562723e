"""The exact critic of the Gaussian staircase on the batches that members train on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from remi_lib.replication.store import cached
from remi_lib.replication.workers import unordered
from remi_lib.tasks import Ensemble, Member, StaircaseTask, member_config
from remi_lib.training import History, tidy


def oracle(task: StaircaseTask, members: Sequence[Member], device: str = "cpu") -> History:
    """What each member's loss says of the *exact* critic, on the batches it would train on.

    Each bound is fed its own optimum, so what is left is its bias and variance at this batch size.
    """
    where = torch.device(device)
    ensemble = Ensemble(members, where)
    record = task.recorder(ensemble, where)
    rows = []
    with torch.no_grad():
        for block in task.batches(ensemble, task.steps, where):
            for batch in block:
                scores = task.exact(batch, ensemble)
                seen = record(scores, ensemble.loss(scores))
                rows.append(torch.stack(list(seen.values()), -1).cpu())
    values = torch.stack(rows).numpy()
    return History(tidy(members, np.arange(task.steps), values, list(seen)), pd.DataFrame())


def cached_oracle(name: str, task: StaircaseTask, members: Sequence[Member]) -> History:
    """:func:`oracle`, remembered, in one process per core; the members' order is theirs."""
    seeds = sorted({m.seed for m in members})
    parts = [[m for m in members if m.seed == seed] for seed in seeds]
    found = dict(unordered(_remembered, [(i, name, task, p) for i, p in enumerate(parts)]))
    return History(pd.concat([found[i] for i in range(len(parts))]), pd.DataFrame())


def _remembered(
    number: int, name: str, task: StaircaseTask, members: Sequence[Member]
) -> tuple[int, pd.DataFrame]:
    config = {"task": vars(task), "members": [member_config(m) for m in members]}

    def compute() -> dict[str, pd.DataFrame]:
        return {"terms": oracle(task, members).terms}

    return number, cached(name, config, __name__, compute)["terms"]
