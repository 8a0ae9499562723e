"""What a reader sees at the head of a notebook's rows and columns are words, no names of code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from remi_lib.losses import LOSSES, RIVALS
from tests.replication.test_notebooks import NOTEBOOKS

CODES = {*LOSSES, *(row.name for row in RIVALS), "slb", "clb"}
FORMULAS = re.compile(r"\$[^$]*\$|\bE_\w+\[")  # "$C_i$", "E_Q[e^T]"
FUNCTIONS = {"estimate_mi", "estimate_mi is"}  # what the package calls it


def code_names(html: str) -> list[str]:
    """The headings of a page's tables that hold a name of code: a loss, or an underscore."""
    found = {
        cell.get_text(" ", strip=True)
        for table in BeautifulSoup(html, "html.parser").find_all("table")
        for cell in table.find_all("th")
    }
    return sorted(
        text
        for text in found - FUNCTIONS
        if "_" in FORMULAS.sub("", text) or CODES & set(text.split(", "))
    )


def tables(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return ["".join(found["text/html"]) for found in data if "text/html" in found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_tables_are_headed_in_words(path):
    assert [name for html in tables(path) for name in code_names(html)] == []


def test_a_name_of_code_is_found():
    words = ["E_Q[e^T] - 1", "$I_\\alpha$", "MINE", "estimate_mi", "log Z (nats)", "original"]
    names = ["log_z", "renwj", "JS, js", "clb"]
    rows = "".join(f"<tr><th>{text}</th><td>a_b</td></tr>" for text in words + names)
    assert code_names(f"<p>c_d</p><table>{rows}</table>") == sorted(names)
