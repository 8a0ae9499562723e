"""What "fixed before" says about git: the threshold was committed before its first verdict."""

from __future__ import annotations

import subprocess

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
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return {line: i for i, line in enumerate(found.stdout.split())}


ORDER = order()


@pytest.mark.skipif(len(ORDER) < 50, reason="no history, or a shallow one")
@pytest.mark.parametrize("notebook", sorted({c.notebook for c in registry().values()}))
def test_what_was_fixed_before_is_older_than_its_first_verdict(notebook):
    claims = [c for c in registry().values() if c.notebook == notebook]
    for claim in claims:
        if claim.provenance != "fixed before":
            continue
        stem = claim.id
        written = commits_that_name(f"- id: {stem}\n", "remi_lib/data/claims")
        judged = commits_that_name(f'"id": "{stem}', "figures")
        if written and judged:
            assert min(written) < min(judged), claim.id
