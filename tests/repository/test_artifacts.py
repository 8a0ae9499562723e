"""What `make check` just rebuilt against what is committed: names, shapes, numbers.

Run by `make check`, after nbval has executed every notebook into build/nbval.
"""

from __future__ import annotations

import pytest

from remi_lib.replication.receipt import DIFFERS, artifacts, compare_claims, compare_tables
from tests.conftest import REFERENCE, ROOT

COMMITTED, REBUILT = REFERENCE / "figures" / "cpu", ROOT / "build" / "nbval" / "cpu"
TABLES = [name for name in artifacts(COMMITTED) if name.endswith(".csv")]
LEDGERS = [name for name in artifacts(COMMITTED) if name.endswith(".json")]


def test_nothing_is_missing_and_nothing_new():
    assert artifacts(COMMITTED).keys() == artifacts(REBUILT).keys()


@pytest.mark.parametrize("name", LEDGERS)
def test_statistics_agree_within_the_spread_of_seeds(name):
    status, why = compare_claims(COMMITTED / name, REBUILT / name)
    assert status != DIFFERS, why


@pytest.mark.parametrize("name", TABLES)
def test_tables_agree(name):
    """Same rows, same words, as many missing numbers, and numbers in the same place."""
    status, why = compare_tables(COMMITTED / name, REBUILT / name)
    assert status != DIFFERS, why
