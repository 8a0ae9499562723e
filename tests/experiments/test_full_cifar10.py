"""SLB on all of CIFAR-10: the plan, the answers that are kept, and what complete seeds decide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from remi_lib.experiments import full_cifar10, image_results, overnight, small_images
from remi_lib.experiments.full_cifar10 import LOSSES
from remi_lib.experiments.image_answers import packed, unpacked
from remi_lib.experiments.verdicts import benchmark, common
from remi_lib.images import ImageSet
from remi_lib.paths import figures_dir
from remi_lib.replication import cells
from remi_lib.tasks import images

CLAIM = "table2.slb.beats-ce@cifar10"
TESTED = 12


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """24 random images of two classes to train on and 12 to test, in batches of 4, two seeds."""
    stream = torch.Generator().manual_seed(0)
    x = torch.randint(256, (36, 3, 32, 32), generator=stream, dtype=torch.uint8)
    y = torch.arange(36) % 2
    data = ImageSet("cifar10", x[:24], y[:24], x[24:], y[24:], 2)
    for module in (images, image_results, small_images, full_cifar10, benchmark, common):
        monkeypatch.setattr(module, "load_images", lambda name: data)
    for name, value in {"BATCH": 4, "EPOCHS": 1, "SEEDS": 2}.items():
        monkeypatch.setattr(full_cifar10, name, value)


def test_the_plan_is_the_losses_of_the_claim_seed_by_seed():
    runs = full_cifar10.planned()
    assert [r.member.loss for r in runs[:5]] == ["infonce", "mine", "smile", "nwj", "tuba"]
    assert [r.member.seed for r in runs] == [0] * 5 + [1] * 5
    assert {(r.task.dataset, r.task.benchmark, r.member.weight) for r in runs} == {
        ("cifar10", "slb", None)
    }


def test_a_sitting_keeps_the_answers_publishes_and_judges():
    plan = list(full_cifar10.image_cells())
    overnight.publish_full()  # nothing to say yet
    assert not (figures_dir("overnight") / "table2_full.csv").exists()
    cells.finish(plan[:5])
    overnight.publish_full()
    rows = overnight.former("table2_full")
    assert rows is not None
    assert set(rows["loss"]) == set(LOSSES)
    verdicts = figures_dir("overnight") / "claims" / "04_benchmark.json"
    assert not verdicts.exists()  # one seed
    cells.finish(plan)
    overnight.publish_full()
    rows = overnight.former("table2_full")
    assert rows is not None
    assert len(rows) == 10
    for text, accuracy in zip(rows["right"], rows["accuracy"], strict=True):
        assert unpacked(text, TESTED).mean() == pytest.approx(accuracy, abs=1e-6)
    judged = pd.read_json(verdicts).set_index("id")
    assert list(judged.index) == [CLAIM]
    assert judged.loc[CLAIM, "n"] == 2
    assert judged.loc[CLAIM, "setting"] == "reduced"


def test_bits_come_back_whole():
    right = np.random.default_rng(0).random(TESTED) < 0.5
    assert (unpacked(packed(right), TESTED) == right).all()
    assert packed(np.ones(12, bool)) == "fff0"


def made_up(right: dict[str, list[np.ndarray]]) -> pd.DataFrame:
    """Runs with these answers, a list per loss of one array a seed."""
    rows = [
        {"loss": loss, "seed": seed, "accuracy": bits.mean(), "right": packed(bits)}
        for loss, own in right.items()
        for seed, bits in enumerate(own)
    ]
    return pd.DataFrame(rows).assign(diverged_step=np.nan)


def test_mistakes_that_all_share_do_not_widen_the_interval():
    """All get the same 8 of 12 right, the MI losses two more, at both seeds."""
    entropy = np.arange(TESTED) < 8
    ahead = np.arange(TESTED) < 10
    rows = made_up({x: [entropy if x == "infonce" else ahead] * 2 for x in LOSSES})
    judged = full_cifar10.judge(rows, "overnight").entries[CLAIM]
    assert judged["value"] == pytest.approx(2 / 12, abs=1e-6)
    each = np.where(ahead & ~entropy, 1.0, 0.0)
    half = 1.959964 * each.std(ddof=1) / np.sqrt(TESTED)  # nothing over seeds
    assert judged["sees"] == pytest.approx(half, abs=2e-6)


def test_a_run_that_diverged_guesses():
    rows = made_up({x: [np.ones(TESTED, bool)] * 2 for x in LOSSES})
    lost = rows["loss"] == "nwj"
    rows.loc[lost, ["accuracy", "diverged_step", "right"]] = [np.nan, 3.0, "0000"]
    judged = full_cifar10.judge(rows, "overnight").entries[CLAIM]
    assert judged["value"] == pytest.approx(-0.5 / 4)  # of two classes
    assert judged["parts"]["nwj"]["value"] == pytest.approx(-0.5)


def test_both_sizes_stand_beside_each_other():
    rows = made_up({x: [np.ones(TESTED, bool)] * 2 for x in LOSSES})
    entry = full_cifar10.judge(rows, "overnight").entries[CLAIM]
    entries = pd.DataFrame([entry, entry], [f"{CLAIM}_10k", CLAIM])
    found = full_cifar10.ahead(entries)
    assert found.columns.tolist() == ["10,000 images", "50,000 images"]
    assert found.index.tolist() == ["MINE", "SMILE", "NWJ", "TUBA", "their mean"]
    assert set(found.to_numpy().ravel()) == {"0.000 [0.000, 0.000]"}
