"""Real images in the overnight profile: the network, the cells, and what complete runs decide."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from remi_lib.experiments import (
    overnight,
    small_images,
    small_outputs,
)
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.published import FAILING
from remi_lib.intervals import fraction_interval
from remi_lib.losses import FAMILIES, LOSSES
from remi_lib.paths import figures_dir, project_root
from remi_lib.replication import cells
from remi_lib.tasks import ImageTask, Member
from tests.conftest import crossed

CLASSES = 2


@pytest.fixture(autouse=True)
def few_images(monkeypatch, random_images):
    """24 random images of two classes in place of CIFAR-10, and three seeds at most."""
    random_images("cifar10", CLASSES)
    for module in (small_images, small_outputs):
        monkeypatch.setattr(module, "BATCH", 4)
        monkeypatch.setattr(module, "EPOCHS", 1)
    monkeypatch.setattr(small_images, "SEEDS", {"slb": 3, "clb": 2})
    monkeypatch.setattr(small_outputs, "FOREIGN", ("inverted", "shuffled"))


@pytest.mark.parametrize(("where", "outputs"), [("slb", CLASSES), ("clb", 512)])
def test_the_critic_of_both_benchmarks(where, outputs):
    task = ImageTask("cifar10", where, small_images.NET)
    critic = task.critic([Member("infonce", 0, 4)])
    assert critic(torch.rand(4, 3, 32, 32)).shape == (1, 4, outputs)
    assert not task.stacks
    with pytest.raises(ValueError, match="width: 64 is not allowed; resnet8 has 512"):
        replace(task, width=64)


def test_the_plan_is_all_losses_in_slb_then_the_failing_families_in_clb():
    runs = small_images.planned()
    slb, clb = ([r for r in runs if r.task.benchmark == b] for b in ("slb", "clb"))
    assert runs == [*slb[:36], *clb, *slb[36:]]
    assert [r.member.seed for r in slb[:36]] == [0] * 12 + [1] * 12 + [2] * 12
    # The paper's other two lambdas: the larger one at three seeds, then the smaller one.  Then the
    # z-loss at all three.
    assert [r.member.weight for r in slb[36:72]] == [0.1] * 18 + [0.001] * 18
    assert {r.member.seed for r in slb[36:54]} == {0, 1, 2}
    assert [r.member.weight for r in slb[72:]] == [0.1] * 3 + [0.01] * 3 + [0.001] * 3
    assert {(r.member.loss, r.member.target) for r in slb[72:]} == {("reinfonce_rows", -2.3026)}
    assert [r.member.loss for r in slb[:5]] == ["infonce", "mine", "smile", "nwj", "tuba"]
    assert {r.member.loss for r in slb[:12]} == set(LOSSES)
    # Clip x penalty at two seeds, SMILE without clipping being MINE; the others at three, as are
    # the paper's other two lambdas.
    others = [seed for seed in range(3) for _ in range(4)]
    lambdas = [seed for seed in range(3) for _ in range(12)]
    assert [r.member.seed for r in clb] == [0] * 12 + [1] * 12 + others + lambdas
    assert {r.member.weight for r in clb[36:]} == {0.1, 0.001}
    assert {r.member.loss for r in clb[36:48]} == {"re" + family for family in FAMILIES}
    assert {r.member.loss.removeprefix("re") for r in clb[:24]} == {"mine", "smile", "nwj", "tuba"}
    apart = {(r.member.loss, r.member.tau) for r in clb if r.member.tau is not None}
    assert apart == {("nwj", 10), ("tuba", 10), ("renwj", np.inf), ("retuba", np.inf)}
    assert {r.member.loss for r in clb} == set(LOSSES)
    first = [*slb[:36], *clb[:36]]
    assert all((r.member.weight == 0.01) == r.member.loss.startswith("re") for r in first)
    assert {r.member.loss for r in runs if r.member.target == 1} == {"rejs"}
    assert math.isclose(small_images.Z_TARGET, -math.log(CLASSES_OF_CIFAR), abs_tol=5e-5)


CLASSES_OF_CIFAR = 10


def test_the_z_loss_on_real_images_is_judged_at_the_seeds_that_have_it_at_every_lambda():
    """Made-up runs: log Z at 3 nats without the z-loss and at 0.2 with it, accuracies alike."""
    cells = [("infonce", None)]
    cells += [(loss, w) for loss in ("reinfonce", "reinfonce_rows") for w in (0.1, 0.01, 0.001)]
    rows = crossed(seed=range(3), cell=cells)
    rows["loss"], rows["weight"] = zip(*rows["cell"], strict=True)
    third = np.where(rows["loss"] == "reinfonce_rows", 0.2, 3.0) + small_images.Z_TARGET
    rows = rows.assign(accuracy=0.6 + 0.001 * rows["seed"], test_row_term=third)
    rows = rows.assign(dataset="cifar10_10k", benchmark="slb", tau=np.nan)
    lost = (rows["seed"] == 2) & (rows["loss"] == "reinfonce_rows") & (rows["weight"] == 0.01)
    rows = rows[~lost]
    assert set(small_images.z_loss(rows)["seed"]) == {0, 1}
    judged = small_images.judge_z_loss(rows, "overnight").entries
    assert judged["z.real.pins@cifar10_10k"]["value"] == pytest.approx(2.8)
    assert judged["z.real.pins@cifar10_10k"]["n"] == 2
    assert judged["z.real.accuracy@cifar10_10k"]["value"] == pytest.approx(0)
    assert not small_images.judge_z_loss(rows[rows["seed"] == 0], "overnight").entries


def test_the_sizes_are_the_papers_batch_and_real_images():
    assert (small_images.DATASET, BATCH) == ("cifar10_10k", 10)
    # All seeds alike are told from a half of them.
    assert fraction_interval([True] * SEEDS["clb"]).low > 0.5
    assert fraction_interval([True] * (SEEDS["clb"] - 1)).low < 0.5


BATCH, SEEDS = small_images.BATCH, small_images.SEEDS  # before few_images


def test_a_sitting_trains_publishes_and_judges():
    by_benchmark = {b: [c for c in small_images.image_cells() if f" {b} " in c.name] for b in BOTH}
    clb, slb = by_benchmark["clb"], by_benchmark["slb"]
    cells.finish([c for c in clb[:12] if "mine" not in c.name])  # one seed
    overnight.publish_images()
    rows = pd.read_csv(figures_dir("overnight") / "table2_runs.csv")
    assert set(rows["loss"]) == {p + f for p in ("", "re") for f in FAILING}
    assert set(rows["epochs"]) == {1}
    assert set(rows["read"]) == {"CIFAR-10"}
    verdicts = figures_dir("overnight") / "claims" / "04_benchmark.json"
    assert not verdicts.exists()  # the other seeds are missing
    cells.finish([c for c in clb[:24] if "mine" not in c.name])
    overnight.publish_images()
    judged = pd.read_json(verdicts).set_index("id")
    about = ("three-fail", "rescued", "half-way", "learn")
    failures = {f"table2.clb.{x}@cifar10_10k" for x in about}
    assert set(judged.index) == failures
    assert judged["n"].tolist() == [2] * 4  # seeds, not runs
    cells.finish([*slb[:5], *slb[12:17]])  # of two seeds what cross-entropy is compared with
    overnight.publish_images()
    judged = pd.read_json(verdicts).set_index("id")
    assert set(judged.index) == failures | {"table2.slb.beats-ce@cifar10_10k"}


def test_fig_8_is_published_network_by_network_and_judged_from_two():
    plan = list(small_outputs.output_cells())
    folder = figures_dir("overnight")
    cells.finish(plan[2:3])
    overnight.publish_outputs()
    assert not (folder / "fig8.png").exists()  # the picture is of seed 0, which is not here
    for name in ("fig8_sets", "fig8_auroc"):
        (folder / f"{name}.csv").unlink()
    shutil.rmtree(cells.folder_of(plan[2]))
    cells.finish(plan[:1])
    overnight.publish_outputs()
    sets = pd.read_csv(folder / "fig8_sets.csv")
    assert sets["set"].tolist() == ["inverted", "shuffled", "test", "train"]
    assert sets["near"].isna().tolist() == [True, True, False, False]  # no labels, no true pairs
    verdicts = folder / "claims" / "07_out_of_distribution.json"
    assert not verdicts.exists()
    cells.finish(plan[:2])
    overnight.publish_outputs()
    judged = pd.read_json(verdicts).set_index("id")
    assert {"fig8.foreign-rejected@cifar10_10k", "fig8.test-alike@cifar10_10k"} <= set(judged.index)
    assert judged["n"].tolist() == [2] * 5
    assert (folder / "fig8.png").exists()
    assert pd.read_csv(folder / "fig8.csv")["pairs"].sum() == (24 + 12 + 12 + 12) * CLASSES


def test_fig_8_is_the_papers_direction_and_notebook_7s_lambda():
    assert FOREIGN[0] == "mnist"
    path = project_root() / "params" / "cpu" / "07_out_of_distribution.yaml"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["weight"] == small_outputs.WEIGHT


FOREIGN = small_outputs.FOREIGN
BOTH = ("slb", "clb")


def made_up(at: float = 0.01, **failed: bool) -> pd.DataFrame:
    """Runs of two seeds and all losses in CLB; ``failed``: the losses that diverged.

    ``at``: lambda of the regularised losses.
    """
    rows = [
        {
            **Run(ImageTask("cifar10_10k", "clb"), Member(loss, seed, 4, weight), 1).columns(),
            **{"mi": np.nan if loss in failed else np.log(2), "accuracy": 0.5, "frozen": False},
            **{"tau": np.nan, "diverged_step": 0.0 if loss in failed else np.nan},
        }
        for loss, weight in ((name, at if name.startswith("re") else None) for name in LOSSES)
        for seed in range(2)
    ]
    return pd.DataFrame(rows)


def test_what_fails_without_the_penalty_and_with_it():
    nothing = made_up(**dict.fromkeys(FAMILIES, True)).assign(benchmark="slb")
    found = small_images.judge(nothing, "overnight").entries
    assert "table2.slb.closer@cifar10_10k" not in found
    rows = made_up(smile=True, nwj=True, tuba=True)
    found = small_images.judge(rows, "overnight").entries
    assert found["table2.clb.three-fail@cifar10_10k"]["value"] == 1
    assert found["table2.clb.rescued@cifar10_10k"]["value"] == 0
    assert found["table2.clb.half-way@cifar10_10k"]["value"] == 1  # log 2 is the whole entropy
    assert found["table2.clb.competitive@cifar10_10k"]["value"] == 0  # all have one accuracy
    found = small_images.judge(made_up(renwj=True), "overnight").entries
    assert found["table2.clb.three-fail@cifar10_10k"]["value"] == 0
    assert found["table2.clb.rescued@cifar10_10k"]["value"] == 1
    few = rows[(rows["seed"] < 1) | (rows["loss"] != "nwj")]
    assert not small_images.judge(few, "overnight").entries  # one seed is left


def test_clipping_and_the_penalty_apart():
    clip = made_up(nwj=True, tuba=True).query("loss in ('nwj', 'tuba')").assign(tau=10.0)
    penalty = made_up(renwj=True).query("loss in ('renwj', 'retuba')").assign(tau=np.inf)
    rows = pd.concat([made_up(smile=True), clip, penalty])
    assert not small_images.judge(rows, "overnight").entries["table2.clb.three-fail@cifar10_10k"][
        "value"
    ]
    found = small_images.judge_sweep(rows, "overnight").entries
    assert found["ablation.clip-alone@cifar10_10k"]["value"] == 1
    assert found["ablation.penalty-alone@cifar10_10k"]["value"] == 0  # ReTUBA does not fail
    few = rows[(rows["seed"] < 1) | (rows["loss"] != "retuba") | rows["tau"].isna()]
    found = small_images.judge_sweep(few, "overnight").entries
    assert not [claim for claim in found if claim.startswith("ablation")]  # one seed is left


def test_what_the_penalty_does_in_clb_is_judged_of_the_losses_that_train():
    found = small_images.judge_sweep(made_up(nwj=True), "overnight").entries
    pairs = ("closer", "accuracy", "harmless", "pairs-half-way", "closer-at-middle-lambda")
    about = (*pairs, "order")
    assert set(found) == {f"table2.clb.{claim}@cifar10_10k" for claim in about}
    assert set(found["table2.clb.closer@cifar10_10k"]["parts"]) == {"mine", "infonce", "js"}
    rows = made_up()
    better = rows["loss"].isin(["remine", "reinfonce", "rejs"])
    rows.loc[better, "accuracy"] += 0.1
    rows.loc[~better, "mi"] -= 0.2
    found = small_images.judge_sweep(rows, "overnight").entries
    assert found["table2.clb.closer@cifar10_10k"]["value"] == pytest.approx(0.2)
    assert found["table2.clb.accuracy@cifar10_10k"]["value"] == pytest.approx(0.1)
    rows.loc[rows["loss"].str.contains("mine|infonce|js"), "mi"] = 0.05
    found = small_images.judge_sweep(rows, "overnight").entries
    assert found["table2.clb.pairs-half-way@cifar10_10k"]["value"] < 0.5
    found = small_images.judge_sweep(made_up(js=True), "overnight").entries  # its pair is left out
    assert set(found["table2.clb.closer@cifar10_10k"]["parts"]) == {"mine", "infonce"}
    lost = made_up(mine=True, js=True, infonce=True)
    assert set(small_images.judge_sweep(lost, "overnight").entries) == ORDER
    few = rows[(rows["seed"] < 1) | (rows["loss"] != "mine")]
    assert set(small_images.judge_sweep(few, "overnight").entries) == ORDER  # one seed is left


ORDER = {"table2.clb.order@cifar10_10k"}


def swept() -> pd.DataFrame:
    """:func:`made_up` at the paper's lambdas: the larger, the nearer to H(Y), the less accurate."""
    middle, large, small = made_up(), made_up(0.1), made_up(0.001)
    for rows, mi, accuracy in ((middle, 0.5, 0.42), (large, 0.6, 0.40), (small, 0.4, 0.44)):
        rows[["mi", "accuracy"]] = mi, accuracy
    return pd.concat([middle, *(r[r["loss"].str.startswith("re")] for r in (large, small))])


def test_lambda_is_judged_where_every_loss_ran_at_every_lambda():
    found = small_images.judge_sweep(swept(), "overnight").entries
    about = ("fig6.trade-off@cifar10_10k", "fig6.accuracy-hardly-moves@cifar10_10k")
    assert [found[claim]["value"] for claim in about] == pytest.approx([-1, 0.04])
    rows = swept()
    rows.loc[rows["weight"] == 0.1, "accuracy"] = 0.46  # now what is nearer is more accurate
    rows.loc[rows["weight"] == 0.01, "accuracy"] = 0.45
    assert small_images.judge_sweep(rows, "overnight").entries[about[0]]["value"] == 1
    few = rows[(rows["seed"] < 1) | (rows["loss"] != "rejs") | (rows["weight"] != 0.1)]
    assert not set(about) & set(small_images.judge_sweep(few, "overnight").entries)


def test_lambda_is_the_best_of_those_that_ran_at_every_seed():
    best = small_images.reported(swept())
    assert set(best["weight"].dropna()) == {0.1}
    found = small_images.judge_sweep(swept(), "overnight").entries
    assert found["table2.clb.closer@cifar10_10k"]["value"] == pytest.approx(0.1)
    assert found["table2.clb.closer-at-middle-lambda@cifar10_10k"]["value"] == pytest.approx(0)
    rows = swept()
    gone = (rows["loss"] == "rejs") & (rows["weight"] == 0.1) & (rows["seed"] == 1)
    best = small_images.reported(rows[~gone]).groupby("loss")["weight"].max()
    assert (best["rejs"], best["remine"]) == (0.01, 0.1)


def test_a_seed_that_one_loss_has_more_of_takes_no_lambda_away():
    more = made_up().query("loss in ('mine', 'remine') and seed == 0").assign(seed=2)
    rows = pd.concat([swept(), more])
    assert set(small_images.offered(rows, small_images.PAIRS)["seed"]) == {0, 1}
    assert set(small_images.reported(rows)["weight"].dropna()) == {0.1}


def test_what_the_penalty_does_is_judged_from_complete_seeds():
    rows = made_up().assign(benchmark="slb")
    found = small_images.judge(rows, "overnight").entries
    about = (
        "closer",
        "closer-without-js",
        "accuracy",
        "harmless",
        "beats-ce",
        "closer-at-middle-lambda",
    )
    assert set(found) == {f"table2.slb.{claim}@cifar10_10k" for claim in about}
    few = rows[(rows["seed"] < 1) | (rows["loss"] != "rejs")]
    assert not small_images.judge(few, "overnight").entries.keys() & {
        f"table2.slb.{claim}@cifar10_10k" for claim in about[:3]
    }


def test_what_each_protocol_gains_is_counted_by_hand():
    """At 0.1 MI and held-out MI are right, at 0.01 a tenth of a nat low; accuracies the reverse."""
    both = [made_up(0.1), made_up(0.01)]
    for rows, off, accuracy in zip(both, (0.0, 0.1), (0.5, 0.6), strict=True):
        twin = rows["loss"].str.startswith("re")
        rows["mi"] = np.log(2) - np.where(twin, off, 0.3)
        rows["test_mi"] = np.where(twin, 0.6 - off, np.nan)
        rows.loc[twin, "accuracy"] = accuracy
    found = small_images.by_protocol(pd.concat(both).drop_duplicates(["loss", "weight", "seed"]))
    found = found.set_index("protocol")
    assert set(found["benchmark"]) == {"clb"}
    assert set(found["families"]) == {3}  # those that train in CLB without the penalty, too
    assert found["closer"].round(9).to_dict() == {"best MI": 0.3, "held-out": 0.3, "fixed": 0.2}
    assert found["accuracy"].round(9).to_dict() == {"best MI": 0, "held-out": 0, "fixed": 0.1}
    one_seed = both[1][both[1]["seed"] == 0]
    assert small_images.by_protocol(one_seed).empty
