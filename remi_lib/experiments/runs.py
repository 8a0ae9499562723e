"""Trainings that are remembered: how notebooks train critics on synthetic pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from remi_lib.replication.store import cached, code_digest
from remi_lib.replication.workers import unordered
from remi_lib.tasks import Member, Task, member_config
from remi_lib.training import History, settings_of, train


def run(
    name: str, task: Task, members: Sequence[Member], steps: int, *, chunk: int = 0, **settings: Any
) -> History:
    """:func:`train`, remembered: the same members trained by the same code are read back.

    ``chunk``: train so many members at a time, in one process per core; 0 trains them as one model.
    On a CPU a chunk that fits the cache is faster, on a GPU one model is.
    """
    size = chunk or len(members)
    parts = [members[i : i + size] for i in range(0, len(members), size)]
    jobs = [(i, name, task, part, steps, settings) for i, part in enumerate(parts)]
    found = dict(unordered(_remembered, jobs))

    def whole(key: str) -> pd.DataFrame:
        tables = [found[i][key] for i in range(len(parts))]
        numbered = [t.assign(member=t["member"] + i * size) for i, t in enumerate(tables)]
        return joined(numbered, settings_of(members))

    return History(terms=whole("terms"), probes=whole("probes"))


def _remembered(
    number: int,
    name: str,
    task: Task,
    members: Sequence[Member],
    steps: int,
    settings: dict[str, Any],
) -> tuple[int, dict[str, pd.DataFrame]]:
    config = {
        "task": {type(task).__name__: asdict(task)},  # type: ignore[call-overload]
        "task code": code_digest(type(task).__module__),
        "members": [member_config(m) for m in members],
        "steps": steps,
        **settings,
    }

    def compute() -> dict[str, pd.DataFrame]:
        history = train(task, members, steps, label=name, **settings).history
        settings_of = set(Member.__dataclass_fields__)
        return {
            key: frame[[c for c in frame if c not in settings_of]]
            for key, frame in (("terms", history.terms), ("probes", history.probes))
        }

    return number, cached(name, config, "remi_lib.training", compute)


def joined(parts: Sequence[pd.DataFrame], settings: pd.DataFrame) -> pd.DataFrame:
    """Chunks of a history under one another, with the settings of the whole ensemble."""
    frame = pd.concat(parts, ignore_index=True)
    own = settings.loc[frame["member"]].reset_index(drop=True)
    return pd.concat([frame[["member"]], own, frame.drop(columns="member")], axis=1)
