"""The claims: sentences with a statistic and a threshold, in files.

The claims stand in ``data/claims/<notebook>.yaml`` with their source in the paper, the statistic,
the threshold and its reason, and whether git shows the threshold before its first verdict.  Nothing
here or there knows a verdict.  A claim with ``datasets`` is judged on each of them apart
(``id@dataset``), because evidence on one data set is none on another; ``each: {loss: [mine, nwj]}``
makes a claim of every combination and fills ``{loss}`` in its texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any

from remi_lib.replication.evidence import ESTIMANDS, Evidence, measure
from remi_lib.replication.store import read_yaml


class Verdict(StrEnum):
    """What the data say about a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "not resolved"
    NO_POWER = "no power"
    CONFIRMED = "confirmed by calculation"
    NOT_RUN = "not run"


HOLDS, FAILS, OPEN, NO_POWER, CONFIRMED, NOT_RUN = Verdict

KINDS = {
    "paper": "a sentence of the paper",
    "control": "what the paper's sentence needs in order to mean something, or a check of its text",
    "identity": "decided by mathematics; a calculation shows it, outside the count",
    "own": "about this library or beyond the paper, outside the replication",
}
SETTINGS = {
    "paper": "the paper's problem and size",
    "reduced": "the real problem, reduced in size",
    "stand-in": "another problem in its place; it decides nothing",
}
PROVENANCES = ("fixed before", "with", "after a pilot")


@dataclass(frozen=True)
class Claim:
    """One checkable sentence.

    ``holds_if`` is the open interval (low, high) in which the statistic must lie; None is
    unbounded.  ``effect`` is the size that the paper reports of what is compared.  ``provenance``
    says what git shows about the threshold: "fixed before" the first verdict, committed "with" it,
    or written "after a pilot" whose numbers were known.  ``qualifier`` is put to a verdict "holds"
    if the claim ``unless``, of the same notebook, does not hold.  ``needs`` says what a claim that
    was not run waits for.
    """

    id: str
    notebook: str
    source: str
    statement: str
    dataset: str
    statistic: str
    holds_if: tuple[float | None, float | None]
    reason: str
    message: int | None = None
    kind: str = "own"
    setting: str = "paper"
    estimand: str = ""  # one of ESTIMANDS; "" leaves it to the evidence (claims of one's own)
    provenance: str = "with"
    effect: float | dict[str, float] | None = None  # by data set; "" is the others'
    qualifier: str | None = None
    unless: str | None = None
    needs: str | None = None
    datasets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = (
            ("kind", tuple(KINDS)),
            ("setting", tuple(SETTINGS)),
            ("provenance", PROVENANCES),
            ("estimand", ("", *ESTIMANDS)),
        )
        for name, allowed in known:
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"claim {self.id}: {name} {getattr(self, name)!r} is none of {allowed}"
                )
        if None not in self.holds_if and self.effect is not None:
            raise ValueError(f"claim {self.id}: effect is for a claim about a sign, one threshold")

    def verdict(self, evidence: Evidence) -> Verdict:
        """By the whole 95% interval: inside holds, outside does not hold, else not resolved.

        A claim that is not resolved has "no power" if it could not have seen the paper's effect, or
        if it is a share of so few seeds that all of them alike would not have resolved it either.
        """
        side = self._side(evidence)
        if side is HOLDS and self.kind == "identity":
            return CONFIRMED
        unseen = isinstance(self.effect, float) and evidence.sees > self.effect
        return NO_POWER if side is OPEN and (unseen or self._too_few(evidence)) else side

    def _side(self, evidence: Evidence) -> Verdict:
        """On which side of the thresholds the interval lies."""
        low, high = self.holds_if
        above = low is None or low < evidence.low
        below = high is None or evidence.high < high
        if above and below:
            return HOLDS
        beneath = low is not None and evidence.high <= low
        beyond = high is not None and evidence.low >= high
        return FAILS if beneath or beyond else OPEN

    def _too_few(self, evidence: Evidence) -> bool:
        """Whether it is a share of so few seeds that none or all of them leave it open too."""
        if evidence.estimand != "share" or evidence.n is None:
            return False
        extremes = (measure("share", [alike] * evidence.n) for alike in (False, True))
        return all(self._side(extreme) is OPEN for extreme in extremes)

    @property
    def threshold(self) -> str:
        """ "> 0.5", "< 0.2", or "in (2.2, 2.8)"."""
        low, high = self.holds_if
        if high is None:
            return f"> {low:g}"
        return f"< {high:g}" if low is None else f"in ({low:g}, {high:g})"

    def on(self, name: str, profile: str) -> Claim:
        """The claim about one of its data sets, in the setting that the profile has."""
        if name not in self.datasets:
            raise KeyError(f"claim {self.id}: is not about {name!r} but {self.datasets}")
        found = known_datasets()[name]
        found = found | found.get("profiles", {}).get(profile, {})
        effect = self.effect
        if isinstance(effect, dict):
            effect = effect.get(name, effect[""])
        return replace(
            self,
            effect=effect,
            id=f"{self.id}@{name}",
            dataset=found["title"],
            setting=found["setting"],
            needs=self.needs or found.get("needs"),
        )


@cache
def known_datasets() -> dict[str, dict[str, Any]]:
    """The problems that claims are about: printed title, setting, what they need."""
    return read_yaml(files("remi_lib") / "data" / "datasets.yaml")


DATASETS: dict[str, str] = {name: found["title"] for name, found in known_datasets().items()}


@cache
def registry() -> dict[str, Claim]:
    """Every claim by its id, without data set, notebook by notebook, in the order of the files."""
    claims: dict[str, Claim] = {}
    folder = files("remi_lib") / "data" / "claims"
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        for entry in read_yaml(path):
            for claim in _expanded(entry, path.name.removesuffix(".yaml")):
                if claim.id in claims:
                    raise ValueError(f"{path.name}: claim {claim.id!r} is there twice")
                claims[claim.id] = claim
    return claims


def _expanded(entry: dict, notebook: str) -> Iterator[Claim]:
    """The claims that one entry of a file stands for."""
    entry = {"notebook": notebook, "dataset": "", **entry}
    each, datasets = entry.pop("each", {}), tuple(entry.pop("datasets", ()))
    low, high = entry.pop("holds_if")
    for chosen in product(*each.values()):
        names = dict(zip(each, chosen, strict=True))
        filled: dict[str, Any] = {
            k: v.format(**names) if isinstance(v, str) else v for k, v in entry.items()
        }
        yield Claim(**{**filled, "holds_if": (low, high), "datasets": datasets})
