"""What "fixed before" says about git: the threshold was committed before its first verdict."""

from __future__ import annotations

import re
import shutil
import subprocess
from fnmatch import fnmatch

import pytest

from remi_lib.replication.registry import registry
from tests.conftest import ROOT


def commits_that_name(text: str, *paths: str) -> list[int]:
    """How many commits precede those that added or removed a text under some paths."""
    command = ["git", "log", "--reverse", "--format=%H", f"-S{text}", "--", *paths]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ORDER[line] for line in found.stdout.split() if line in ORDER]


def order() -> dict[str, int]:
    """The place of every commit in the history; empty without one."""
    command = ["git", "rev-list", "--reverse", "--topo-order", "HEAD"]
    if shutil.which("git") is None:
        return {}
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return {line: i for i, line in enumerate(found.stdout.split())}


ORDER = order()
BRACES = re.compile(r"\{\w+\}")


def entry_of(claim: str) -> str:
    """The id as it stands in the files: its own, or with {...} where one entry makes several."""
    texts = [p.read_text(encoding="utf-8") for p in ROOT.glob("remi_lib/data/claims/*.yaml")]
    ids = re.findall(r"^- id: (.+)$", "\n".join(texts), re.M)
    return claim if claim in ids else next(i for i in ids if fnmatch(claim, BRACES.sub("*", i)))


@pytest.mark.skipif(len(ORDER) < 50, reason="no history, or a shallow one")
@pytest.mark.parametrize("notebook", sorted({c.notebook for c in registry().values()}))
def test_what_was_fixed_before_is_older_than_its_first_verdict(notebook):
    """Also than any verdict of its notebook, so that what is merged later does not inherit it.

    Of a claim about named data sets: than any verdict of its notebook about one of them.
    """
    verdicts = f"figures/*/claims/{notebook}.json"
    for claim in registry().values():
        if claim.notebook != notebook or claim.provenance != "fixed before":
            continue
        judged = commits_that_name(f'"id": "{claim.id}', "figures/*/claims/*.json")
        if judged:  # what was never judged was fixed before
            written = commits_that_name(f"- id: {entry_of(claim.id)}\n", "remi_lib/data/claims")
            assert written, f"{claim.id}: git does not show it; say `with` or `after a pilot`"
            about = [f'@{name}"' for name in claim.datasets] or ['"verdict"']
            first = [place for text in about for place in commits_that_name(text, verdicts)]
            assert min(written) < min([*judged, *first]), claim.id
