"""The messages of a paper, and whether each was reproduced: computed from claims, never typed.

``data/messages.yaml`` names for each message the claims that decide it and the limits that make a
condition of it.  The rule:

1. A message is decided in the largest setting in which *all* its deciding claims were judged: the
   paper's, else a reduced one.  A stand-in decides nothing; without the other two the message is
   "not tested".
2. There it is "not reproduced" if a deciding claim does not hold, "no power" if none fails and one
   is not resolved, and "reproduced" if all hold.
3. It is "reproduced with a condition" where a limit shows in that setting or a larger one, or where
   it is reproduced on one data set of the setting and not on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

import pandas as pd
import yaml

from remi_lib.replication.claims import CONFIRMED, FAILS, HOLDS, NOT_RUN, SETTINGS


class Status(StrEnum):
    """What became of a message."""

    REPRODUCED = "reproduced"
    CONDITION = "reproduced with a condition"
    NOT_REPRODUCED = "not reproduced"
    NO_POWER = "no power"
    NOT_TESTED = "not tested"


# What a stand-in is said to do: it reproduces nothing.
SHOWN: dict[str, str] = {
    Status.REPRODUCED: "shows there",
    Status.CONDITION: "shows there, but: ",
    Status.NOT_REPRODUCED: "does not show there",
}


@dataclass(frozen=True)
class Limit:
    """A claim that makes a condition of a message; ``if_it`` is "holds" or "does not hold".

    "does not hold" includes a claim that is not resolved: what is not shown limits the message.
    """

    claim: str
    if_it: str
    condition: str


@dataclass(frozen=True)
class Message:
    """One message: the paper's sentence in short, its place, what decides and what limits it."""

    id: int
    name: str
    message: str
    source: str
    rule: str
    decided_by: tuple[str, ...]
    limits: tuple[Limit, ...]


@dataclass(frozen=True)
class Finding:
    """What the claims of one setting say about a message."""

    status: Status
    condition: str = ""
    judged: tuple[str, ...] = ()  # ids of the deciding claims, with data set
    missing: tuple[str, ...] = ()  # deciding claims without evidence in this setting


@cache
def messages() -> tuple[Message, ...]:
    """The rows of ``data/messages.yaml``."""
    rows = yaml.safe_load(
        (files("remi_lib") / "data" / "messages.yaml").read_text(encoding="utf-8")
    )
    found = []
    for row in rows:
        limits = tuple(Limit(**limit) for limit in row.pop("limits", ()))
        found.append(Message(**{**row, "decided_by": tuple(row["decided_by"]), "limits": limits}))
    return tuple(found)


def in_setting(message: Message, ledger: pd.DataFrame, setting: str) -> Finding:
    """What the evidence of one setting says about a message (rules 2 and 3)."""
    own = ledger[(ledger["setting"] == setting) & (ledger["verdict"] != NOT_RUN)]
    base, dataset = _split(own["id"])
    deciding = base.isin(message.decided_by)
    judged, missing = tuple(own["id"][deciding]), set(message.decided_by) - set(base)
    if missing:
        ordered = tuple(c for c in message.decided_by if c in missing)
        return Finding(Status.NOT_TESTED, judged=judged, missing=ordered)
    fixed = base.isin(set(base[deciding & (dataset == "")]))
    outcomes = {}
    for name in sorted(set(dataset[deciding]) - {""}) or [""]:
        chosen = deciding & ((dataset == name) | fixed)
        if set(base[chosen]) == set(message.decided_by):
            outcomes[name] = _outcome(own["verdict"][chosen])
    if not outcomes:  # the deciding claims were never judged on one data set together
        return Finding(Status.NOT_TESTED, judged=judged, missing=message.decided_by)
    conditions = _split_outcomes(outcomes, own, dataset)
    status = next((s for s in Status if s in outcomes.values()), Status.NOT_TESTED)
    if status is Status.REPRODUCED:
        conditions += _limits(message, ledger, setting)
        status = Status.CONDITION if conditions else status
    return Finding(status, "; ".join(conditions), judged)


def _split(ids: pd.Series) -> tuple[pd.Series, ...]:
    """The claim and the data set of each id, "" where it has none."""
    parts = [str(name).partition("@") for name in ids]
    return tuple(pd.Series([p[i] for p in parts], ids.index, dtype=str) for i in (0, 2))


def _outcome(verdicts: Iterable[str]) -> Status:
    verdicts = list(verdicts)
    if FAILS in verdicts:
        return Status.NOT_REPRODUCED
    decided = all(v in (HOLDS, CONFIRMED) for v in verdicts)
    return Status.REPRODUCED if decided else Status.NO_POWER


def _split_outcomes(
    outcomes: dict[str, Status], own: pd.DataFrame, dataset: pd.Series
) -> list[str]:
    """ "CIFAR-10: reproduced, MNIST: no power", where data sets of a setting disagree."""
    if len(set(outcomes.values())) < 2:
        return []
    title = {name: own["dataset"][dataset == name].iloc[0] for name in outcomes}
    return [", ".join(f"{title[name]}: {status}" for name, status in outcomes.items())]


def _limits(message: Message, ledger: pd.DataFrame, setting: str) -> list[str]:
    """The conditions that show in this setting or a larger one."""
    order = list(SETTINGS)
    seen = ledger[ledger["setting"].isin(order[: order.index(setting) + 1])]
    seen = seen[seen["verdict"] != NOT_RUN]
    base, _ = _split(seen["id"])
    found = []
    for limit in message.limits:
        verdicts = seen["verdict"][base == limit.claim]
        holds = verdicts.isin([HOLDS, CONFIRMED])
        if (holds if limit.if_it == HOLDS else ~holds).any():
            found.append(limit.condition)
    return found


def decide(message: Message, ledger: pd.DataFrame) -> tuple[str | None, Finding]:
    """The setting that decides a message (None: not tested) and what was found there (rule 1)."""
    for setting in ("paper", "reduced"):
        finding = in_setting(message, ledger, setting)
        if finding.status is not Status.NOT_TESTED:
            return setting, finding
    return None, Finding(Status.NOT_TESTED, missing=message.decided_by)


def table(ledger: pd.DataFrame, rows: Sequence[Message] | None = None) -> pd.DataFrame:
    """A row per message: status, condition, and what each setting's evidence says."""
    found = []
    for message in rows if rows is not None else messages():
        setting, finding = decide(message, ledger)
        row = {
            "id": message.id,
            "name": message.name,
            "message": message.message,
            "source": message.source,
            "status": str(finding.status),
            "condition": finding.condition,
            "decided by": setting or "",
        }
        for name in SETTINGS:
            seen = in_setting(message, ledger, name)
            words = said(seen, ledger)
            row[name] = SHOWN.get(words, words) + seen.condition if name == "stand-in" else words
        found.append(row)
    return pd.DataFrame(found)


def said(finding: Finding, ledger: pd.DataFrame) -> str:
    """A setting's evidence in a few words, also where some of its claims are missing."""
    if not finding.missing:
        return str(finding.status)
    rows = ledger[ledger["id"].isin(finding.judged)]
    counted = rows["verdict"].value_counts()
    total = len({name.partition("@")[0] for name in finding.judged}) + len(finding.missing)
    words = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    return f"part: {words} (of {total} claims)" if words else ""
