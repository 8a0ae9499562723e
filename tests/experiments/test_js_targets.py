"""ReJS at the target 0: the plan, a sitting on random images, the verdict by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from remi_lib.experiments import (
    full_cifar10,
    image_results,
    js_targets,
    overnight,
    small_images,
)
from remi_lib.paths import figures_dir
from remi_lib.replication import cells
from remi_lib.replication.store import publish

CLAIM = "quirk2.js-gain-at-target-0"
SETS = ("cifar10_10k", "cifar10")
WEIGHTS = (0.1, 0.01, 0.001)


@pytest.fixture(autouse=True)
def few_images(monkeypatch, random_images):
    random_images("cifar10")
    for module in (small_images, full_cifar10):
        monkeypatch.setattr(module, "EPOCHS", 1)
    monkeypatch.setattr(small_images, "BATCH", 4)


def js(dataset: str, mi: float) -> pd.DataFrame:
    """A made-up run of JS per seed, as the other modules' tables have it."""
    seeds = range(3)
    rows = {"loss": "js", "seed": seeds, "mi": mi, "accuracy": 0.5, "frozen": False}
    return pd.DataFrame({**rows, "dataset": dataset, "benchmark": "slb", "weight": np.nan})


def rejs(dataset: str, mi: dict[float, float], seeds: int = 3) -> pd.DataFrame:
    """A made-up run of ReJS at the target 0 per lambda and seed."""
    rows = [
        {"dataset": dataset, "loss": "rejs", "weight": w, "seed": s, "mi": value}
        for w, value in mi.items()
        for s in range(seeds)
    ]
    return pd.DataFrame(rows).assign(accuracy=0.5, frozen=False, diverged_step=np.nan, target=0.0)


def test_nothing_but_the_target_differs_from_the_runs_that_gain():
    def without_target(run):
        member = {k: v for k, v in vars(run.member).items() if k != "target"}
        return (run.task, tuple(member.items()), run.epochs, run.lr)

    def those(module):
        runs = (run for run in module.planned() if run.task.benchmark == "slb")
        return {without_target(run) for run in runs if run.member.loss == "rejs"}

    own = js_targets.planned()
    assert {run.member.target for run in own} == {0.0}
    chosen = {
        without_target(run)
        for run in own
        if run.task.dataset == SETS[1] and run.member.weight == js_targets.WEIGHT
    }
    assert len(chosen) == 3
    assert {without_target(run) for run in own} - chosen == those(small_images) | those(
        full_cifar10
    )


def test_a_sitting_publishes_and_judges():
    tables = ("table2_targets", js_targets, "table2_runs", "table2_full")
    overnight.publish_runs(*tables)  # nothing to say yet
    assert not (figures_dir("overnight") / "table2_targets.csv").exists()
    publish("table2_runs", "overnight", js(SETS[0], 0.5))
    publish("table2_full", "overnight", js(SETS[1], 0.5).drop(columns=["dataset", "benchmark"]))
    plan = list(js_targets.image_cells())
    cells.finish(plan[:1])
    overnight.publish_runs(*tables)
    verdicts = figures_dir("overnight") / "claims" / "04_benchmark.json"
    assert not verdicts.exists()  # one seed
    cells.finish(plan)
    overnight.publish_runs(*tables)
    assert len(overnight.former("table2_targets")) == 3 * (3 + 2)
    assert {e["id"] for e in json.loads(verdicts.read_text())} == {f"{CLAIM}@{d}" for d in SETS}


def test_rejs_has_the_lambda_whose_mi_is_best():
    rows = pd.concat(
        [rejs(SETS[0], dict(zip(WEIGHTS, (0.5, 0.6, 0.4), strict=True))), rejs(SETS[1], {0.1: 0.3})]
    )
    entries = js_targets.judge(rows, js(SETS[0], 0.5), js(SETS[1], 0.5), "overnight").entries
    values = [entries[f"{CLAIM}@{name}"]["value"] for name in SETS]
    assert values == pytest.approx([0.1, -0.2])


def test_a_lambda_without_every_seed_is_not_chosen():
    rows = pd.concat([rejs(SETS[0], {0.1: 0.6}), rejs(SETS[0], {0.01: 0.69}, seeds=2)])
    found = js_targets.judge(rows, js(SETS[0], 0.5), js(SETS[1], 0.5), "overnight").entries
    assert set(found) == {f"{CLAIM}@{SETS[0]}"}
    assert found[f"{CLAIM}@{SETS[0]}"]["value"] == pytest.approx(0.1)


def test_what_js_gains_at_either_target_and_every_lambda(monkeypatch):
    rows = pd.concat([rejs(SETS[0], {0.1: 0.4, 0.01: 0.5}), rejs(SETS[1], {0.1: 0.3})])
    at_one = [rejs(name, {0.1: 0.6}).assign(target=1.0, benchmark="slb") for name in SETS]
    tables = [pd.concat([js(name, 0.5), own]) for name, own in zip(SETS, at_one, strict=True)]
    monkeypatch.setattr(small_images, "load_images", None)
    monkeypatch.setattr(image_results, "load_images", None)  # a notebook has none
    found = js_targets.gained(rows, *tables)
    assert found.columns.tolist() == ["10,000 images", "50,000 images"]
    gain = found.map(lambda cell: cell.partition(" ")[0])
    assert gain.loc[(1.0, 0.1)].tolist() == ["0.100", "0.100"]
    assert gain.loc[(0.0, 0.1)].tolist() == ["-0.100", "-0.200"]
    lost = rows.assign(mi=rows["mi"].where(rows["weight"] != 0.01))
    assert js_targets.gained(lost, *tables).loc[(0.0, 0.01), found.columns[0]] == "diverged"
    single = rows[(rows["weight"] != 0.01) | (rows["seed"] == 0)]
    assert "[" not in js_targets.gained(single, *tables).loc[(0.0, 0.01), found.columns[0]]
    assert gain.loc[(0.0, 0.01)].tolist() in (["0.000", "–"], ["-0.000", "–"])


def test_the_lambda_of_all_images_is_the_one_that_the_10_000_choose():
    rows = overnight.committed("table2_targets")
    own = rows[rows["dataset"] == SETS[0]]
    error = (own["mi"] - np.log(10)).abs().groupby(own["weight"]).mean()
    assert error.idxmin() == js_targets.WEIGHT


def test_a_run_that_diverged_is_no_verdict():
    rows = rejs(SETS[0], {0.1: np.nan}).assign(diverged_step=3.0)
    found = js_targets.judge(rows, js(SETS[0], 0.5), js(SETS[1], 0.5), "overnight").entries
    assert not found
