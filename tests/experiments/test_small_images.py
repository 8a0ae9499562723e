"""Real images in the overnight profile: the network, the cells, and what complete runs decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from remi_lib.experiments import image_results, overnight, small_images
from remi_lib.experiments.verdicts import benchmark, common
from remi_lib.images import ImageSet
from remi_lib.losses import LOSSES
from remi_lib.paths import figures_dir
from remi_lib.replication import cells
from remi_lib.tasks import Member, images

CLASSES = 2


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """24 random images of two classes in place of CIFAR-10."""
    stream = torch.Generator().manual_seed(0)
    x = torch.randint(256, (36, 3, 32, 32), generator=stream, dtype=torch.uint8)
    y = torch.arange(36) % CLASSES
    data = ImageSet("cifar10", x[:24], y[:24], x[24:], y[24:], CLASSES)
    for module in (images, image_results, benchmark, common, small_images):
        monkeypatch.setattr(module, "load_images", lambda name: data)
    monkeypatch.setattr(small_images, "BATCH", 4)
    monkeypatch.setattr(small_images, "EPOCHS", 1)


def test_features_are_non_negative_and_depend_on_the_seed_alone():
    x = torch.rand(4, 3, 32, 32)
    first, again, other = (small_images.SmallResNet([seed])(x) for seed in (0, 0, 1))
    assert first.shape == (1, 4, 512)
    assert first.min() >= 0
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="net: resnet8 trains one member at a time"):
        small_images.SmallResNet([0, 1])


def test_a_block_is_its_convolutions_beside_its_shortcut():
    block = small_images.Block(2, 2, 1).eval()
    torch.nn.init.zeros_(block.body[3].weight)  # the last convolution says nothing
    x = torch.rand(1, 2, 4, 4)
    torch.testing.assert_close(block(x), x)  # batch norm at its start leaves zero where it is
    assert small_images.Block(2, 3, 2)(x).shape == (1, 3, 2, 2)


@pytest.mark.parametrize(("where", "outputs"), [("slb", CLASSES), ("clb", 512)])
def test_the_critic_of_both_benchmarks(where, outputs):
    task = small_images.SmallImageTask(benchmark=where)
    critic = task.critic([Member("infonce", 0, 4)])
    assert critic(torch.rand(4, 3, 32, 32)).shape == (1, 4, outputs)
    with pytest.raises(ValueError, match="net"):
        small_images.SmallImageTask(net="resnet18")


def test_the_plan_is_the_failing_families_one_seed_after_the_other():
    runs = small_images.planned()
    assert [r.member.seed for r in runs] == [0] * 7 + [1] * 7
    assert {r.task.benchmark for r in runs} == {"clb"}
    losses = {r.member.loss.removeprefix("re") for r in runs}
    assert losses == {"smile", "nwj", "tuba", "infonce"}
    assert all((r.member.weight == 0.01) == r.member.loss.startswith("re") for r in runs)


def test_a_sitting_trains_publishes_and_judges(monkeypatch):
    plan = list(small_images.image_cells())
    monkeypatch.setattr(small_images, "planned", lambda: PLAN)
    cells.finish(plan[:7])  # one seed
    overnight.publish_images()
    rows = pd.read_csv(figures_dir("overnight") / "table2_runs.csv")
    assert set(rows["loss"]) == {p + f for p in ("", "re") for f in benchmark.FAILING} | {"infonce"}
    assert set(rows["epochs"]) == {1}
    assert set(rows["read"]) == {"CIFAR-10"}
    verdicts = figures_dir("overnight") / "claims" / "04_benchmark.json"
    assert not verdicts.exists()  # the other seeds are missing
    cells.finish(plan)
    overnight.publish_images()
    judged = pd.read_json(verdicts).set_index("id")
    assert list(judged.index) == ["table2.clb.three-fail@cifar10"]  # too short to have trained

    assert judged["n"].tolist() == [6]


PLAN = [
    replace(run, epochs=1, member=replace(run.member, batch=4)) for run in small_images.planned()
]


def made_up(**failed: bool) -> pd.DataFrame:
    """Runs of two seeds and all losses in CLB; ``failed``: the losses that diverged."""
    rows = [
        {"dataset": "cifar10", "benchmark": "clb", "loss": loss, "seed": seed, "weight": 0.01,
         "mi": np.nan if loss in failed else np.log(2), "accuracy": 0.5, "frozen": False,
         "diverged_step": 0.0 if loss in failed else np.nan}
        for loss in LOSSES
        for seed in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_what_fails_without_the_penalty():
    rows = made_up(smile=True, nwj=True, tuba=True)
    found = small_images.judge(rows, "overnight").entries
    assert found["table2.clb.three-fail@cifar10"]["value"] == 1
    few = rows[(rows["seed"] < 1) | (rows["loss"] != "nwj")]
    assert not small_images.judge(few, "overnight").entries  # a seed of NWJ is missing
