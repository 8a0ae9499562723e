"""docs/losses.md has what tools/loss_tables.py finds."""

from __future__ import annotations

import math
import sys

import pytest

from remi_lib.losses import LOSSES, title
from remi_lib.paths import project_root

sys.path.insert(0, str(project_root() / "tools"))
import loss_tables


def rows_of(name: str) -> list[list[str]]:
    """The rows of a block of docs/losses.md, without its headings."""
    text = (project_root() / "docs" / "losses.md").read_text(encoding="utf-8")
    block = text.partition(f"<!-- {name}")[2].partition(f"<!-- /{name}")[0]
    lines = [line for line in block.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def power(error: float) -> float:
    return math.log10(error) if error > 0 else -math.inf


@pytest.mark.parametrize("name", LOSSES)
def test_the_precision_is_as_the_page_says(name):
    """To a digit: the last bits of a sum are the processor's."""
    (stated,) = (row[1:] for row in rows_of("precision") if row[0] == title(name))
    types = (*loss_tables.HALF, loss_tables.torch.float32)
    found = [loss_tables.error(name, dtype) for dtype in types]
    assert max(map(float, stated[:3])) <= 1e-5
    for bound, error in zip(map(float, stated[:3]), found, strict=True):
        assert error <= 10 * bound
    for cell, dtype in zip(stated[3:], loss_tables.HALF, strict=True):
        error = loss_tables.error(name, dtype, keep=True)
        assert math.isinf(error) == (cell == "overflows")
        assert math.isinf(error) or abs(power(error) - power(float(cell))) < 2


def test_the_corners_are_as_the_page_says():
    assert [row[0] for row in rows_of("corners")] == [title(name) for name in LOSSES]
    for name, (_, *cells) in zip(LOSSES, rows_of("corners"), strict=True):
        for cell, labels in zip(cells, loss_tables.CORNERS.values(), strict=True):
            reading, finite = loss_tables.corner(name, labels)
            assert finite
            assert reading == pytest.approx(float(cell), rel=1e-3, abs=1e-6)
