"""Table 3 and Fig 9: readings against known answers, verdicts both ways, rates, pictures."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from remi_lib.experiments.imagenet import figures, longrun, table3, throughput
from remi_lib.experiments.imagenet.longrun import Resources, Results
from remi_lib.experiments.imagenet.textures import Textures
from remi_lib.experiments.imagenet.trees import locate, open_tree
from remi_lib.experiments.verdicts.imagenet import judge
from remi_lib.paths import figures_dir
from remi_lib.replication.claims import Ledger
from tests.conftest import refuses

ENTROPY = math.log(60)
SETTINGS = dict(batch=12, epochs=2, lr=5e-3, dataset="textures", size=8, width=512)


def made_up(**effects: float) -> Results:
    """Two benchmarks, five losses, six seeds, four epochs of ten steps: NWJ is lost in CLB."""
    rng, batches, summary = np.random.default_rng(0), [], []
    run = 0
    for benchmark in ("slb", "clb"):
        for seed in range(6):
            for member, loss in enumerate(table3.LOSSES3):
                step = np.arange(40)
                drift = effects.get("drift", 2.0) if loss == "mine" else 0.1
                second = -drift * step / 39 + 0.01 * rng.normal(size=40)
                mi = 3.5 + 0.01 * rng.normal(size=40) + 0.2 * loss.startswith("re")
                lost = (benchmark, loss) == ("clb", "nwj") and effects.get("explode", 1) > 0
                frame = pd.DataFrame(
                    {"run": run, "member": member, "loss": loss, "seed": seed, "step": step}
                ).assign(epoch=step // 10, mi=mi, log_partition=second, joint_term=mi + second)
                frame["product_term"] = second
                frame["pairs"] = np.where((benchmark == "clb") & (step == 35), 0, 5)
                frame.loc[frame["pairs"] == 0, "mi"] = -100.0
                if lost:
                    frame[["mi", "log_partition"]] = np.nan
                batches.append(frame)
                accuracy = 0.3 + 0.05 * loss.startswith("re") - 0.1 * (loss == "infonce")
                summary.append(
                    {"run": run, "benchmark": benchmark, "dataset": "textures", "loss": loss}
                    | {"seed": seed, "frozen": False, "accuracy": np.nan if lost else accuracy}
                    | {"diverged_step": 3.0 if lost else np.nan, "epochs": 4}
                    | {"first_term": "product_term" if lost else ""}
                )
            run += 1
    return Results(pd.concat(batches), pd.DataFrame(summary), pd.DataFrame())


def test_readings():
    runs = table3.per_run(made_up()).set_index(["benchmark", "loss", "seed"]).sort_index()
    mine = runs.loc["slb", "mine"]
    # Linear from 0 to -2 over 39 steps: epochs 2 and 4 are 20 steps apart.
    np.testing.assert_allclose(mine["drift"], -2 * 20 / 39, atol=0.02)
    np.testing.assert_allclose(mine["settling"], 0, atol=0.02)
    np.testing.assert_allclose(runs.loc["slb", "remine"]["mi"], 3.7, atol=0.02)
    clb = runs.loc["clb"]
    np.testing.assert_allclose(clb.loc["mine"]["mi"], 3.5, atol=0.02)  # step 35 has no pair
    assert clb.loc["nwj"][["mi", "drift", "settling", "accuracy"]].isna().all(axis=None)


def test_table_and_its_print():
    table = table3.table3(table3.per_run(made_up()), ENTROPY)
    assert len(table) == 2 * 5 * 2
    cell = table.set_index(["benchmark", "loss", "quantity"])
    assert cell.loc[("slb", "infonce", "accuracy"), "paper"] == 0.0795
    assert cell.loc[("clb", "renwj", "mi"), "paper"] == 1.008
    share = cell.loc[("slb", "mine", "mi"), "paper_share"]
    assert share == pytest.approx(6.147 / math.log(1000))
    assert np.isnan(cell.loc[("clb", "nwj", "mi"), "value"])
    shown = table3.printed_table3(table, "ours")
    assert shown.loc[("CLB", "NWJ"), ("MI (nats)", "ours")] == "diverged at step 3"
    assert shown.loc[("CLB", "NWJ"), ("MI (nats)", "paper, ImageNet")] == "0.000"
    assert not any("difference" in column for column in shown)  # textures less ImageNet is nothing
    assert shown.index.tolist()[:3] == [("SLB", "CE"), ("SLB", "MINE"), ("SLB", "ReMINE")]
    assert shown.loc[("SLB", "CE"), ("MI / H(Y)", "paper, ImageNet")] == ""


def verdicts(results: Results) -> dict[str, str]:
    ledger = Ledger("08_imagenet", "cpu", ["textures"])
    judge(ledger, table3.per_run(results), 60, 60_000)
    ledger.save()  # raises if a claim that is due was left out
    return {key.split("@")[0]: entry["verdict"] for key, entry in ledger.entries.items()}


def test_verdicts_follow_the_numbers():
    shown = verdicts(made_up())
    assert set(shown.values()) == {"holds"}
    other = verdicts(made_up(explode=0))
    assert other["fig9.clb.nwj-explodes"] == "does not hold"


def test_a_late_explosion_is_not_one_within_a_few_steps():
    results = made_up()
    results.summary["diverged_step"] *= 100
    assert verdicts(results)["fig9.clb.nwj-explodes"] == "does not hold"


def test_claims_of_imagenet_are_not_judged_on_textures():
    ledger = Ledger("08_imagenet", "cpu", ["textures"])
    assert all(claim.endswith("@textures") for claim in ledger.due())
    judge(ledger, table3.per_run(made_up()), 60, 60_000)
    assert set(ledger.entries) == set(ledger.due())
    ledger.save()
    stored = json.loads((figures_dir("cpu") / "claims" / "08_imagenet.json").read_text())
    assert {e["dataset"] for e in stored} == {"generated textures (stand-in for ImageNet)"}


def test_a_tree_of_ones_own_makes_no_claim():
    ledger = Ledger("08_imagenet", "cpu", [])
    judge(ledger, table3.per_run(made_up()), 60, 60_000)
    assert ledger.table().empty
    ledger.save()
    assert ledger.verdicts() == ""


def test_runs_of_the_table():
    weights = {"slb": 0.1, "clb": 0.01}
    small = table3.runs_of(table3.LOSSES3, seeds=3, weights=weights, **SETTINGS)
    assert len(small) == 6
    assert {len(run.members) for run in small} == {5}
    task = SETTINGS | {"net": "resnet18", "precision": "bfloat16"}
    large = table3.runs_of(table3.LOSSES3, seeds=3, weights=weights, **task)
    assert len(large) == 30
    assert {m.weight for run in large for m in run.members} == {None, 0.1, 0.01}
    assert [m.weight for m in small[1].members] == [None, None, 0.01, None, 0.01]
    with pytest.raises(ValueError, match=r"weights: \{'slb': 0.1\} must name slb and clb"):
        table3.runs_of(["mine"], seeds=2, weights={"slb": 0.1}, **SETTINGS)


@pytest.fixture
def small_tree():
    return open_tree("textures", locate("textures", textures=Textures(5, 12, 3, side=24)))


def test_from_file_to_table_and_picture(small_tree):
    weights = {"slb": 0.1, "clb": 0.01}
    runs = table3.runs_of(table3.LOSSES3, seeds=2, weights=weights, **SETTINGS)
    results = longrun.finish(runs, small_tree, Resources("cpu"))
    by_run = table3.per_run(results)
    assert by_run.loc[by_run["diverged_step"].notna(), "loss"].unique().tolist() == ["nwj"]
    batches = table3.batches_of(results)
    assert batches.groupby(["benchmark", "loss", "seed"]).size().eq(10).all()
    figure = figures.fig9(batches[batches["seed"] == 0], table3.LOSSES3[1:], smooth=3)
    texts = [t.get_text() for ax in figure.axes for t in ax.texts]
    assert texts == ["diverged at step 0"]
    curves = table3.curves(batches, ["log_partition", "mi"], points=5)
    assert len(curves) == 2 * 5 * 2 * 5


def test_rates(small_tree):
    weights = {"slb": 0.1, "clb": 0.01}
    run = table3.runs_of(["mine", "remine"], seeds=1, weights=weights, **SETTINGS)[0]
    alone = throughput.at_batch(run, 8, size=16)
    assert (alone.batch, len(alone.members), alone.size) == (8, 1, 16)
    table = throughput.measure([(run, small_tree), (alone, small_tree)], [0, 1], "cpu", 0.05)
    assert len(table) == 2 * 2 * 3
    assert (table["value"] > 0).all()
    assert set(table["part"]) == set(throughput.PARTS)
    np.testing.assert_allclose(table["hours"] * table["value"], 1_281_167 / 3600)


def test_rate_is_images_over_time(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    batch = throughput.Batch(torch.zeros(6, 1), torch.zeros(6), [])
    used = []
    rate = throughput._rate(iter(lambda: batch, None), used.append, torch.device("cpu"), 4.0)
    assert rate == 6.0  # a batch of 6 per tick
    assert len(used) == 5  # the first does not count


def test_the_fewest_workers_that_are_fast_enough():
    table = pd.DataFrame(
        {"workers": [0, 4, 8, 16] * 2, "part": ["both"] * 4 + ["loader"] * 4}
    ).assign(value=[100, 990, 1000, 995, 1, 2, 3, 9999])
    assert throughput.choose_workers(table) == 4


def test_files_of_imagenets_size():
    tree = throughput.imagenet_sized(10)
    assert len(tree.train) == 10
    from PIL import Image

    sides = [np.prod(Image.open(tree.train.path(i)).size) for i in range(10)]
    assert np.mean(sides) == pytest.approx(500 * 375, rel=0.02)


test_bad_arguments_are_named = refuses(
    (lambda: Resources(workers=-1), "workers: -1 is not allowed; must be at least 0"),
    (lambda: Resources(processes=0), "processes: 0 is not allowed; must be at least 1"),
    (lambda: Resources(minutes=-1.0), "minutes: -1.0 is not allowed"),
    (lambda: longrun.finish([], None, at_once=0), "at_once: 0 is not allowed"),
)


def test_another_seed_is_another_run(small_tree):
    run = table3.runs_of(["mine"], seeds=[7], weights={"slb": 1.0, "clb": 1.0}, **SETTINGS)[0]
    assert run.seed == 7
    assert replace(run, lr=1.0).folder(small_tree) != run.folder(small_tree)
