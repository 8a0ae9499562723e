"""A loss of one's own: in this process, in workers, in cached results, tables and the ledger."""

from __future__ import annotations

import importlib
import json
import math
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from remi_lib import class_pairs, losses, make_loss
from remi_lib.bounds import js
from remi_lib.estimate import estimate_mi
from remi_lib.experiments import benchmark, image_results, sweep
from remi_lib.experiments.rules import RULES
from remi_lib.intervals import Estimate
from remi_lib.losses import Terms, dv, families_of, nwj, register, split_name, title
from remi_lib.replication.claims import Claim, Ledger, collect
from remi_lib.replication.store import config_key
from remi_lib.stacking import stack
from remi_lib.tasks import Member, OneHotTask, grid, member_config
from remi_lib.training import train
from tests.experiments.test_benchmark import few

MODULE = '''
from remi_lib.losses import Terms, dv, nwj, register

def halfway(scores):
    """The mean of DV and NWJ, a lower bound as both are; T* = log dP/dQ + 1."""
    a, b = dv(scores), nwj(scores)
    mi, second = (a.mi + b.mi) / 2, (a.product_term + b.product_term) / 2
    return Terms(a.joint_term, second, b.anchor, mi, mi)

register("halfway", halfway, "Halfway")
'''


def halfway(scores):
    a, b = dv(scores), nwj(scores)
    mi, second = (a.mi + b.mi) / 2, (a.product_term + b.product_term) / 2
    return Terms(a.joint_term, second, b.anchor, mi, mi)


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Registrations and imports of a test end with it."""
    monkeypatch.setattr(losses, "_RECIPES", dict(losses._RECIPES))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """A module that registers "halfway", where this process and its workers find it."""
    (tmp_path / "own_losses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_losses"


def test_a_registered_loss_is_like_any_other():
    register("halfway", halfway, "Halfway")
    assert split_name("rehalfway") == ("halfway", True)
    assert title("rehalfway") == "ReHalfway"
    assert families_of(["rehalfway", "mine", "halfway"]) == ["halfway", "mine"]
    table = class_pairs(torch.eye(10).double() * 60 + 1 + math.log(10) - 60, torch.arange(10))
    bound = make_loss("rehalfway", weight=0.5)(table)
    assert bound.mi.item() == pytest.approx(math.log(10))
    assert bound.penalty.item() == pytest.approx(0, abs=1e-12)
    shifted = make_loss("rehalfway", weight=0.5)(table.map(table.values + 2))
    assert shifted.penalty.item() == pytest.approx(0.5 * 2**2)
    members = [make_loss("rehalfway"), make_loss("mine")]
    both = stack(members)(table._replace(values=table.values.expand(2, -1, -1)))
    assert both.mi[0].item() == pytest.approx(both.mi[1].item())


def test_it_trains_beside_the_others_and_has_its_own_clip():
    register("halfway", halfway, clip=True)
    assert make_loss("halfway").tau == make_loss("rehalfway").tau == 10
    members = grid(loss=["mine", "rehalfway"], seed=0)
    history = train(OneHotTask(4, 8), members, 30).history
    assert np.isfinite(history.terms["mi"]).all()
    x = np.random.default_rng(0).normal(size=(100, 1))
    assert float(estimate_mi(x, x, loss="rehalfway", seeds=1, steps=50, label=None)) > 0.5


@pytest.mark.parametrize("name", ["mine", "remine", "js", "re"])
def test_taken_names(name):
    if name == "re":  # its twin would be "rere"; nothing is taken
        register(name, halfway)
        return
    with pytest.raises(ValueError, match=f"name: '{name}' is taken by another loss"):
        register(name, halfway)


def test_bad_names_and_changed_minds():
    with pytest.raises(ValueError, match="name: 'my loss' is not allowed"):
        register("my loss", halfway)
    register("halfway", halfway)
    register("halfway", halfway, "again")
    assert title("halfway") == "again"
    with pytest.raises(ValueError, match="taken"):
        register("halfway", dv)
    with pytest.raises(ValueError, match="taken"):
        register("rehalfway", dv)


def test_a_name_says_which_module_registers_it(module):
    assert title("rehalfway@own_losses") == "ReHalfway"
    assert split_name("rehalfway@own_losses") == ("halfway@own_losses", True)
    assert Member("rehalfway@own_losses", weight=0.3).make_loss().weight == 0.3
    with pytest.raises(ValueError, match="cannot import 'own_nothing'"):
        make_loss("halfway@own_nothing")
    with pytest.raises(ValueError, match="no loss is called 'other@own_losses'"):
        make_loss("other@own_losses")
    fits, allowed = RULES["losses"]
    assert fits("rehalfway@own_losses")
    assert not fits("halfway@own_nothing")
    assert "name@module" in allowed


def test_editing_the_module_changes_the_key_of_its_results_only(module, tmp_path):
    def keys() -> list[str]:
        names = ("mine", "rehalfway@own_losses")
        return [config_key(member_config(Member(n)), "remi_lib.losses") for n in names]

    before = keys()
    assert keys() == before
    (tmp_path / "own_losses.py").write_text(MODULE.replace("/ 2\n", "/ 2.0\n"))
    importlib.reload(sys.modules["own_losses"])
    after = keys()
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.fixture
def results(module) -> sweep.Results:
    names = ("mine", "remine", "halfway@own_losses", "rehalfway@own_losses")
    return sweep.sweep("own", few(names, seeds=2), stack=2, workers=2)


def test_workers_of_a_sweep_and_the_benchmark_table(results, tmp_path):
    runs = image_results.per_run(results)
    own = runs[runs["loss"].str.contains("halfway")]
    assert len(own) == 2 * 2 * 2
    assert np.isfinite(own.loc[own["benchmark"] == "slb", "mi"]).all()
    optima = benchmark.theory(runs)
    assert optima["digits", "slb", "halfway@own_losses"] == pytest.approx(math.log(10), abs=1e-3)
    table = benchmark.table2(runs, optima)
    assert table.loc[table["loss"] == "halfway@own_losses", "paper"].isna().all()
    html = benchmark.styled_table2(table, "digits", "slb").to_html()
    assert "Halfway" in html
    assert "nan" not in html
    figure = benchmark.table2_dots(table, 2.3, "paper")
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == ["MINE", "Halfway"]


def own_claim(**changes) -> Claim:
    given = dict(
        id="own.halfway",
        notebook="00_quickstart",
        source="mine",
        statement="Halfway trains.",
        dataset="digits",
        statistic="its MI (nats)",
        holds_if=(2.0, None),
        reason="log 10 is 2.3",
    )
    return Claim(**(given | changes))


def test_a_claim_of_ones_own_is_in_the_ledger_and_on_the_scoreboard(tmp_path):
    ledger = Ledger("00_quickstart", "cpu")
    assert ledger.judge(own_claim(), Estimate(2.2, 2.1, 2.3)) == "holds"
    with pytest.raises(ValueError, match="belongs to 01_drift"):
        ledger.judge(own_claim(notebook="01_drift"), Estimate(2.2, 2.1, 2.3))
    with pytest.raises(ValueError, match="is there already"):
        ledger.judge(own_claim(id="fig1.mine-drifts"), Estimate(2.2, 2.1, 2.3))
    path = tmp_path / "figures" / "cpu" / "claims" / "00_quickstart.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(list(ledger.entries.values())))
    found = collect("cpu")
    row = found[found["id"] == "own.halfway"].iloc[0]
    assert (row["verdict"], row["profile"]) == ("holds", "cpu")
    stale = [{**ledger.entries["own.halfway"], "id": "fig1.renamed", "own": False}]
    path.write_text(json.dumps(stale))
    assert not collect("cpu")["id"].isin(["own.halfway", "fig1.renamed"]).any()
    assert isinstance(found, pd.DataFrame)
    assert "own" not in found


def test_a_bound_is_a_function():
    with pytest.raises(ValueError, match=r"^bound: "):
        register("half_dv", partial(js, mi_shift=1.0))
