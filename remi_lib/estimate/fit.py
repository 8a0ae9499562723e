"""Training of all critics together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from remi_lib.devices import denormals_flushed
from remi_lib.estimate.folds import Rows
from remi_lib.estimate.pairs import PairCritic, bound_of, shifted_pairs
from remi_lib.losses import BoundOf
from remi_lib.progress import progress
from remi_lib.scores import Scores

LOOK_EVERY, EARLY = 50, (10, 25)  # steps between two looks at the held-out pairs; first looks
TOLERANCE = 1e-3  # nats, less than which is no progress
_PARTNERS = 64  # product partners of a look, at most


@dataclass(frozen=True)
class Training:
    """What the critics are trained with and for how long, see :func:`estimate_mi`."""

    objective: BoundOf
    per_row: bool
    steps: int
    patience: int
    batch: int
    partners: int
    lr: float


@dataclass(frozen=True)
class Fitted:
    """How training went.

    ``alive`` (M,): members that ever read a finite value; ``diverged``: how many read a
    non-finite one at the end; ``training`` and ``held_out``: mean reading (nats) of training and
    of watched pairs where each member is taken; ``unfinished``: the last quarter of the steps
    still brought a hundredth of a nat.
    """

    history: pd.DataFrame
    alive: Tensor
    diverged: int
    training: float
    held_out: float
    unfinished: bool


@denormals_flushed()
def fit(
    critic: PairCritic, data: Sequence[Tensor], rows: Rows, plan: Training, label: str | None
) -> Fitted:
    """Train all members together; leaves each at the parameters that read its watched pairs best.

    A member that goes non-finite keeps what it had before.
    """
    members, available = rows.train.shape
    batch = min(plan.batch, available)
    shifts = torch.arange(min(plan.partners, batch - 1) + 1)
    update = torch.optim.Adam(critic.parameters(), lr=plan.lr, fused=data[0].device.type != "mps")
    batches = _batches(rows, batch)
    steps: list[int] = []
    looks: list[Tensor] = []  # (2, M) each: training, held out
    best = torch.full((2, members), -math.inf)
    risen = (-math.inf, 0)  # the mean of the best when it last rose, and the step
    kept = [p.detach().clone() for p in critic.parameters()]
    with progress(plan.steps, label) as bar:
        for step in range(1, plan.steps + 1):
            bound = plan.objective(table_of(critic, data, next(batches), shifts, plan.per_row))
            update.zero_grad()
            (-bound.objective).sum().backward()
            update.step()
            if step % LOOK_EVERY and step not in (*EARLY, plan.steps):
                continue
            seen = _look(critic, data, rows, plan.per_row)
            steps.append(step)
            looks.append(seen)
            better = seen[1].isfinite() & (seen[1] > best[1])
            best[:, better] = seen[:, better]
            for old, new in zip(kept, critic.parameters(), strict=True):
                old[better.to(old.device)] = new.detach()[better.to(old.device)]
            bar.set_postfix_str(f"held out {best[1].mean():.3f} nats", refresh=False)
            bar.update(step - bar.n)
            if best[1].mean().item() > risen[0] + TOLERANCE:
                risen = best[1].mean().item(), step
            waited = step - risen[1]
            if waited >= plan.patience * LOOK_EVERY or not seen[1].isfinite().any():
                break
    with torch.no_grad():
        for parameter, value in zip(critic.parameters(), kept, strict=True):
            parameter.copy_(value)
    alive = best[1] > -math.inf
    training, held_out = best[:, alive].mean(1).tolist() if alive.any() else (math.nan, math.nan)
    lost = ~looks[-1][1].isfinite()
    return Fitted(
        _history(steps, looks, rows),
        alive,
        int(lost.sum()),
        training,
        held_out,
        step == plan.steps and _late_gain(steps, looks) > 0.01,
    )


def _late_gain(steps: Sequence[int], looks: Sequence[Tensor]) -> float:
    """By how much the mean of the members' best readings rose in the last quarter of the steps."""
    best = torch.stack([look[1].nan_to_num(nan=-math.inf) for look in looks]).cummax(0).values
    before = max(0, sum(step <= 0.75 * steps[-1] for step in steps) - 1)
    return float((best[-1] - best[before]).mean())


def _batches(rows: Rows, batch: int) -> Iterator[Tensor]:
    """Indices (M, batch), each member shuffling its own training samples anew every epoch."""
    streams = [torch.Generator().manual_seed(stream) for stream in rows.streams]
    count = rows.train.shape[1]
    while True:
        order = torch.stack([torch.randperm(count, generator=g) for g in streams])
        yield from rows.train.gather(1, order)[:, : count // batch * batch].split(batch, dim=1)


def table_of(
    critic: PairCritic, data: Sequence[Tensor], index: Tensor, shifts: Tensor, own_too: bool
) -> Scores:
    x, y = (d[index.to(d.device)] for d in data)
    return shifted_pairs(critic(x, y, shifts), own_too)


@torch.no_grad()
def _look(critic: PairCritic, data: Sequence[Tensor], rows: Rows, per_row: bool) -> Tensor:
    """The bound (2, M) on as many training as watched pairs."""
    count = rows.watch.shape[1]
    shifts = torch.arange(min(_PARTNERS, count - 1) + 1)
    tables = (
        table_of(critic, data, index[:, :count], shifts, per_row)
        for index in (rows.train, rows.watch)
    )
    return torch.stack([bound_of(per_row)(table).mi.cpu() for table in tables])


def _history(steps: Sequence[int], looks: Sequence[Tensor], rows: Rows) -> pd.DataFrame:
    """A row per member and look."""
    members = np.arange(rows.seeds * rows.folds)
    frame = pd.DataFrame(
        {
            "seed": np.tile(members // rows.folds, len(steps)),
            "fold": np.tile(members % rows.folds, len(steps)),
            "step": np.repeat(steps, len(members)),
        }
    )
    frame[["training", "held_out"]] = torch.cat([look.T for look in looks]).numpy()
    return frame.sort_values(["seed", "fold", "step"], ignore_index=True)
