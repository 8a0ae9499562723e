"""SLB on all of CIFAR-10: the plan, the answers that are kept, and what complete seeds decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from remi_lib.experiments import full_cifar10, overnight, small_images
from remi_lib.experiments.full_cifar10 import LOSSES, PAIRS, WEIGHTS
from remi_lib.experiments.image_answers import packed, unpacked
from remi_lib.losses import FAMILIES, title
from remi_lib.paths import figures_dir
from remi_lib.replication import cells

CLAIM = "table2.slb.beats-ce@cifar10"
ABOUT = ("closer", "closer-without-js", "accuracy", "harmless")
PENALTY = {f"table2.slb.{what}@cifar10" for what in ABOUT}
ROOT = Path(__file__).parents[2]
TESTED = 12


@pytest.fixture(autouse=True)
def few_images(monkeypatch, random_images):
    """24 random images of two classes to train on and 12 to test, in batches of 4, two seeds."""
    random_images("cifar10")
    monkeypatch.setattr(small_images, "BATCH", 4)
    for name, value in {"EPOCHS": 1, "SEEDS": 2}.items():
        monkeypatch.setattr(full_cifar10, name, value)


def test_the_plan_is_the_losses_of_the_claims_seed_by_seed():
    runs = full_cifar10.planned()
    assert [r.member.loss for r in runs[:5]] == ["infonce", "mine", "smile", "nwj", "tuba"]
    assert [r.member.loss for r in runs[10:17]] == list(PAIRS)
    assert [r.member.seed for r in runs] == [0] * 5 + [1] * 5 + [0] * 7 + [1] * 7
    assert {(r.task.dataset, r.task.benchmark) for r in runs} == {("cifar10", "slb")}
    assert all(r.member.weight == WEIGHTS.get(r.member.loss) for r in runs)


def test_lambda_is_the_one_of_best_mi_on_the_10000_images():
    rows = pd.read_csv(ROOT / "figures" / "overnight" / "table2_runs.csv")
    slb = rows[(rows["benchmark"] == "slb") & rows["loss"].isin(WEIGHTS)]
    error = (np.log(10) - slb["mi"]).abs().groupby([slb["loss"], slb["weight"]]).mean().unstack()
    assert error.idxmin(axis=1).to_dict() == WEIGHTS


def test_a_sitting_keeps_the_answers_publishes_and_judges():
    plan = list(full_cifar10.image_cells())
    overnight.publish_runs("table2_full", full_cifar10)  # nothing to say yet
    assert not (figures_dir("overnight") / "table2_full.csv").exists()
    cells.finish(plan[:5])
    overnight.publish_runs("table2_full", full_cifar10)
    rows = overnight.former("table2_full")
    assert rows is not None
    assert set(rows["loss"]) == set(LOSSES)
    verdicts = figures_dir("overnight") / "claims" / "04_benchmark.json"
    assert not verdicts.exists()  # one seed
    cells.finish(plan[:10])
    overnight.publish_runs("table2_full", full_cifar10)
    rows = overnight.former("table2_full")
    assert rows is not None
    assert len(rows) == 10
    for text, accuracy in zip(rows["right"], rows["accuracy"], strict=True):
        assert unpacked(text, TESTED).mean() == pytest.approx(accuracy, abs=1e-6)
    judged = pd.read_json(verdicts).set_index("id")
    assert list(judged.index) == [CLAIM]
    assert judged.loc[CLAIM, "n"] == 2
    assert judged.loc[CLAIM, "setting"] == "reduced"


def test_the_penalty_is_judged_once_its_losses_have_run():
    cells.finish(list(full_cifar10.image_cells()))
    overnight.publish_runs("table2_full", full_cifar10)
    rows = overnight.former("table2_full")
    assert rows is not None
    assert len(rows) == 24
    judged = full_cifar10.judge(rows, "overnight").entries
    assert set(judged) == {CLAIM, *PENALTY}
    assert set(judged["table2.slb.accuracy@cifar10"]["parts"]) == set(FAMILIES)


def test_a_regularised_loss_counts_once_its_seeds_ran():
    rows = made_up({x: [np.ones(TESTED, bool)] * 2 for x in (*LOSSES, *WEIGHTS)})
    rows = rows[(rows["loss"] != "renwj") | (rows["seed"] == 0)]
    judged = full_cifar10.judge(rows, "overnight").entries
    families = {"mine", "smile", "tuba", "infonce"}  # neither JS, whose original did not run
    assert set(judged["table2.slb.closer@cifar10"]["parts"]) == families


def test_what_the_penalty_gains_is_counted_image_by_image():
    """Every regularised loss gets one image more right; a family's interval knows which one."""
    less, more = np.arange(TESTED) < 8, np.arange(TESTED) < 9
    rows = made_up({x: [less] * 2 for x in LOSSES} | {x: [more] * 2 for x in WEIGHTS})
    closer = rows["loss"].isin(WEIGHTS)
    rows.loc[closer, "mi"] = 0.6  # of log 2
    judged = full_cifar10.judge(rows, "overnight").entries
    assert judged["table2.slb.closer@cifar10"]["value"] == pytest.approx(0.1)
    gain = judged["table2.slb.accuracy@cifar10"]
    assert gain["value"] == pytest.approx(1 / TESTED, abs=1e-6)
    each = np.where(more & ~less, 1.0, 0.0)
    half = 1.959964 * each.std(ddof=1) / np.sqrt(TESTED)
    assert gain["sees"] == pytest.approx(half, abs=2e-6)
    assert judged["table2.slb.harmless@cifar10"]["value"] == pytest.approx(-1 / TESTED, abs=1e-6)


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
    return pd.DataFrame(rows).assign(diverged_step=np.nan, frozen=False, mi=0.5)


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


def test_what_the_penalty_gains_stands_beside_the_paper_s():
    rows = made_up({x: [np.ones(TESTED, bool)] * 2 for x in (*LOSSES, *PAIRS)})
    judged = full_cifar10.judge(rows, "overnight").entries
    entries = pd.DataFrame({f"{k}{end}": v for k, v in judged.items() for end in ("", "_10k")}).T
    found = full_cifar10.penalised(entries)
    assert found.columns.get_level_values(0).unique().tolist() == ["MI closer (nats)", "accuracy"]
    assert found.index.tolist() == [*map(title, FAMILIES), "their mean", "mean but for JS"]
    ours = found.drop(columns="paper", level=1)
    assert set(ours.iloc[:-1].to_numpy().ravel()) == {"0.000 [0.000, 0.000]"}
    assert set(ours.iloc[-1]["MI closer (nats)"]) == {"0.000 [0.000, 0.000]"}
    assert set(ours.iloc[-1]["accuracy"]) == {"0.000"}
    # JS of Table 2: |1.944 - log 10| - |2.000 - log 10|.  The claim's effect is the mean.
    closer = found["MI closer (nats)", "paper"].astype(float)
    assert closer["JS"] == pytest.approx(2.000 - 1.944)
    assert closer["their mean"] == pytest.approx(0.0097, abs=6e-4)
