"""Every test runs single-threaded and writes nothing into the checkout."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import torch

from remi_lib.replication.receipt import reference

ROOT = Path(__file__).resolve().parent.parent
# What is committed or staged, whatever `make all` has made of figures/ since.
REFERENCE = reference(ROOT)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch) -> None:
    """The cache and the figures of a test are its own."""
    for variable, folder in (("REMI_CACHE", "cache"), ("REMI_FIGURES", "figures")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    for variable in ("REMI_REFERENCE", "REMI_PROGRESS", "ENGINE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    """Figures that a test leaves open would add up to a warning in a later one."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@contextmanager
def default_dtype(dtype: torch.dtype):
    """torch's default type of new tensors, as long as the block lasts."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def refuses(*cases):
    """A test that each call raises a ValueError with its message."""

    @pytest.mark.parametrize(("call", "message"), cases)
    def test(call, message):
        with pytest.raises(ValueError, match=message):
            call()

    return test


def crossed(**levels) -> pd.DataFrame:
    """A row for every combination of the levels, the last column fastest."""
    return pd.DataFrame(product(*levels.values()), columns=list(levels))
