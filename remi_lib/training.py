"""One loop that trains an ensemble: members in, tidy history out.

A member that goes non-finite is not an error.  Its numbers stay NaN from then on, its neighbours
are untouched, and :meth:`History.divergence` says at which step and in which term it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from remi_lib.losses import stack
from remi_lib.progress import progress
from remi_lib.store import cached
from remi_lib.tasks import Member, Task

TERMS = ("joint_term", "product_term", "penalty", "mi")
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


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
        """One row per member: its first non-finite step (NaN if none) and the term it began in.

        ``first_term`` is "parameters" when every term became non-finite at once, which is what a
        gradient that overflowed at the step before looks like.
        """
        return divergence(self.terms, TERMS)


def divergence(history: pd.DataFrame, terms: Sequence[str]) -> pd.DataFrame:
    """First non-finite step of each member of a tidy history, and the term it began in."""
    bad = pd.DataFrame(~np.isfinite(history[list(terms)].to_numpy()), columns=list(terms))
    any_bad, all_bad = bad.any(axis=1).to_numpy(), bad.all(axis=1).to_numpy()
    settings = [c for c in history.columns if c in Member.__dataclass_fields__]
    first = bad.idxmax(axis=1).where(~all_bad, "parameters")
    rows = history.loc[any_bad, ["member", *settings, "step"]].assign(
        first_term=first[any_bad].to_numpy()
    )
    rows = rows.sort_values("step").drop_duplicates("member")
    everyone = history[["member", *settings]].drop_duplicates("member")
    return everyone.merge(rows[["member", "step", "first_term"]], on="member", how="left")


def train(
    task: Task,
    members: Sequence[Member],
    steps: int,
    lr: float = 0.1,
    optimizer: str = "sgd",
    probe_every: int = 10,
    device: str = "auto",
    label: str | None = None,
) -> History:
    """Train all members together by gradient ascent on their objectives.

    Args:
        task: what to train on, e.g. :class:`~remi_lib.tasks.OneHotTask`.
        members: the runs; any order, any mix of losses, seeds and batch sizes.
        steps: optimiser steps, one batch each.
        lr, optimizer: "sgd" or "adam", elementwise and therefore independent across members.
        probe_every: the task's probe is recorded at steps 0, k, 2k, ...
        device: "auto", "cuda", "mps" or "cpu".
        label: of a progress bar; no bar if None.

    Returns:
        History, rows in the order of ``members``.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer: {optimizer!r} is not one of {', '.join(OPTIMIZERS)}")
    where = resolve_device(device)
    order = sorted(range(len(members)), key=lambda i: (members[i].family, members[i].variant))
    run = [members[i] for i in order]
    critic = task.critic(run).to(where)
    loss = stack([m.make_loss() for m in run], where)
    update = OPTIMIZERS[optimizer](critic.parameters(), lr=lr)

    record = torch.full((steps, len(run), len(TERMS)), torch.nan, device=where)
    probes: list[tuple[int, dict]] = []
    bar = progress(steps, label)
    step = 0
    for block in task.batches(run, steps, where):
        for batch in block:
            if step % probe_every == 0:
                with torch.no_grad():
                    probes.append((step, dict(task.probe(critic, loss))))
            bound = loss(task.scores(critic, batch, run))
            update.zero_grad()
            (-bound.objective).sum().backward()
            update.step()
            with torch.no_grad():
                record[step] = torch.stack([getattr(bound, term) for term in TERMS], -1)
            step += 1
        bar.update(len(block))
        if not record[step - 1, :, -1].isfinite().any():
            break  # nobody is left
    bar.close()
    back = np.argsort(order)
    terms = _tidy(members, np.arange(steps), record.cpu().numpy()[:, back], TERMS)
    names = list(probes[0][1]) if probes else []
    probed = (
        np.stack([np.stack([p[n].cpu().numpy() for n in names], -1) for _, p in probes])
        if names
        else np.empty((0, len(members), 0))
    )
    return History(terms, _tidy(members, np.array([s for s, _ in probes]), probed[:, back], names))


def _tidy(
    members: Sequence[Member], steps: np.ndarray, values: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """(steps, M, names) -> one row per member and step, members' varying settings as columns."""
    settings = pd.DataFrame([asdict(m) for m in members])
    keep = [c for c in settings if c in ("loss", "seed") or settings[c].nunique(dropna=False) > 1]
    frame = settings[keep].loc[np.repeat(np.arange(len(members)), len(steps))]
    frame = frame.reset_index(drop=True)
    frame.insert(0, "member", np.repeat(np.arange(len(members)), len(steps)))
    frame["step"] = np.tile(steps, len(members))
    frame[list(names)] = values.transpose(1, 0, 2).reshape(len(frame), len(names))
    return frame


def resolve_device(device: str = "auto") -> torch.device:
    """The torch device a name stands for; "auto" takes CUDA, then MPS, then the CPU.

    Raises ValueError for a device that does not exist here.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
    if not present.get(device.split(":")[0], False):
        here = ", ".join(name for name, there in present.items() if there)
        raise ValueError(f"device: {device!r} is not there; allowed here: auto, {here}")
    return torch.device(device)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def run(
    name: str,
    task: Task,
    members: Sequence[Member],
    steps: int,
    **settings: Any,
) -> History:
    """:func:`train`, remembered: the same members trained by the same code are read back."""
    config = {
        "task": {type(task).__name__: asdict(task)},  # type: ignore[call-overload]
        "members": [asdict(m) for m in members],
        "steps": steps,
        **settings,
    }

    def compute() -> dict[str, pd.DataFrame]:
        history = train(task, members, steps, label=name, **settings)
        return {"terms": history.terms, "probes": history.probes}

    return History(**cached(name, config, "training", compute))
