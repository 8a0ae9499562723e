"""The ledger: claims judged on data; statement, statistic and threshold give a verdict."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike
from pandas.io.formats.style import Styler

from remi_lib.intervals import LEVEL, Estimate
from remi_lib.paths import figures_dir
from remi_lib.replication.evidence import Evidence, holm, measure, p_value
from remi_lib.replication.registry import (  # noqa: F401 - others find them here
    CONFIRMED,
    DATASETS,
    FAILS,
    HOLDS,
    KINDS,
    NO_POWER,
    NOT_RUN,
    OPEN,
    SETTINGS,
    Claim,
    Verdict,
    known_datasets,
    registry,
)
from remi_lib.replication.store import read_json, write_json

EVIDENCE = ("cpu", "overnight", "gpu32", "gpu")  # whose runs are evidence, smallest first
RULE = ("holds_if", "qualifier", "unless", "needs", "datasets")  # of a claim, not of its entry


class Ledger:
    """The verdicts of one notebook under one profile; ``datasets`` are those it ran on."""

    def __init__(self, notebook: str, profile: str, datasets: Sequence[str] = ()) -> None:
        self.notebook, self.profile = notebook, profile
        self.datasets = tuple(datasets)
        self.entries: dict[str, dict] = {}

    def judge(
        self,
        claim: str | Claim,
        evidence: Evidence | Estimate | ArrayLike,
        parts: Mapping[str, Evidence | ArrayLike] | None = None,
    ) -> Verdict:
        """Record and return the verdict on a claim: by id (``id@dataset``), or one of your own.

        ``evidence``: a sample per seed, from which the claim's estimand is computed, or what
        :mod:`evidence` or :mod:`~remi_lib.intervals` made of them.  ``parts``: the same for each
        member of a family; they are recorded, with Holm's p-values, and decide nothing.
        """
        own = isinstance(claim, Claim)
        found = self._named(claim) if isinstance(claim, str) else claim
        if own and found.id in registry():
            raise ValueError(f"claim {found.id} is there already")
        if found.notebook != self.notebook:
            raise ValueError(f"claim {found.id} belongs to {found.notebook}, not {self.notebook}")
        try:
            evidence = _evidence(found, evidence)
            shown = _parts(found, parts or {})
        except ValueError as error:
            if self.profile in EVIDENCE:
                raise ValueError(f"claim {found.id}: {error}") from None
            # A profile that only tests the path may be too small to say anything.
            self.entries[found.id] = _unsaid(found, f"refused: {error}")
            return NOT_RUN
        self.entries[found.id] = {
            **{k: v for k, v in asdict(found).items() if k not in RULE},
            **({"own": True} if own else {}),
            "estimand": evidence.estimand,
            "threshold": found.threshold,
            **_numbers(evidence),
            "n": evidence.n,
            "few": evidence.few,
            "sees": _plain(evidence.sees),
            "verdict": found.verdict(evidence),
            "qualifier": None,
            "parts": shown,
        }
        _qualify(self.entries)
        return self.entries[found.id]["verdict"]

    def _named(self, name: str) -> Claim:
        key, _, dataset = name.partition("@")
        found = registry()[key]
        return found.on(dataset, self.profile) if dataset else found

    def due(self) -> list[str]:
        """What this notebook has to judge: its claims, on those of their data sets that it ran."""
        due = []
        for claim in registry().values():
            if claim.notebook != self.notebook:
                continue
            if claim.datasets:
                due += [f"{claim.id}@{name}" for name in claim.datasets if name in self.datasets]
            elif not claim.needs:
                due.append(claim.id)
        return due

    def table(self, *prefixes: str) -> pd.DataFrame:
        """The judged claims for display, or those whose id begins with one of the prefixes."""
        entries = [e for e in self.entries.values() if e["id"].startswith(prefixes or ("",))]
        return pd.DataFrame(
            {
                "claim": [e["statement"] for e in entries],
                "verdict": [worded(e) for e in entries],
                "measured": [measured(e) for e in entries],
                "holds if": [e["threshold"] for e in entries],
                "statistic": [e["statistic"] for e in entries],
                "sees": ["" if e["sees"] is None else f"{float(e['sees']):.2g}" for e in entries],
            }
        )

    def save(self, complete: bool = True) -> Styler:
        """Write ``claims/<notebook>.json`` and return the verdicts as a table for display.

        Every claim that is due must be judged, unless the evidence is said not to be ``complete``:
        long runs are judged as far as they have come, the rest is "not run".  Several judges then
        share the file, each with runs of its own: what it holds of other claims stays, and one that
        has judged nothing writes nothing.
        """
        unjudged = [claim for claim in self.due() if claim not in self.entries]
        if unjudged and complete:
            raise ValueError(f"ledger {self.notebook}: unjudged claims {unjudged}")
        path = figures_dir(self.profile) / "claims" / f"{self.notebook}.json"
        earlier = {} if complete or not path.exists() else _in_force(read_json(path))
        if complete or self.entries:
            whole = earlier | self.entries
            _qualify(whole)
            write_json(list(whole.values()), path)
        return self.table().style.hide()

    def verdicts(self) -> str:
        """One line per claim, what nbval compares with the committed notebook."""
        lines = [verdict_line({**e, "profile": self.profile}) for e in self.entries.values()]
        return "\n".join(lines)


def _qualify(entries: Mapping[str, dict]) -> None:
    """Put the qualifier to what holds, once the claim that gives the reason has failed."""
    for name, entry in entries.items():
        claim = registry().get(name.partition("@")[0])
        if claim is None or claim.unless is None:
            continue
        cause = entries.get(name.replace(claim.id, claim.unless, 1))
        failed = cause is not None and cause["verdict"] == FAILS
        entry["qualifier"] = claim.qualifier if failed and entry["verdict"] == HOLDS else None


def _in_force(entries: Sequence[dict]) -> dict[str, dict]:
    """Those entries whose claim is still what it was when they were judged, by id."""
    found = {}
    for entry in entries:
        claim = registry().get(entry["id"].partition("@")[0])
        now = claim and (claim.statistic, claim.threshold)
        if now == (entry["statistic"], entry["threshold"]):
            found[entry["id"]] = entry
    return found


def _evidence(claim: Claim, given: Evidence | Estimate | ArrayLike) -> Evidence:
    """The evidence for a claim; a statistic of another estimand than the claim's is refused."""
    if isinstance(given, Estimate):  # a tuple, which would else be three samples
        if given.level < LEVEL:
            raise ValueError(f"{given} is an interval of {given.level:.0%}, a verdict needs 95%")
        given = Evidence(given.estimand, *given, given.n)
    if not isinstance(given, Evidence):
        given = measure(claim.estimand or "mean", given)
    if claim.estimand and given.estimand != claim.estimand:
        raise ValueError(f"the estimand is the {claim.estimand}, the evidence {given.estimand}")
    return given.checked()


def _parts(claim: Claim, parts: Mapping[str, Evidence | ArrayLike]) -> dict[str, dict]:
    """Each member of a family with its interval; of a mean also p, adjusted for the family."""
    bounds = [x for x in claim.holds_if if x is not None]
    sign = len(bounds) == 1 and claim.estimand == "mean"
    raw = {
        name: None if isinstance(given, Evidence) or not sign else p_value(given, bounds[0])
        for name, given in parts.items()
    }
    found = {}
    for name, p in holm(raw).items():
        given = parts[name]
        own = given.checked() if isinstance(given, Evidence) else measure(claim.estimand, given)
        found[name] = _numbers(own) | ({"p_holm": _plain(p)} if p is not None else {})
    return found


def _numbers(evidence: Evidence) -> dict[str, Any]:
    interval = [_plain(evidence.low), _plain(evidence.high)]
    return {"value": _plain(evidence.value), "interval": interval}


def _plain(value: float) -> float | str:
    """A number as strict JSON has it: JSON knows no infinity."""
    return round(float(value), 6) if math.isfinite(value) else str(float(value))


def measured(entry: Mapping[str, Any]) -> str:
    """The value of a judged claim with its interval; a number without scatter alone."""
    if entry["value"] is None:
        return ""
    value, low, high = (f"{float(x):.3g}" for x in (entry["value"], *entry["interval"]))
    if low == high:
        return f"{value} at each of {entry['n']}" if entry.get("n") else value
    marked = f" (n = {entry['n']})" if entry.get("few") else ""
    return f"{value} [{low}, {high}]{marked}"


def statistic(entry: Mapping[str, Any]) -> str:
    """What was measured in words, after what is estimated of it: "median: SD of ..."."""
    return f"{entry['estimand']}: {entry['statistic']}"


def worded(entry: Mapping[str, Any]) -> str:
    """The verdict with its qualifier."""
    qualifier = entry.get("qualifier")
    return f"{entry['verdict']} ({qualifier})" if qualifier else f"{entry['verdict']}"


def verdict_line(entry: Mapping[str, Any]) -> str:
    """``id: verdict`` of a judged claim.

    Seeds are few and training is chaotic: on another CPU a statistic near its threshold may land on
    the other side of it.  If its value is compatible with the one in REMI_REFERENCE's figures, the
    line repeats the verdict there and says "(here: ...)", which nbval is told to overlook.
    """
    line = f"{entry['id']}: {worded(entry)}"
    reference = os.environ.get("REMI_REFERENCE")
    where = f"{entry.get('profile') or '*'}/claims/{entry['notebook']}.json"
    committed = _committed(Path(reference), where) if reference else {}
    former = committed.get(entry["id"])
    if former and worded(former) != worded(entry) and compatible(former, entry):
        return f"{entry['id']}: {worded(former)} (here: {worded(entry)})"
    return line


def _committed(figures: Path, where: str) -> dict[str, dict]:
    return {entry["id"]: entry for path in figures.glob(where) for entry in read_json(path)}


def compatible(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two measurements of a statistic differ by no more than their intervals allow."""
    if first["value"] is None or second["value"] is None:  # nothing measured, of a path that is
        return first["value"] is second["value"]  # only tested
    a, b = float(first["value"]), float(second["value"])
    if a == b or not (math.isfinite(a) and math.isfinite(b)):
        return a == b
    ends = [[float(x) for x in entry["interval"]] for entry in (first, second)]
    # An end that is not finite has no width to share: it must be the same on both sides.
    if any(x != y for x, y in zip(*ends, strict=True) if not math.isfinite(x + y)):
        return False
    reach = [abs(x - value) for value, e in zip((a, b), ends, strict=True) for x in e]
    return abs(a - b) <= max(sum(x for x in reach if math.isfinite(x)) / 2, 1e-6)


def collect(profile: str) -> pd.DataFrame:
    """The whole ledger as one profile sees it: a row per claim and data set, in the files' order.

    Of the profiles in EVIDENCE the largest that judged a claim gives its entry; another profile's
    own entries come before them.  A claim that nobody judged since its threshold or statistic is
    what it is now is one row, "not run".
    """
    found: dict[str, dict] = {}
    own = figures_dir(profile)
    folders = [own.parent / name for name in EVIDENCE]
    for folder in [*folders, *([own] if profile not in EVIDENCE else [])]:
        for path in sorted((folder / "claims").glob("[!.]*.json")):
            for entry in read_json(path):
                if entry.get("own") or _in_force([entry]):
                    found[entry["id"]] = {**entry, "profile": folder.name}
    rows: list[dict] = []
    for claim in registry().values():
        keys = [key for key in found if key.partition("@")[0] == claim.id]
        rows += [found.pop(key) for key in keys] or [_waiting(claim)]
    # What is left was claimed by somebody's own notebook, or by files that are no more.
    rows += [entry for entry in found.values() if entry.get("own")]
    columns = list(_waiting(next(iter(registry().values()))))
    found_rows = pd.DataFrame(rows, columns=columns, dtype=object)
    return found_rows.where(found_rows.notna(), None).astype({"message": "Int64"})


def _waiting(claim: Claim) -> dict[str, Any]:
    needs = [known_datasets()[name].get("needs") for name in claim.datasets]
    waits = list(dict.fromkeys(str(claim.needs or n) for n in needs if claim.needs or n))
    titles = ", ".join(known_datasets()[name]["title"] for name in claim.datasets)
    reason = f"needs {'; '.join(waits) or claim.needs or claim.notebook}"
    return {**_unsaid(claim, reason), "dataset": claim.dataset or titles, "profile": None}


def _unsaid(claim: Claim, reason: str) -> dict[str, Any]:
    """The entry of a claim of which nothing was measured, and why."""
    return {
        **{k: v for k, v in asdict(claim).items() if k not in RULE},
        "threshold": claim.threshold,
        "value": None,
        "interval": None,
        "n": None,
        "few": False,
        "sees": None,
        "verdict": NOT_RUN,
        "qualifier": reason,
        "parts": {},
    }
