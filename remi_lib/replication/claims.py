"""Claims are tests on data: statement + statistic + threshold -> verdict with an interval.

The claims stand in ``data/claims/<notebook>.yaml`` with their source in the paper, the
statistic, the threshold fixed before the run and its reason.  Nothing here or there knows a
verdict.  An entry may stand for several: ``each: {loss: [mine, nwj]}`` fills ``{loss}`` in its
texts (``{Loss}`` the printed name), and every name in ``datasets`` makes a claim of its own,
because evidence on one data set is none on another.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pandas.io.formats.style import Styler

from remi_lib.intervals import Estimate
from remi_lib.losses import LOSSES, title
from remi_lib.paths import figures_dir
from remi_lib.replication.store import write_json

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "not resolved", "not run"


RULE = ("holds_if", "qualifier", "unless", "needs")  # of a claim; its entry has the outcome


@dataclass(frozen=True)
class Claim:
    """One checkable sentence.

    ``holds_if`` is the open interval (low, high) in which the statistic must lie; None is
    unbounded.  ``qualifier`` ("holds with a caveat: ...", "artefact of ...") replaces "holds" if
    the claim ``unless``, of the same notebook, does not hold.  ``needs`` says what
    a claim that was not run is waiting for.
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
    unless: str | None = None
    needs: str | None = None

    def verdict(self, estimate: Estimate) -> str:
        """By the whole 95% interval: inside holds, outside does not hold, else not resolved."""
        low, high = self.holds_if
        if any(math.isnan(x) for x in estimate):
            raise ValueError(f"claim {self.id}: the evidence is NaN; say how divergence counts")
        above = low is None or low < estimate.low
        below = high is None or estimate.high < high
        if above and below:
            return HOLDS
        if (low is not None and estimate.high <= low) or (
            high is not None and estimate.low >= high
        ):
            return FAILS
        return OPEN

    @property
    def threshold(self) -> str:
        low, high = self.holds_if
        if high is None:
            return f"> {low:g}"
        return f"< {high:g}" if low is None else f"in ({low:g}, {high:g})"


# What a data set is called in the ledger, and what a claim about it waits for.
DATASETS: dict[str, str] = {
    "digits": "digits (stand-in for CIFAR-10)",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "staircase_small": "Gaussian staircase, reduced (batch 32, width 64, 300 steps a level)",
    "staircase": "Gaussian staircase, the paper's size",
    "textures": "generated textures (stand-in for ImageNet)",
    "imagenet": "ImageNet",
}
EVIDENCE = ("cpu", "gpu")  # the profiles whose runs are evidence; a tiny one only tests the path
NEEDS = {name: f"{DATASETS[name]} and a GPU" for name in ("cifar10", "cifar100", "imagenet")}
NEEDS["staircase"] = "a GPU"


@cache
def registry() -> dict[str, Claim]:
    """Every claim by its id, notebook by notebook, in the order of the files."""
    claims: dict[str, Claim] = {}
    folder = files("remi_lib") / "data" / "claims"
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        for entry in yaml.safe_load(path.read_text()):
            for claim in _expanded(entry, path.name.removesuffix(".yaml")):
                if claim.id in claims:
                    raise ValueError(f"{path.name}: claim {claim.id!r} is there twice")
                claims[claim.id] = claim
    return claims


def _expanded(entry: dict, notebook: str) -> Iterator[Claim]:
    """The claims that one entry of a file stands for."""
    entry = dict(entry)
    filled: dict[str, Any]
    each, datasets = entry.pop("each", {}), entry.pop("datasets", None)
    low, high = entry.pop("holds_if")
    for chosen in product(*each.values()):
        names = dict(zip(each, chosen, strict=True))
        names |= {key.capitalize(): _printed(value) for key, value in names.items()}
        filled = {k: v.format(**names) if isinstance(v, str) else v for k, v in entry.items()}
        if datasets is None:
            yield Claim(notebook=notebook, holds_if=(low, high), **filled)
        for name in datasets or ():
            filled |= {"id": f"{filled['id'].split('@')[0]}@{name}", "dataset": DATASETS[name]}
            yield Claim(
                notebook=notebook, holds_if=(low, high), **{"needs": NEEDS.get(name), **filled}
            )


def _printed(value: str) -> str:
    return title(value) if value in LOSSES else value.upper()


class Ledger:
    """The verdicts of one notebook under one profile; ``datasets`` are those it ran on."""

    def __init__(self, notebook: str, profile: str, datasets: Sequence[str] = ()) -> None:
        self.notebook, self.profile = notebook, profile
        self.datasets = tuple(datasets)
        self.entries: dict[str, dict] = {}

    def judge(self, claim: str | Claim, estimate: Estimate) -> str:
        """Record and return the verdict on a claim: by id, or one of your own.

        Raises KeyError for an unknown id and ValueError for a claim of another notebook, an own
        claim under the id of another, or NaN evidence.
        """
        own = isinstance(claim, Claim)
        if isinstance(claim, str):
            claim = registry()[claim]
        elif claim.id in registry():
            raise ValueError(f"claim {claim.id} is there already")
        if claim.notebook != self.notebook:
            raise ValueError(f"claim {claim.id} belongs to {claim.notebook}, not {self.notebook}")
        record = {k: v for k, v in asdict(claim).items() if k not in RULE}
        self.entries[claim.id] = {
            **record,
            **({"own": True} if own else {}),
            "threshold": claim.threshold,
            "value": _plain(estimate.value),
            "interval": [_plain(estimate.low), _plain(estimate.high)],
            "verdict": claim.verdict(estimate),
        }
        self._qualify()
        return self.entries[claim.id]["verdict"]

    def _qualify(self) -> None:
        """Put the caveat to what holds, once the claim that gives the reason has failed."""
        for claim in map(registry().get, self.entries):
            if claim is not None and claim.unless in self.entries:
                entry, cause = self.entries[claim.id], self.entries[claim.unless]
                if entry["verdict"] == HOLDS and cause["verdict"] == FAILS:
                    entry["verdict"] = claim.qualifier

    def due(self) -> list[str]:
        """The claims this notebook has to judge: those of its own data sets, or of none."""
        own = [c for c in registry().values() if c.notebook == self.notebook]
        return [
            c.id
            for c in own
            if (c.id.split("@")[1] in self.datasets if "@" in c.id else not c.needs)
        ]

    def table(self, *prefixes: str) -> pd.DataFrame:
        """The judged claims, or those whose id begins with one of the prefixes, for display."""
        entries = [e for e in self.entries.values() if e["id"].startswith(prefixes or ("",))]
        return pd.DataFrame(
            {
                "claim": [e["statement"] for e in entries],
                "statistic": [e["statistic"] for e in entries],
                "measured": [measured(e) for e in entries],
                "holds if": [e["threshold"] for e in entries],
                "verdict": [e["verdict"] for e in entries],
            }
        )

    def save(self) -> Styler:
        """Write ``claims/<notebook>.json`` and return the verdicts as a table for display.

        Raises ValueError if a claim that is due was left unjudged.
        """
        unjudged = [claim for claim in self.due() if claim not in self.entries]
        if unjudged:
            raise ValueError(f"ledger {self.notebook}: unjudged claims {unjudged}")
        path = figures_dir(self.profile) / "claims" / f"{self.notebook}.json"
        write_json(list(self.entries.values()), path)
        return self.table().style.hide()

    def verdicts(self) -> str:
        """One line per claim, what nbval compares with the committed notebook."""
        return "\n".join(map(verdict_line, self.entries.values()))


def measured(entry: Mapping[str, Any]) -> str:
    """The value of a judged claim with its interval; an exact number alone."""
    value, low, high = (f"{float(x):.3g}" for x in (entry["value"], *entry["interval"]))
    return value if low == high else f"{value} [{low}, {high}]"


def verdict_line(entry: Mapping[str, Any]) -> str:
    """``id: verdict`` of a judged claim.

    REMI_REFERENCE names the figures that a check compares with.  Seeds are few and training is
    chaotic, so on another CPU a statistic near its threshold may land on the other side of it.
    If its value there is compatible with the reference's, the line repeats the reference's
    verdict and says "(here: ...)", which nbval is told to overlook; otherwise it differs.
    """
    line = f"{entry['id']}: {entry['verdict']}"
    reference = os.environ.get("REMI_REFERENCE")
    committed = _committed(Path(reference), entry["notebook"]) if reference else {}
    former = committed.get(entry["id"])
    if former and former["verdict"] != entry["verdict"] and compatible(former, entry):
        return f"{entry['id']}: {former['verdict']} (here: {entry['verdict']})"
    return line


def _committed(figures: Path, notebook: str) -> dict[str, dict]:
    paths = figures.glob(f"*/claims/{notebook}.json")
    return {entry["id"]: entry for path in paths for entry in json.loads(path.read_text())}


def compatible(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two measurements of a statistic differ by no more than their intervals allow."""
    a, b = float(first["value"]), float(second["value"])
    if a == b or not (math.isfinite(a) and math.isfinite(b)):
        return a == b
    ends = [[float(x) for x in entry["interval"]] for entry in (first, second)]
    # An end that is not finite has no width to share: it must be the same on both sides.
    if any(x != y for x, y in zip(*ends, strict=True) if not math.isfinite(x + y)):
        return False
    reach = [abs(x - value) for value, e in zip((a, b), ends, strict=True) for x in e]
    return abs(a - b) <= max(sum(x for x in reach if math.isfinite(x)) / 2, 1e-6)


def _plain(value: float) -> float | str:
    """A number as strict JSON has it: JSON knows no infinity."""
    return round(value, 6) if math.isfinite(value) else str(value)


def collect(profile: str) -> pd.DataFrame:
    """The whole ledger as one profile sees it: a row per claim, in the order of the files.

    Evidence of another profile counts where this one has none.  A claim without evidence is "not
    run" with what it needs.
    """
    found: dict[str, dict] = {}
    own = figures_dir(profile)
    others = [own.parent / name for name in EVIDENCE if own.parent / name != own]
    for folder in [*others, own]:
        for path in sorted((folder / "claims").glob("*.json")):
            for entry in json.loads(path.read_text()):
                found[entry["id"]] = {**entry, "profile": folder.name}
    rows = []
    for claim in registry().values():
        row = {k: v for k, v in asdict(claim).items() if k not in RULE}
        missing = {
            **row,
            "threshold": claim.threshold,
            "value": None,
            "interval": None,
            "verdict": f"{NOT_RUN} (needs {claim.needs or claim.notebook})",
            "profile": None,
        }
        rows.append(found.pop(claim.id, missing))
    # What is left was claimed by somebody's own notebook, or by files that are no more.
    rows += [entry for entry in found.values() if entry.pop("own", False)]
    return pd.DataFrame(rows)
