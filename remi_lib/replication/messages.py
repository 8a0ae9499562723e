"""The messages of a paper, and whether each was reproduced: computed from claims, never typed.

``data/messages.yaml`` names for each message its parts, the claim that decides each of them, and
the limits that make a condition of it.  The rule:

1. A message is decided in the largest setting in which *all* its deciding claims were judged: the
   paper's, else a reduced one.  A stand-in decides nothing; without the other two the message is
   "not tested".
2. There it is "not reproduced" if a deciding claim does not hold, "no power" if none fails and one
   is not resolved, and "reproduced" if all hold.  The parts that fail or are unresolved are named.
   A claim about where training ends is set aside, as if it were unresolved, where the control that
   it presumes, that the runs came that far, does not hold.  Where data sets of the setting disagree
   the worst outcome counts, and each is named; one on which some deciding claims only were judged
   counts where they do not all hold.
3. It is "reproduced with a condition" where a limit shows in that setting or a larger one (a
   stand-in has its own limits).  A message that is not reproduced says its limits too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files

import pandas as pd

from remi_lib.replication.claims import CONFIRMED, FAILS, HOLDS, NOT_RUN, SETTINGS
from remi_lib.replication.registry import PROVENANCES, known_datasets
from remi_lib.replication.store import read_yaml

KEPT = (HOLDS, CONFIRMED)
SET_ASIDE = "set aside"  # in place of the verdict of a claim that presumes what does not hold
TERMS = {  # what the table of messages needs to be read, wherever it stands
    "A claim": "has a threshold and a 95% interval. It holds if the interval lies on the right "
    "side of the threshold, fails if on the wrong side, and is unresolved if it crosses (in the "
    'ledger "no power", if it is too wide for the effect that the paper reports). Claims are '
    "judged one by one: of many at 95% a few go wrong.",
    "A message": "is reproduced if all its claims hold, with a condition if a further check "
    "shows where the result stops: the words after the status. It is not reproduced if one fails. "
    "It has no power if none fails and one is unresolved or set aside.",
    "Set aside:": "a claim about trained losses, whatever it says, where a check shows that the "
    "runs end too early or see too few images. This rule was written when the runs were known.",
    "The setting": "that decides is the paper's own where that could be run (of theorems, small "
    "problems of ours), else real data at a smaller size: of several data sets the worst outcome "
    "counts.",
    "A stand-in": "is another problem in the paper's place (digits for CIFAR-10, generated "
    "textures for ImageNet, a shorter staircase). It decides nothing: a message with nothing else "
    "is not tested.",
    "n": "counts the seeds, runs or samples of a claim; a calculated one needs none.",
}


def _short(name: str, title: str) -> str:
    """What the table of messages calls a data set; its title where it has no shorter name."""
    return known_datasets().get(name, {}).get("short", title)


def terms(ledger: pd.DataFrame) -> dict[str, str]:
    """:data:`TERMS`, and what the short names of reduced data mean."""
    judged = (ledger["setting"] == "reduced") & (ledger["verdict"] != NOT_RUN)
    own = ledger[judged & ledger["message"].notna()]
    _, names = _split(own["id"])
    pairs = dict.fromkeys(zip(names, own["dataset"], strict=True))
    said = [f'"{_short(*p)}": {p[1]}.' for p in pairs if _short(*p) != p[1]]
    added = {"A claim": _thresholds(ledger), "Set aside:": _saved(ledger)}
    known = {term: said + added.get(term, "") for term, said in TERMS.items()}
    return known | ({"Reduced data:": " ".join(said)} if said else {})


def _thresholds(ledger: pd.DataFrame) -> str:
    """ " Thresholds of the 41 that decide here: 5 fixed before the run, ...", of what was run."""
    ids = [name for message in messages() for name in decide(message, ledger)[1].judged]
    own = ledger[ledger["id"].isin(ids) & (ledger["verdict"] != CONFIRMED)]
    counts = own["provenance"].value_counts()
    words = ("fixed before the run", "committed with the first verdict", "set after a pilot")
    pairs = zip(PROVENANCES, words, strict=True)
    said = [f"{counts[name]} {word}" for name, word in pairs if name in counts]
    return f" Thresholds of the {counts.sum()} that decide here: {', '.join(said)}." if said else ""


def _saved(ledger: pd.DataFrame) -> str:
    """ " Without it 7, 10 would be not reproduced.": what setting claims aside changes."""
    found: dict[Status, list[str]] = {}
    for message in messages():
        without = decide(replace(message, presumes={}), ledger)[1].status
        if without is not decide(message, ledger)[1].status:
            found.setdefault(without, []).append(str(message.id))
    said = [f"{', '.join(ids)} would be {status}" for status, ids in found.items()]
    return f" Without it {'; '.join(said)}." if said else ""


class Status(StrEnum):
    """What became of a message."""

    REPRODUCED = "reproduced"
    CONDITION = "reproduced with a condition"
    NOT_REPRODUCED = "not reproduced"
    NO_POWER = "no power"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Limit:
    """A claim that makes a condition of a message; ``if_it`` is "holds" or "does not hold".

    "does not hold" includes a claim that is not resolved: what is not shown limits the message.
    ``if_it_fails``: the words where the opposite is shown.
    """

    claim: str
    if_it: str
    condition: str
    if_it_fails: str = ""


@dataclass(frozen=True)
class Message:
    """One message: the paper's sentence in short, its words and place, what decides and limits it.

    ``decided_by``: by deciding claim the part of the message that it decides.  ``presumes``: by
    control the deciding claims that say nothing where it does not hold.
    """

    id: int
    name: str
    message: str
    quote: str
    source: str
    decided_by: dict[str, str]
    limits: tuple[Limit, ...]
    presumes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """What would reproduce it: every part."""
        return "; ".join(self.decided_by.values())


@dataclass(frozen=True)
class Finding:
    """What the claims of one setting say about a message."""

    status: Status
    condition: str = ""
    judged: tuple[str, ...] = ()  # ids of the deciding claims, with data set


@cache
def messages() -> tuple[Message, ...]:
    """The rows of ``data/messages.yaml``."""
    rows = read_yaml(files("remi_lib") / "data" / "messages.yaml")
    return tuple(
        Message(**row | {"limits": tuple(Limit(**one) for one in row.get("limits", ()))})
        for row in rows
    )


def in_setting(message: Message, ledger: pd.DataFrame, setting: str) -> Finding:
    """What the evidence of one setting says about a message (rules 2 and 3)."""
    ledger = presumed(message, ledger)
    own = ledger[(ledger["setting"] == setting) & (ledger["verdict"] != NOT_RUN)]
    base, dataset = _split(own["id"])
    deciding = base.isin(message.decided_by)
    judged = tuple(own["id"][deciding])
    fixed = base.isin(set(base[deciding & (dataset == "")]))
    outcomes, whole = {}, {}
    for name in sorted(set(dataset[deciding]) - {""}) or [""]:
        chosen = deciding & ((dataset == name) | fixed)
        outcome = _outcome(own["verdict"][chosen])
        whole[name] = set(base[chosen]) == set(message.decided_by)
        if whole[name] or outcome is not Status.REPRODUCED:
            outcomes[name] = outcome
    if not any(whole.values()):  # never were all deciding claims judged on one data set
        return Finding(Status.NOT_TESTED, judged=judged)
    conditions = _split_outcomes(outcomes, own, dataset)
    worst = (Status.NOT_REPRODUCED, Status.NO_POWER, Status.REPRODUCED)
    status = next(s for s in worst if s in outcomes.values())
    if status is not Status.REPRODUCED:
        conditions += _parts(message, own["verdict"][deciding], base[deciding], status)
    conditions += _limits(message, ledger, setting)
    if status is Status.REPRODUCED and conditions:
        status = Status.CONDITION
    return Finding(status, "; ".join(conditions), judged)


def presumed(message: Message, ledger: pd.DataFrame) -> pd.DataFrame:
    """The ledger, in which a claim is set aside on a data set where what it presumes was judged
    and does not hold, or is not resolved."""
    base, dataset = _split(ledger["id"])
    verdict = ledger["verdict"].copy()
    fails = ~ledger["verdict"].isin([*KEPT, NOT_RUN])
    for control, claims in message.presumes.items():
        without = set(dataset[fails & (base == control)])
        judged = base.isin(claims) & (ledger["verdict"] != NOT_RUN)
        verdict[judged & dataset.isin(without)] = SET_ASIDE
    return ledger.assign(verdict=verdict)


def _split(ids: pd.Series) -> tuple[pd.Series, ...]:
    """The claim and the data set of each id, "" where it has none."""
    parts = [str(name).partition("@") for name in ids]
    return tuple(pd.Series([p[i] for p in parts], ids.index, dtype=str) for i in (0, 2))


def _outcome(verdicts: Iterable[str]) -> Status:
    verdicts = list(verdicts)
    if FAILS in verdicts:
        return Status.NOT_REPRODUCED
    decided = all(v in KEPT for v in verdicts)
    return Status.REPRODUCED if decided else Status.NO_POWER


def _split_outcomes(
    outcomes: dict[str, Status], own: pd.DataFrame, dataset: pd.Series
) -> list[str]:
    """ "on CIFAR-10: reproduced, on MNIST: no power", where data sets of a setting disagree."""
    if len(set(outcomes.values())) < 2:
        return []
    title = {name: _short(name, own["dataset"][dataset == name].iloc[0]) for name in outcomes}
    return [", ".join(f"on {title[name]}: {status}" for name, status in outcomes.items())]


def _parts(message: Message, verdicts: pd.Series, base: pd.Series, status: Status) -> list[str]:
    """The parts that keep a message from being reproduced: those that fail, else those that are not
    shown and those set aside.

    Where these are many, the few that are shown instead.
    """
    fails = status is Status.NOT_REPRODUCED
    left = set(base[verdicts == FAILS if fails else ~verdicts.isin(KEPT)])
    aside = left - set(base[~verdicts.isin([*KEPT, SET_ASIDE])])  # on every data set

    def named(claims: set[str]) -> list[str]:
        return [f'"{part}"' for claim, part in message.decided_by.items() if claim in claims]

    parts, shown = named(left), named(set(message.decided_by) - left)
    if len(parts) == len(message.decided_by) > 2:
        where = "" if left.isdisjoint(base[verdicts.isin(KEPT)]) else " on every data set"
        return ["all of its parts fail" if fails else f"none of its parts is shown{where}"]
    if fails:
        return [f"fails: {', '.join(parts)}"]
    if len(parts) > max(3, len(shown)):
        return [f"shown only: {', '.join(shown)}"]
    words = {"not shown": named(left - aside), SET_ASIDE: named(aside)}
    return [f"{word}: {', '.join(names)}" for word, names in words.items() if names]


def _limits(message: Message, ledger: pd.DataFrame, setting: str) -> list[str]:
    """The conditions that show in this setting or a larger one; of a stand-in in itself."""
    order = list(SETTINGS)
    larger = [setting] if setting == "stand-in" else order[: order.index(setting) + 1]
    seen = ledger[ledger["setting"].isin(larger)]
    seen = seen[seen["verdict"] != NOT_RUN]
    base, _ = _split(seen["id"])
    found = []
    for limit in message.limits:
        verdicts = seen["verdict"][base == limit.claim]
        holds = verdicts.isin(KEPT)
        if (holds if limit.if_it == HOLDS else ~holds).any():
            fails = limit.if_it_fails and (verdicts == FAILS).any()
            found.append(limit.if_it_fails if fails else limit.condition)
    return found


def decide(message: Message, ledger: pd.DataFrame) -> tuple[str | None, Finding]:
    """The setting that decides a message (None: not tested) and what was found there (rule 1)."""
    for setting in ("paper", "reduced"):
        finding = in_setting(message, ledger, setting)
        if finding.status is not Status.NOT_TESTED:
            return setting, finding
    return None, Finding(Status.NOT_TESTED)


def table(ledger: pd.DataFrame, rows: Sequence[Message] | None = None) -> pd.DataFrame:
    """A row per message: status, condition, and by setting the evidence that there is."""
    found = []
    for message in rows if rows is not None else messages():
        setting, finding = decide(message, ledger)
        row = {key: getattr(message, key) for key in ("id", "name", "message", "quote", "source")}
        row |= {"status": str(finding.status), "condition": finding.condition}
        row |= {"decided by": setting or ""}
        found.append(row | {name: evidence(message, ledger, name) for name in SETTINGS})
    return pd.DataFrame(found)


def evidence(message: Message, ledger: pd.DataFrame, setting: str) -> str:
    """A setting's evidence in a few words: "1 of 2 holds, 1 unresolved, n = 10"; "" without any.

    How many deciding claims hold, fail, are unresolved, set aside and were not run, and on how many
    seeds, runs or samples each rests.  Of reduced data also which they are, of a stand-in the
    condition under which it shows there.
    """
    ledger = presumed(message, ledger)
    base, dataset = _split(ledger["id"])
    chosen = (ledger["setting"] == setting) & (ledger["verdict"] != NOT_RUN)
    own = ledger[chosen & base.isin(message.decided_by)]
    if own.empty:
        return ""
    holds, fails = int(own["verdict"].isin(KEPT).sum()), int((own["verdict"] == FAILS).sum())
    aside = int((own["verdict"] == SET_ASIDE).sum())
    idle = len(set(message.decided_by) - set(base[own.index]))
    unresolved = len(own) - holds - fails - aside
    counted = {"fail": fails, "unresolved": unresolved, SET_ASIDE: aside, "not run": idle}
    words = [f"{holds} of {len(own) + idle} hold{'s' if holds == 1 else ''}"]
    words += [
        f"{count} {word}{'s' * (word == 'fail' and count == 1)}"
        for word, count in counted.items()
        if count
    ]
    sets = set(dataset[own.index]) - {""}
    words += [f"{len(sets)} data sets"] if len(sets) > 1 and setting != "reduced" else []
    sizes = sorted({int(n) for n in own["n"].dropna()})
    words += [f"n = {sizes[0]}" + (f"–{sizes[-1]}" if len(sizes) > 1 else "")] if sizes else []
    words += [f"{own['n'].isna().sum()} calculated"] if own["n"].isna().any() else []
    finding = in_setting(message, ledger, setting)
    but = setting == "stand-in" and finding.status is Status.CONDITION
    pairs = zip(dataset[own.index], own["dataset"], strict=True)
    reduced = dict.fromkeys(_short(*pair) for pair in pairs)
    named = f"; on {' and '.join(reduced)}" if setting == "reduced" else ""
    return ", ".join(words) + named + (f"; but {finding.condition}" if but else "")
