"""Lambda by three protocols, on numbers made by hand and on real runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from remi_lib.experiments import planned, protocols, sweep
from remi_lib.experiments.image_results import per_run
from remi_lib.images import load_images

TRUTH = load_images("digits").entropy
OPTIONS = dict(
    datasets=["digits"],
    batches=[10],
    slb_epochs=[1],
    clb_epochs=[1],
    rejs_target=0.0,
    seeds=1,
    lr=1e-3,
    width=16,
)


def frame(*rows) -> pd.DataFrame:
    """(loss, weight, seed, mi, test_mi) on digits, SLB."""
    table = pd.DataFrame(rows, columns=["loss", "weight", "seed", "mi", "test_mi"])
    return table.assign(dataset="digits", benchmark="slb")


RUNS = frame(
    ("mine", np.nan, 0, 1.0, 1.0),
    ("remine", 0.1, 0, TRUTH - 0.3, 1.9),
    ("remine", 0.1, 1, TRUTH + 0.3, 1.9),
    ("remine", 0.01, 0, TRUTH - 0.1, 1.7),
    ("remine", 0.01, 1, TRUTH - 0.1, 1.7),
    ("remine", 0.001, 0, TRUTH, 9.0),
    ("remine", 0.001, 1, np.nan, np.nan),  # diverged: the lambda cannot be taken
)


@pytest.mark.parametrize(("protocol", "weight"), [("best MI", 0.01), ("held-out", 0.1)])
def test_choices_by_hand(protocol, weight):
    found = protocols.choices(RUNS, protocol, 0.01)
    assert found.to_dict() == {("digits", "slb", "remine"): weight}


def test_a_fixed_lambda_is_the_one_that_is_named():
    assert protocols.choices(RUNS, "fixed", 0.1).tolist() == [0.1]
    with pytest.raises(ValueError, match=r"fixed: lambda 0\.5"):
        protocols.choices(RUNS, "fixed", 0.5)
    with pytest.raises(ValueError, match="protocol: 'luck'"):
        protocols.choices(RUNS, "luck", 0.1)


@pytest.fixture
def groups():
    return planned.table2_runs(weights=[0.01, 0.1], other_targets=(1.0,), **OPTIONS)


def test_the_runs_of_table2(groups):
    assert len(groups["main"]) == 2 * (12 + 6)
    assert len(set(groups["main"])) == len(groups["main"])
    assert len(groups["variants"]) == 2
    plain = [run for run in groups["main"] if run.member.loss == "nwj"]
    assert len(plain) == 2


def test_one_lambda_is_table2_as_it_was(groups):
    from remi_lib import LOSSES
    from remi_lib.experiments.image_results import runs_of

    alone = planned.table2_runs(weights=[0.01], **OPTIONS)["main"]
    one = dict(dataset="digits", batch=10, epochs={"slb": 1, "clb": 1}, seeds=1, width=16)
    assert alone == runs_of(LOSSES, weight=0.01, rejs_target=0.0, **one)


def test_table2_by_protocol(groups):
    families = ("mine", "remine", "js", "rejs")
    runs = [run for run in groups["main"] if run.member.loss in families]
    results = sweep.sweep("protocols", runs, device="cpu")
    by_run = per_run(results)
    for protocol in protocols.PROTOCOLS:
        chosen = protocols.choose(runs, results, protocol, 0.1)
        cells = {(r.task.benchmark, r.member.loss) for r in chosen}
        assert len(chosen) == len(cells) == 2 * 4
    best = protocols.choose(runs, results, "best MI", 0.1)
    weight = next(r.member.weight for r in best if r.member.loss == "remine")
    own = by_run.query("loss == 'remine' and benchmark == 'slb'").set_index("weight")
    assert (own["mi"] - TRUTH).abs().idxmin() == weight
    same = protocols.of_the_same_lambda(groups["variants"], best)
    assert [r.task.benchmark for r in same] == ["slb"]
    table = protocols.by_protocol(results, 0.1)
    assert len(table) == 3 * 2 * 4 * table["quantity"].nunique()
    fixed = table[(table["protocol"] == "fixed") & (table["loss"] == "rejs")]
    assert (fixed["weight"] == 0.1).all()
    assert table.loc[table["loss"] == "mine", "weight"].isna().all()


def test_the_control_stands_beside_the_same_runs():
    runs = planned.table2_runs(weights=[0.01], **OPTIONS | {"clb_epochs": [1]})["main"]
    other = planned.precision_control(runs, "tf32", 0.01)
    assert len(other) == 3
    sweep.sweep("control", runs[12:] + other, device="cpu", stack=14)
    table = protocols.control(other, runs)
    assert table["loss"].tolist() == ["infonce", "nwj", "renwj"]
    assert (table["precision"] == "tf32").all()
    assert (table["precision_usual"] == "float32").all()
    np.testing.assert_allclose(table["mi_difference"].dropna(), 0, atol=1e-3)  # no TF32 on a CPU
