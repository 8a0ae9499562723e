"""Every Python block of the README and of docs/ runs, alone, as somebody would paste it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from remi_lib import losses
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md")))]
BLOCKS = re.findall(r"^```python\n(.*?)^```", "\n".join(PAGES), flags=re.MULTILINE | re.DOTALL)


def named(block: str) -> str:
    return re.sub(r"\W+", "-", block.splitlines()[0])[:40]


def test_the_readme_has_its_snippets():
    assert README.count("```python") >= 3
    assert len(BLOCKS) == sum(page.count("```python") for page in PAGES) >= 4


@pytest.mark.parametrize("half", [False, True], ids=["as it is", "autocast"])
@pytest.mark.parametrize("block", BLOCKS, ids=map(named, BLOCKS))
def test_snippet(block, half, monkeypatch):
    monkeypatch.setattr(losses, "_RECIPES", dict(losses._RECIPES))
    names: dict = {"__name__": "pasted"}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        exec(compile(block, "<pasted>", "exec"), names)
    if "result" in names:
        assert float(names["result"]) == pytest.approx(np.log(2), abs=0.1)
    if "bound" in names:
        assert names["bound"].objective.isfinite()
        assert names["bound"].objective.dtype == torch.float32
    if "clip" in names:
        assert names["clip"].log_scale.grad.isfinite()
        assert names["clip"].last.mi.dtype == torch.float32
    if "history" in names:
        assert set(names["history"].terms["loss"]) == {"mine", "rehalfway"}


def test_a_newcomer_reads_it_in_five_minutes():
    assert len(README.splitlines()) <= 150
    assert "<!-- messages" in README
