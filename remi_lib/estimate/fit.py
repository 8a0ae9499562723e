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
from remi_lib.estimate.options import Options
from remi_lib.estimate.pairs import bound_of
from remi_lib.estimate.team import Team
from remi_lib.losses import BoundOf, per_row
from remi_lib.progress import progress

LOOK_EVERY, EARLY = 50, (10, 25)  # steps between two looks at the held-out pairs; first looks
TOLERANCE = 1e-3  # nats, less than which is no progress
COLUMNS = ("critic", "seed", "fold", "step", "training", "held_out")
_PARTNERS = 16  # product partners of a look, at most: many looks, each a part of the time


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
def fit(team: Team, options: Options, objective: BoundOf, generator: torch.Generator) -> Fitted:
    """Train all members together; leaves each at the parameters that read its watched pairs best.

    A member that goes non-finite keeps what it had before.  ``generator`` draws the batches.
    """
    rows_apart = per_row(options.name)
    batch = min(options.batch, team.rows.train.shape[1])
    shifts = torch.arange(min(options.partners, batch - 1) + 1)
    fused = team.data[0].device.type != "mps"
    update = torch.optim.Adam(team.parameters(), lr=options.lr, fused=fused)
    batches = _batches(team, batch, generator)
    best = _Best(team)
    with progress(options.steps, options.label) as bar:
        for step in range(1, options.steps + 1):
            bound = objective(team.table(next(batches), shifts, rows_apart))
            update.zero_grad()
            (-bound.objective).sum().backward()
            update.step()
            if step % LOOK_EVERY and step not in (*EARLY, options.steps):
                continue
            best.look(step, _look(team, rows_apart))
            bar.set_postfix_str(f"held out {best.held_out:.3f} nats", refresh=False)
            bar.update(step - bar.n)
            if best.waited(step) >= options.patience * LOOK_EVERY or best.lost():
                break
    best.restore()
    alive = best.seen[1] > -math.inf
    training, held_out = best.seen[:, alive].mean(1).tolist() if alive.any() else (math.nan,) * 2
    return Fitted(
        best.history(),
        alive,
        int((~best.looks[-1][1].isfinite()).sum()),
        training,
        held_out,
        step == options.steps and best.late_gain() > 0.01,
    )


class _Best:
    """Each member's parameters where its watched pairs read best, and the looks that found them."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.kept = [p.detach().clone() for p in team.parameters()]
        self.seen = torch.full((2, team.members), -math.inf, dtype=torch.float32)
        self.risen = (-math.inf, 0)  # the mean of the best when it last rose, and the step
        self.steps: list[int] = []
        self.looks: list[Tensor] = []  # (2, M) each: training, held out

    @property
    def held_out(self) -> float:
        return self.seen[1].mean().item()

    def look(self, step: int, seen: Tensor) -> None:
        self.steps.append(step)
        self.looks.append(seen)
        better = seen[1].isfinite() & (seen[1] > self.seen[1])
        self.seen[:, better] = seen[:, better]
        for old, new in zip(self.kept, self.team.parameters(), strict=True):
            own = better.to(old.device)
            old[own] = new.detach()[own]
        if self.held_out > self.risen[0] + TOLERANCE:
            self.risen = self.held_out, step

    def waited(self, step: int) -> int:
        return step - self.risen[1]

    def lost(self) -> bool:
        return not self.looks[-1][1].isfinite().any()

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, value in zip(self.team.parameters(), self.kept, strict=True):
            parameter.copy_(value)

    def late_gain(self) -> float:
        """By how much the mean of the members' best rose in the last quarter of the steps."""
        looks = [look[1].nan_to_num(nan=-math.inf) for look in self.looks]
        best = torch.stack(looks).cummax(0).values
        before = max(0, sum(step <= 0.75 * self.steps[-1] for step in self.steps) - 1)
        return float((best[-1] - best[before]).mean())

    def history(self) -> pd.DataFrame:
        """A row per member and look."""
        members, folds = np.arange(self.team.members), self.team.rows.folds
        kind = "network" if self.team.base is None else f"{self.team.base.form} + network"
        columns = {
            "critic": np.full(len(members), kind),
            "seed": members // folds,
            "fold": members % folds,
        }
        times = len(self.steps)
        frame = pd.DataFrame({name: np.tile(column, times) for name, column in columns.items()})
        frame["step"] = np.repeat(self.steps, len(members))
        frame[["training", "held_out"]] = torch.cat([look.T for look in self.looks]).numpy()
        return frame.sort_values(list(COLUMNS[:4]), ignore_index=True)


def _batches(team: Team, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices (M, batch), each member shuffling its own training samples anew every epoch."""
    train = team.of_members(team.rows.train)
    count = train.shape[1]
    while True:
        order = [torch.randperm(count, generator=generator) for _ in range(team.members)]
        epoch = train.gather(1, torch.stack(order).to(train.device))
        yield from epoch[:, : count // batch * batch].split(batch, dim=1)


@torch.no_grad()
def _look(team: Team, per_row: bool) -> Tensor:
    """The bound (2, M) on as many training as watched pairs."""
    count = min(team.rows.watch.shape[1], team.rows.train.shape[1])
    shifts = torch.arange(min(_PARTNERS, count - 1) + 1)
    roles: Sequence[Tensor] = (team.rows.train, team.rows.watch)
    tables = (team.table(team.of_members(role[:, :count]), shifts, per_row) for role in roles)
    return torch.stack([bound_of(per_row)(table).mi.float().cpu() for table in tables])
