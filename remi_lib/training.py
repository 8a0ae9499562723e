"""One loop that trains an ensemble: members in, tidy history out.

A member that goes non-finite is not an error.  Its numbers stay NaN from then on, its neighbours
are untouched, and :meth:`History.divergence` says at which step and in which term it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from remi_lib.checks import at_least, one_of
from remi_lib.devices import current, denormals_flushed, resolve_device
from remi_lib.graphs import Replayed, backend_of
from remi_lib.losses import BoundOf, Loss
from remi_lib.optimizers import ClippedSGD
from remi_lib.progress import progress
from remi_lib.scores import Scores
from remi_lib.stillness import Stillness
from remi_lib.tasks import Ensemble, Member, Recorder, Task

OPTIMIZERS = {"sgd": torch.optim.SGD, "sgd_clipped": ClippedSGD, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class History:
    """What an ensemble did.

    ``terms``: one row per member and step, the batch's terms in nats.  ``probes``: one row per
    member and probed step, what the task looked at on the side.  Both carry the members'
    settings as columns, so that a plot is a ``groupby``.
    """

    terms: pd.DataFrame
    probes: pd.DataFrame

    def divergence(self) -> pd.DataFrame:
        """One row per member: the step at which it diverged (NaN if it did not) and the term.

        A member has diverged when a term of its objective is non-finite at the end; the step is
        the first of that last stretch, so an overflow that training recovers from is none.
        ``first_term`` is "parameters" when every term became non-finite at once, which is what a
        gradient that overflowed at the step before looks like.
        """
        return divergence(self.terms)


OBJECTIVE = ("joint_term", "product_term", "penalty")


def divergence(history: pd.DataFrame) -> pd.DataFrame:
    """:meth:`History.divergence` of a tidy history, rows in the order of steps."""
    bad = pd.DataFrame(~np.isfinite(history[list(OBJECTIVE)].to_numpy()), columns=list(OBJECTIVE))
    first_term = bad.idxmax(axis=1).where(~bad.all(axis=1), "parameters").to_numpy()
    settings = [c for c in history.columns if c in Member.__dataclass_fields__]
    fine = ~bad.any(axis=1).to_numpy()
    # Bad from here to the end: no fine row of the member comes at or after this one.
    later_fine = pd.Series(fine[::-1]).groupby(history["member"].to_numpy()[::-1]).cummax()
    lost = ~later_fine.to_numpy()[::-1]
    rows = history.loc[lost, ["member", "step"]].assign(first_term=first_term[lost])
    everyone = history[["member", *settings]].drop_duplicates("member")
    return everyone.merge(rows.drop_duplicates("member"), on="member", how="left")


class Trained(NamedTuple):
    """A history and the critic it led to, members in the order they were given."""

    history: History
    critic: nn.Module


@denormals_flushed()
def train(
    task: Task,
    members: Sequence[Member],
    steps: int,
    lr: float = 0.1,
    optimizer: str = "sgd",
    probe_every: int = 10,
    device: str = "auto",
    label: str | None = None,
    epoch: int | None = None,
) -> Trained:
    """Train all members together by gradient ascent on their objectives.

    Args:
        task: what to train on, e.g. :class:`~remi_lib.tasks.OneHotTask`.
        members: the runs; any order and mix that the task allows.
        steps: optimiser steps, one batch each.
        lr, optimizer: "sgd", "sgd_clipped" (:class:`~remi_lib.optimizers.ClippedSGD`) or "adam",
            none of which lets one member see another.
        probe_every: the task's probe is recorded at steps 0, k, 2k, ...
        device: "auto", "cuda", "mps" or "cpu".
        label: of a progress bar; no bar if None.
        epoch: its steps; given them, training ends after an epoch in which every member stood
            still (:mod:`~remi_lib.stillness`) or was lost, and the history ends there.

    Raises:
        ValueError: no members, fewer than one step, an unknown optimizer or absent device, or a
            ``probe_every`` below 1.
    """
    at_least("probe_every", probe_every, 1)
    one_of("optimizer", optimizer, OPTIMIZERS)
    if steps < 1 or not members:
        raise ValueError(f"steps, members: need at least one each, got {steps}, {len(members)}")
    with current(resolve_device(device)) as where:
        return _train(task, members, steps, lr, optimizer, probe_every, where, label, epoch)


def _train(
    task: Task,
    members: Sequence[Member],
    steps: int,
    lr: float,
    optimizer: str,
    probe_every: int,
    where: torch.device,
    label: str | None,
    epoch: int | None,
) -> Trained:
    """:func:`train` on the device that is torch's current one."""
    ensemble = Ensemble(members, where)
    critic = task.critic(ensemble).to(where)
    options = {"capturable": True} if where.type == "cuda" and optimizer == "adam" else {}
    update = OPTIMIZERS[optimizer](critic.parameters(), lr=lr, fused=where.type != "mps", **options)
    step = Step(task, critic, ensemble, update)
    backend = backend_of(where)
    changed = partial(_changed_by_a_step, critic, ensemble.losses, update)
    advance = step if backend is None else Replayed(step, changed, backend)
    watch = Stillness(critic, len(members), epoch) if epoch else None
    record: list[Tensor] = []
    probes: list[Tensor] = []
    probed: list[str] = []
    done = 0
    with progress(steps, label) as bar:
        for block in task.batches(ensemble, steps, where):
            rows: list[Tensor] = []
            for batch in block:
                if done % probe_every == 0:
                    with torch.no_grad():
                        look = task.probe(critic, ensemble.loss)
                    if look:
                        probed = list(look)
                        probes.append(_columns(look))
                rows.append(advance(batch).clone())
                done += 1
            bar.update(len(block))
            record.append(torch.stack(rows).cpu())
            if all_lost(record[-1], step.names):
                break
            if watch is not None and watch.over(record, step.names):
                steps = done
                break
    probe_steps = np.arange(0, len(probes)) * probe_every
    looked = torch.stack(probes).cpu().numpy() if probes else np.empty((0, len(members), 0))
    history = History(
        tidy(members, np.arange(steps), _padded(record, steps), step.names),
        tidy(members, probe_steps, looked, probed),
    )
    return Trained(history, critic)


def ascend(
    scores: Scores, loss: BoundOf, update: torch.optim.Optimizer, record: Recorder
) -> dict[str, Tensor]:
    """One step of gradient ascent on every member's objective, and what to record of it (M,).

    Args:
        scores: table (M, R, K) of the parameters that ``update`` changes.  A member's objective
            depends on its own parameters alone, so the gradient of the sum is each one's own.
        loss: of all members, e.g. :attr:`~remi_lib.tasks.Ensemble.loss`.
        update: the optimiser.
        record: of the table, without its gradients, and the bound that was ascended.
    """
    bound = loss(scores)
    update.zero_grad()
    (-bound.objective).sum().backward()
    update.step()
    with torch.no_grad():
        seen = record(scores.detach(), bound)
        return {name: x.detach().float() for name, x in seen.items()}


class Step:
    """``step(batch) -> Tensor``: :func:`ascend` of an ensemble on a task's batch.

    The tensor (M, names) is what was recorded; ``names`` are its columns, known after a call.
    """

    def __init__(
        self, task: Task, critic: nn.Module, ensemble: Ensemble, update: torch.optim.Optimizer
    ) -> None:
        self.task, self.critic, self.ensemble, self.update = task, critic, ensemble, update
        self.record = task.recorder(ensemble, ensemble.device)
        self.names: tuple[str, ...] = ()

    def __call__(self, batch: Any) -> Tensor:
        scores = self.task.scores(self.critic, batch, self.ensemble)
        seen = ascend(scores, self.ensemble.loss, self.update, self.record)
        self.names = tuple(seen)
        return _columns(seen)


def _changed_by_a_step(
    critic: nn.Module, losses: Sequence[Loss], update: torch.optim.Optimizer
) -> list[Tensor]:
    """Every tensor a step writes: network, optimiser, and what a loss remembers (EMA-MINE)."""
    remembered = [x for loss in losses for x in getattr(loss.bound, "__dict__", {}).values()]
    moments = [x for state in update.state.values() for x in state.values()]
    own = [x for x in (*moments, *remembered) if isinstance(x, Tensor)]
    return [*critic.parameters(), *critic.buffers(), *own]


def all_lost(record: Tensor, names: Sequence[str]) -> bool:
    """Whether no member's objective was finite at any step of a record (steps, M, names)."""
    terms = record[..., [names.index(name) for name in OBJECTIVE]]
    return not terms.isfinite().all(-1).any()


def _columns(quantities: Mapping[str, Tensor]) -> Tensor:
    """Named quantities (M,) as one tensor (M, names)."""
    return torch.stack([x.float() for x in quantities.values()], -1)


def _padded(blocks: Sequence[Tensor], steps: int) -> np.ndarray:
    """(steps, M, names); NaN after the block at which nobody was left."""
    record = torch.cat(list(blocks)).numpy()
    missing = np.full((steps - len(record), *record.shape[1:]), np.nan, dtype=record.dtype)
    return np.concatenate([record, missing])


def tidy(
    members: Sequence[Member], steps: np.ndarray, values: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """(steps, M, names) -> one row per member and step, members' varying settings as columns."""
    frame = settings_of(members).loc[np.repeat(np.arange(len(members)), len(steps))]
    frame = frame.reset_index(drop=True)
    frame.insert(0, "member", np.repeat(np.arange(len(members)), len(steps)))
    frame["step"] = np.tile(steps, len(members))
    frame[list(names)] = values.transpose(1, 0, 2).reshape(len(frame), len(names))
    return frame


def settings_of(members: Sequence[Member]) -> pd.DataFrame:
    """A row per member: its loss, its seed and whatever else varies."""
    settings = pd.DataFrame([asdict(m) for m in members])
    varies = [c for c in settings if settings[c].nunique(dropna=False) > 1]
    return settings[[c for c in settings if c in ("loss", "seed") or c in varies]]
