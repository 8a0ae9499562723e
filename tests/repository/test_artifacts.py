"""What `make check` just rebuilt against what is committed: names, shapes, numbers.

Run by `make check`, after nbval has executed every notebook into build/nbval.  Training is
chaotic, so another CPU gives other trajectories; what has to agree is each statistic, within
what its interval over seeds allows, and each table in shape and in the middle of its columns.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from remi_lib.replication.claims import compatible
from tests.conftest import ROOT

COMMITTED, REBUILT = ROOT / "figures" / "cpu", ROOT / "build" / "nbval" / "cpu"
# What a clock said is another number on every machine.
TABLES = sorted(path.name for path in COMMITTED.glob("*.csv") if path.name != "throughput.csv")
TIMES = {"seconds"}
ROOM = 0.05  # share of rows whose verdict, or finiteness, another machine's rounding may tip

LEDGERS = sorted(path.name for path in (COMMITTED / "claims").glob("*.json"))


def test_nothing_is_missing_and_nothing_new():
    names = {p.name for p in COMMITTED.iterdir() if p.is_file()}
    assert names == {p.name for p in REBUILT.iterdir() if p.is_file()}


@pytest.mark.parametrize("name", LEDGERS)
def test_statistics_agree_within_the_spread_of_seeds(name):
    old, new = (
        {e["id"]: e for e in json.loads((folder / "claims" / name).read_text())}
        for folder in (COMMITTED, REBUILT)
    )
    assert old.keys() == new.keys()
    off = [key for key in old if not compatible(old[key], new[key])]
    # Each pair of independent 95% intervals fails to meet in about 0.6% of cases.
    assert len(off) <= 0.05 * len(old), {key: (old[key], new[key]) for key in off}


def words(column: pd.Series) -> pd.Series:
    """A column of texts without the numbers in them."""
    return column.fillna("").astype(str).str.replace(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", regex=True)


@pytest.mark.parametrize("name", TABLES)
def test_tables_agree(name):
    """Same rows, same words, as many missing numbers, and numbers in the same place."""
    old, new = pd.read_csv(COMMITTED / name), pd.read_csv(REBUILT / name)
    assert list(old.columns) == list(new.columns)
    assert len(old) == len(new)
    for column in old.select_dtypes(exclude="number"):
        before, after = (words(frame[column]) for frame in (old, new))
        changed = (before != after).mean()
        assert changed <= ROOM, (column, changed)
    for column in set(old.select_dtypes("number")) - TIMES:
        assert column in new.select_dtypes("number"), f"{column} has become text"
        lost = abs(np.isfinite(old[column]).mean() - np.isfinite(new[column]).mean())
        assert lost <= ROOM, (column, "share that is finite", lost)
        a, b = (frame[column].replace([np.inf, -np.inf], np.nan).dropna() for frame in (old, new))
        if min(len(a), len(b)) < 3:
            continue
        low, middle, high = a.quantile([0.1, 0.5, 0.9])
        room = 0.5 * (high - low) + 0.02 * abs(middle) + 1e-6
        assert abs(b.median() - middle) <= room, column
