"""CLB with scaled scores: the plan, a sitting, the verdict."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from remi_lib.experiments import overnight, scaled_images, small_images
from remi_lib.experiments.published import FAILING, TRAINING
from remi_lib.losses import FAMILIES, regularized
from remi_lib.paths import figures_dir
from remi_lib.replication import cells
from tests.conftest import crossed

CLAIM = "ablation.scaled@cifar10_10k"
GAINS = [f"ablation.{x}@cifar10_10k" for x in ("scaled-penalty", "scaled-pairs", "cosine-penalty")]
WEIGHTS = (0.1, 0.01)


@pytest.fixture(autouse=True)
def few_images(monkeypatch, random_images):
    random_images("cifar10_10k")
    monkeypatch.setattr(small_images, "BATCH", 4)
    few = {"EPOCHS": 1, "SEEDS": 3, "PENALTY_SEEDS": 2, "PAPER_WEIGHTS": WEIGHTS}
    for name, value in few.items():
        monkeypatch.setattr(scaled_images, name, value)


def test_nothing_but_the_scale_differs_from_the_runs_of_plain_scores():
    plain = {(r.member.loss, r.member.target) for r in small_images.planned()}
    for run in (plan := scaled_images.planned()):
        assert (run.task.benchmark, run.member.tau) == ("clb", None)
        assert (run.member.weight is None) == (run.member.loss in FAMILIES)
        assert (run.member.loss, run.member.target) in plain
    assert len(set(plan)) == len(plan)
    seeds = Counter((r.task.scale, r.member.loss, r.member.weight) for r in plan)
    assert len(seeds) == 2 * (6 + 6 * len(WEIGHTS))
    assert {key for key, n in seeds.items() if n > 2} == {("sqrt", x, None) for x in FAILING}


def test_a_sitting_publishes_and_judges(monkeypatch):
    monkeypatch.setattr(scaled_images, "PAPER_WEIGHTS", WEIGHTS[1:])
    overnight.publish_runs("fig6_scaled", scaled_images)  # nothing to say yet
    assert not (figures_dir("overnight") / "fig6_scaled.csv").exists()
    plan = list(scaled_images.image_cells())
    cells.finish(plan[:4])
    overnight.publish_runs("fig6_scaled", scaled_images)
    rows = overnight.former("fig6_scaled")
    assert rows is not None
    assert sorted(rows["loss"]) == sorted([*FAILING, "smile"])
    verdicts = figures_dir("overnight") / "claims" / "05_lambda_sweep.json"
    assert not verdicts.exists()  # one seed
    cells.finish(plan)
    overnight.publish_runs("fig6_scaled", scaled_images)
    judged = [entry["id"] for entry in json.loads(verdicts.read_text())]
    assert judged[0] == CLAIM
    assert set(judged) <= {CLAIM, *GAINS}  # of so few images some may be lost
    assert len(overnight.former("fig6_scaled")) == len(plan)


@pytest.mark.parametrize(("lost", "value"), [(0, 0.0), (1, 0.5), (2, 1.0)])
def test_a_seed_fails_with_any_of_its_losses(lost, value):
    rows = crossed(loss=FAILING, seed=range(2))
    gone = np.where((rows["loss"] == "tuba") & (rows["seed"] < lost), 3.0, np.nan)
    about = {"scale": "sqrt", "weight": np.nan, "mi": 1.0, "frozen": False, "accuracy": 0.5}
    rows = rows.assign(**about, diverged_step=gone)
    judged = scaled_images.judge(rows, "overnight").entries
    assert set(judged) == {CLAIM}
    assert judged[CLAIM]["value"] == value


@pytest.mark.parametrize(("scale", "families", "claim"), [
    ("sqrt", FAILING, GAINS[0]), ("sqrt", TRAINING, GAINS[1]), ("cosine", TRAINING, GAINS[2])
])  # fmt: skip
@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "holds"), (-0.1, "does not hold")])
def test_the_gain_is_that_at_the_lambda_of_best_mi(scale, families, claim, gain, verdict):
    """At the other lambda the penalty costs more, and a seed more of the originals is no pair."""
    rows = pd.DataFrame(
        [
            {"scale": scale, "loss": name, "weight": weight, "seed": seed, "accuracy": 0.5,
             "frozen": False, "diverged_step": None, "mi": 0.3 + seed / 100 + by}
            for seed in range(3)
            for loss in families
            for name, weight, by in [
                (loss, None, 0), (regularized(loss), 0.01, gain), (regularized(loss), 0.1, -0.2)
            ]
            if seed < 2 or name == loss
        ]
    )  # fmt: skip
    judged = scaled_images.judge(rows, "overnight").entries[claim]
    assert judged["value"] == pytest.approx(gain)
    assert (judged["verdict"], judged["n"]) == (verdict, 2)
