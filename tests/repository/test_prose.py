"""Prose types no measured number: an artifact, a parameter or mathematics holds each."""

import json
import math
import re
from functools import cache
from statistics import NormalDist

import pytest

from tests.conftest import ROOT
from tests.replication.test_notebooks import NOTEBOOKS

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+%?|%)(?![\w.]*\d)")
# Not prose: code, formulas, generated blocks, addresses, tables, section numbers.
ELSEWHERE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|<!-- (\w+):.*?<!-- /\1 -->"
    r"|\]\([^)]*\)|https?://\S+|^\|.*?$|(?:arXiv|Python|Sections?)[: ][\d.]+",
    re.S | re.M,
)
# One bit; float32's largest exponent; the quantile of a 95% interval.
MATHEMATICS = {math.log(2), math.log(3.4028235e38), NormalDist().inv_cdf(0.975)}
LEVELS = {"95%", "97.5%", "90%"}  # of intervals and bands: chosen, not measured


@cache
def numbers_in(stem: str) -> frozenset[float]:
    """The numbers of the artifacts of this name: figures/**/<stem>.csv, claims/<stem>.json.

    A curve of thousands of points would vouch for any number, so that only tables count.
    """
    files = [*ROOT.glob(f"figures/**/{stem}.csv"), *ROOT.glob(f"figures/*/claims/{stem}.json")]
    text = "\n".join(f.read_text(encoding="utf-8") for f in files if f.stat().st_size < 20_000)
    return frozenset(float(x) for x in re.findall(r"(?<![\w.])\d+\.?\d*(?:e-?\d+)?", text))


def held(shown: str, values: set[float]) -> bool:
    """Whether one of the values rounds to the number shown; a percentage is of a fraction."""
    digits = len(shown.rstrip("%").partition(".")[2])
    scale = 100 if shown.endswith("%") else 1
    return any(abs(v * scale - float(shown.rstrip("%"))) <= 0.5001 * 10**-digits for v in values)


def typed(text: str, values: set[float]) -> list[str]:
    shown = sorted(set(NUMBER.findall(ELSEWHERE.sub(" ", text))) - LEVELS)
    return [n for n in shown if not held(n, values | MATHEMATICS)]


PAGES = [*NOTEBOOKS, *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_prose_types_no_measured_number(path):
    """A page's numbers are those of its code and of the artifacts that it names or links to."""
    text, code = path.read_text(encoding="utf-8"), ""
    if path.suffix == ".ipynb":
        parts = {"markdown": "", "code": ""}
        for cell in json.loads(text)["cells"]:
            parts[cell["cell_type"]] += "".join(cell["source"]) + "\n\n"
        text, code = parts.values()
    values = {float(x) for x in re.findall(r"(?<![\w.])\d+\.\d+", code)}
    stems = {path.stem, *re.findall(r'"(\w+)"', code), *re.findall(r"(\w+)\.(?:csv|png)", text)}
    assert typed(text, values.union(*map(numbers_in, stems))) == []


def test_a_typed_number_is_found():
    text = "It reads 2.718 nats in 12.7% of runs, at $0.123$, `0.4` and 0.1, to 95%."
    assert typed(text, {0.1}) == ["12.7%", "2.718"]
    assert typed(text, {0.1, math.e, (15 / 16) ** 32}) == []
