"""CLB with scaled scores: the plan, a sitting, the verdict."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from remi_lib.experiments import image_results, overnight, scaled_images, small_images
from remi_lib.experiments.published import FAILING, RESCUED
from remi_lib.experiments.verdicts import common
from remi_lib.paths import figures_dir
from remi_lib.replication import cells
from remi_lib.tasks import images

CLAIM = "ablation.scaled@cifar10_10k"
GAIN = "ablation.scaled-penalty@cifar10_10k"


@pytest.fixture(autouse=True)
def few_images(monkeypatch, random_images):
    random_images((images, image_results, small_images, common), "cifar10_10k")
    monkeypatch.setattr(small_images, "BATCH", 4)
    for name, value in {
        "EPOCHS": 1,
        "SEEDS": 2,
        "PENALTY_SEEDS": 2,
        "PAPER_WEIGHTS": (0.01,),
    }.items():
        monkeypatch.setattr(scaled_images, name, value)


def test_nothing_but_the_scale_differs_from_the_runs_that_fail():
    plan = scaled_images.planned()
    for run in plan:
        assert (run.task.scale, run.task.benchmark) == ("sqrt", "clb")
        assert (run.member.weight, run.member.tau) == (
            0.01 if run.member.loss in RESCUED else None,
            None,
        )
    assert [r.member.loss for r in plan] == [*FAILING] * 2 + [*RESCUED] * 2


def test_a_sitting_publishes_and_judges():
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
    assert judged[0] == CLAIM  # TUBA may be lost at a seed of so few images
    assert len(overnight.former("fig6_scaled")) == len(plan)


@pytest.mark.parametrize(("lost", "value"), [(0, 0.0), (1, 0.5), (2, 1.0)])
def test_a_seed_fails_with_any_of_its_losses(lost, value):
    rows = pd.DataFrame(
        [
            {"loss": loss, "weight": None, "seed": seed, "mi": 1.0, "frozen": False,
             "accuracy": 0.5, "diverged_step": 3.0 if loss == "tuba" and seed < lost else None}
            for seed in range(2)
            for loss in FAILING
        ]
    )  # fmt: skip
    judged = scaled_images.judge(rows, "overnight").entries
    assert set(judged) == {CLAIM}
    assert judged[CLAIM]["value"] == value


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "holds"), (-0.1, "does not hold")])
def test_the_gain_is_that_at_the_lambda_of_best_mi(gain, verdict):
    """At the other lambda the penalty costs more; the claim does not see it."""
    rows = pd.DataFrame(
        [
            {"loss": name, "weight": weight, "seed": seed, "accuracy": 0.5, "frozen": False,
             "diverged_step": None, "mi": 0.3 + seed / 100 + by}
            for seed in range(2)
            for loss, twin in zip(FAILING, RESCUED, strict=True)
            for name, weight, by in [(loss, None, 0), (twin, 0.01, gain), (twin, 0.1, gain - 0.2)]
        ]
    )  # fmt: skip
    judged = scaled_images.judge(rows, "overnight").entries[GAIN]
    assert judged["value"] == pytest.approx(gain)
    assert (judged["verdict"], judged["n"]) == (verdict, 2)
