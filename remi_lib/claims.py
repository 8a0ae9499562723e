"""Claims are tests on data: statement + statistic + threshold -> verdict with an interval.

The claims stand in ``data/claims/<notebook>.yaml`` with their source in the paper, the
statistic, the threshold fixed before the run and its reason.  Nothing here or there knows a
verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd
import yaml

from remi_lib.evaluation import Estimate
from remi_lib.store import figures_dir, write_json

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "not resolved", "not run"


@dataclass(frozen=True)
class Claim:
    """One checkable sentence.

    ``holds_if`` is the open interval (low, high) in which the statistic must lie; None is
    unbounded.  ``qualifier`` replaces a plain "holds" ("holds with a caveat: ...", "artefact of
    ...").  ``needs`` says what a claim that was not run is waiting for.
    """

    id: str
    notebook: str
    source: str
    statement: str
    dataset: str
    statistic: str
    holds_if: tuple[float | None, float | None]
    reason: str
    qualifier: str | None = None
    needs: str | None = None

    def verdict(self, estimate: Estimate) -> str:
        """By the whole 95% interval: inside holds, outside does not hold, else not resolved."""
        low = -math.inf if self.holds_if[0] is None else self.holds_if[0]
        high = math.inf if self.holds_if[1] is None else self.holds_if[1]
        if any(math.isnan(x) for x in estimate):
            raise ValueError(f"claim {self.id}: the evidence is NaN; say how divergence counts")
        if low < estimate.low and estimate.high < high:
            return self.qualifier or HOLDS
        if estimate.high <= low or estimate.low >= high:
            return FAILS
        return OPEN

    @property
    def threshold(self) -> str:
        low, high = self.holds_if
        if high is None:
            return f"> {low:g}"
        return f"< {high:g}" if low is None else f"in ({low:g}, {high:g})"


@cache
def registry() -> dict[str, Claim]:
    """Every claim by its id, notebook by notebook, in the order of the files."""
    claims: dict[str, Claim] = {}
    folder = files("remi_lib") / "data" / "claims"
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        for entry in yaml.safe_load(path.read_text()):
            low, high = entry.pop("holds_if")
            claim = Claim(notebook=path.name.removesuffix(".yaml"), holds_if=(low, high), **entry)
            if claim.id in claims:
                raise ValueError(f"{path.name}: claim {claim.id!r} is there twice")
            claims[claim.id] = claim
    return claims


class Ledger:
    """The verdicts of one notebook under one profile."""

    def __init__(self, notebook: str, profile: str) -> None:
        self.notebook, self.profile = notebook, profile
        self.entries: dict[str, dict] = {}

    def judge(self, claim_id: str, estimate: Estimate, dataset: str | None = None) -> str:
        """Record the verdict on a claim; ``dataset`` overrides the claim's own (a stand-in's name).

        Raises KeyError for an unknown id and ValueError for a claim of another notebook.
        """
        claim = registry()[claim_id]
        if claim.notebook != self.notebook:
            raise ValueError(f"claim {claim_id} belongs to {claim.notebook}, not {self.notebook}")
        verdict = claim.verdict(estimate)
        record = {k: v for k, v in asdict(claim).items() if k not in ("holds_if", "needs")}
        self.entries[claim_id] = {
            **record,
            "dataset": dataset or claim.dataset,
            "threshold": claim.threshold,
            "value": round(estimate.value, 6),
            "interval": [round(estimate.low, 6), round(estimate.high, 6)],
            "verdict": verdict,
        }
        return verdict

    def save(self) -> pd.DataFrame:
        """Write ``claims/<notebook>.json`` and return the verdicts as a table.

        Raises ValueError if a claim of this notebook and profile was left unjudged.
        """
        due = {c.id for c in registry().values() if c.notebook == self.notebook and not c.needs}
        if due - set(self.entries):
            raise ValueError(
                f"ledger {self.notebook}: unjudged claims {sorted(due - set(self.entries))}"
            )
        path = figures_dir(self.profile) / "claims" / f"{self.notebook}.json"
        write_json(list(self.entries.values()), path)
        return pd.DataFrame(self.entries.values())[
            ["id", "statement", "statistic", "value", "interval", "threshold", "verdict"]
        ]

    def verdicts(self) -> str:
        """One stable line per claim, what nbval compares."""
        return "\n".join(f"{key}: {entry['verdict']}" for key, entry in self.entries.items())


def collect(profile: str, notebooks: Iterable[str] | None = None) -> pd.DataFrame:
    """The whole ledger of a profile; a claim without evidence is "not run" with what it needs."""
    folder: Path = figures_dir(profile) / "claims"
    found: dict[str, dict] = {}
    for path in sorted(folder.glob("*.json")):
        found.update({entry["id"]: entry for entry in json.loads(path.read_text())})
    rows = []
    for claim in registry().values():
        row = {k: v for k, v in asdict(claim).items() if k not in ("holds_if", "needs")}
        missing = {
            **row,
            "threshold": claim.threshold,
            "value": None,
            "interval": None,
            "verdict": f"{NOT_RUN} (needs {claim.needs or claim.notebook})",
        }
        rows.append(found.get(claim.id, missing))
    frame = pd.DataFrame(rows)
    return frame if notebooks is None else frame[frame["notebook"].isin(list(notebooks))]
