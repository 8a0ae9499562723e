"""Tiny ImageNet in the overnight profile: the plan, the tables, and what complete seeds decide."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import yaml

from remi_lib.experiments import (
    image_results,
    overnight,
    overnight_cells,
    small_images,
    tiny_images,
)
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.imagenet import figures, table3
from remi_lib.experiments.verdicts import common
from remi_lib.image_folders import LAYOUTS
from remi_lib.images import load_images
from remi_lib.paths import figures_dir, project_root
from remi_lib.replication import cells
from remi_lib.replication.registry import registry
from remi_lib.tasks import ImageTask, Member, images

CLASSES = 4
NAMES = [f"{b} {loss}" for b, own in tiny_images.LOSSES.items() for loss in own]
CLAIMS = {
    f"{claim}@tinyimagenet"
    for claim in (
        "fig9.clb.far-enough",
        "fig9.clb.nwj-explodes",
        "fig9.clb.renwj-feasible",
        "fig9.clb.renwj-trains",
        "fig9.slb.drift",
        "fig9.slb.far-enough",
        "table3.accuracy",
        "table3.beats-ce",
    )
}
BEATS_CE = "table3.beats-ce@tinyimagenet"


@pytest.fixture(autouse=True)
def few_images(monkeypatch, random_images):
    """24 random images of four classes in place of Tiny ImageNet, two passes."""
    random_images("tinyimagenet", CLASSES, side=64, source="JPEG copy")
    monkeypatch.setattr(tiny_images, "CLASSES", CLASSES)
    monkeypatch.setattr(tiny_images, "ENTROPY", math.log(CLASSES))
    monkeypatch.setattr(tiny_images, "BATCH", 8)
    monkeypatch.setattr(tiny_images, "EPOCHS", {"clb": 2, "slb": 2})


def test_the_plan_is_seed_by_seed_the_explosion_first_and_cross_entropy_last():
    runs = tiny_images.planned()
    more = runs[SEEDS * len(NAMES) :]
    runs = runs[: SEEDS * len(NAMES)]
    assert [r.member.seed for r in more] == [3, 3, 4, 4, 5, 5]
    assert [r.member.loss for r in more] == ["nwj", "renwj"] * 3
    assert {r.task.benchmark for r in more} == {"clb"}
    each = [f"{r.task.benchmark} {r.member.loss}" for r in runs]
    assert each == NAMES * SEEDS
    assert [r.member.seed for r in runs] == [s for s in range(SEEDS) for _ in NAMES]
    assert NAMES[:2] == ["clb nwj", "clb renwj"]
    assert NAMES[-1] == "slb infonce"
    assert set(tiny_images.LOSSES["clb"]) | {"infonce"} == set(table3.LOSSES3)
    assert set(tiny_images.LOSSES["slb"]) == set(table3.LOSSES3)
    for run in runs:
        weight = {"slb": 0.1, "clb": 0.01}[run.task.benchmark]
        assert run.member.weight == (weight if run.member.loss.startswith("re") else None)
    assert {(r.task.net, r.task.size, r.lr) for r in runs} == {("resnet8", 32, 1e-3)}


SEEDS, BATCH, EPOCHS = tiny_images.SEEDS, tiny_images.BATCH, tiny_images.EPOCHS  # as they are


def test_the_sizes_are_those_of_the_gpu_profile_but_for_the_images():
    given = yaml.safe_load((project_root() / "params/gpu/08_imagenet.yaml").read_text())
    assert given["weights"] == [tiny_images.WEIGHTS["slb"], tiny_images.WEIGHTS["clb"]]
    assert (given["batch"], given["lr"]) == (BATCH, tiny_images.LR)
    assert EPOCHS["slb"] == EPOCHS["clb"]
    assert LAYOUTS["tinyimagenet"].classes == 200


def test_the_plan_is_listed_without_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("REMI_DATA", str(tmp_path))
    for module in (images, image_results, small_images, common):
        monkeypatch.setattr(module, "load_images", load_images)
    todo = list(tiny_images.image_cells())
    names = [c.name for c in overnight_cells.plan() if c.kind == "table3"]
    assert names == [c.name for c in todo]
    assert names[1] == "tinyimagenet clb renwj seed 0"
    assert {c.kind for c in todo} == {"table3"}
    assert {cells.state_of(c) for c in todo} == {"missing"}
    overnight.publish_tiny()  # nothing is there
    assert not (figures_dir("overnight") / "table3_runs.csv").exists()
    with pytest.raises(FileNotFoundError, match="tinyimagenet is missing"):
        todo[0].compute()


def test_a_sitting_trains_publishes_and_judges():
    todo = list(tiny_images.image_cells())
    folder = figures_dir("overnight")
    cells.finish(todo[:2])
    overnight.publish_tiny()
    rows = pd.read_csv(folder / "table3_runs.csv")
    assert rows["loss"].tolist() == ["nwj", "renwj"]
    assert set(rows["epochs"]) == {2}
    assert set(rows["read"]) == {"Tiny ImageNet (JPEG copy)"}
    readings = {"accuracy", "mi", "test_mi", "diverged_step", "frozen", "epochs_trained"}
    assert readings <= set(rows)
    verdicts = folder / "claims" / "08_imagenet.json"
    assert (folder / "fig9.png").exists()
    cells.finish(todo[len(NAMES) : 2 * len(NAMES) - 1])
    overnight.publish_tiny()
    assert not verdicts.exists()  # one seed is complete
    cells.finish(todo[: len(NAMES) - 1])  # without cross-entropy, which one verdict needs
    overnight.publish_tiny()
    judged = pd.read_json(verdicts).set_index("id")
    assert set(judged.index) == CLAIMS - {BEATS_CE}
    assert set(judged["n"]) == {2}
    assert set(judged["setting"]) == {"reduced"}
    assert judged["dataset"].str.contains("30,000 training images at 32 pixels").all()
    table = pd.read_csv(folder / "table3.csv")
    assert len(table) == 2 * (len(NAMES) - 1)
    mi = table[table["quantity"] == "mi"]
    share = (mi["value"] / math.log(CLASSES)).to_numpy()
    assert mi["share"].to_numpy() == pytest.approx(share, rel=1e-4, nan_ok=True)
    assert len(table3.printed_table3(table, "ours")) == len(NAMES) - 1
    course = pd.read_csv(folder / "fig9.csv")
    assert len(course) == 2 * (len(NAMES) - 1) * 2  # passes and seeds
    assert set(course["step"]) == {1.5, 4.5}


def test_an_earlier_sitting_stays():
    todo = list(tiny_images.image_cells())
    cells.finish(todo[:1])
    overnight.publish_tiny()
    for path in cells.folder_of(todo[0]).iterdir():
        path.unlink()
    cells.finish(todo[1:2])
    overnight.publish_tiny()
    overnight.publish_tiny()
    folder = figures_dir("overnight")
    for name, length in (("table3_runs", 2), ("fig9", 4)):
        rows = pd.read_csv(folder / f"{name}.csv")
        assert len(rows) == length
        assert set(rows["loss"]) == {"nwj", "renwj"}


def made_up(seeds: int = 2, **failed: bool) -> pd.DataFrame:
    """Runs of both benchmarks; ``failed``: the losses that diverge in CLB."""
    rows = []
    for benchmark, losses in tiny_images.LOSSES.items():
        for loss in losses:
            lost = benchmark == "clb" and loss in failed
            ours = loss.startswith("re")
            for seed in range(seeds):
                run = Run(ImageTask("tinyimagenet", benchmark), Member(loss, seed, 8), 1)
                found = {"mi": np.nan if lost else 1.0, "frozen": False}
                found["drift"] = -0.1 * (seed + 1) if ours else -0.1 * (seed + 1) - 2.0
                found["accuracy"] = np.nan if lost else 0.3 + 0.1 * ours
                found["diverged_step"] = 0.0 if lost else np.nan
                rows.append(run.columns() | found)
    return pd.DataFrame(rows)


def test_the_verdicts_follow_the_numbers():
    found = tiny_images.judge(made_up(nwj=True), "overnight").entries
    assert set(found) == CLAIMS
    assert found["fig9.clb.nwj-explodes@tinyimagenet"]["value"] == 1
    assert found["fig9.clb.renwj-trains@tinyimagenet"]["value"] == 0
    assert found["table3.accuracy@tinyimagenet"]["value"] == pytest.approx(0.1)
    assert found["fig9.slb.drift@tinyimagenet"]["value"] == pytest.approx(2.0)
    assert (found[BEATS_CE]["value"], set(found[BEATS_CE]["parts"])) == (0, {"mine", "nwj"})
    for where in ("slb", "clb"):
        far = found[f"fig9.{where}.far-enough@tinyimagenet"]
        assert far["value"] == pytest.approx(1 / math.log(CLASSES))
    assert found["fig9.clb.renwj-feasible@tinyimagenet"]["value"] == 1.0
    found = tiny_images.judge(made_up(renwj=True), "overnight").entries
    assert found["fig9.clb.nwj-explodes@tinyimagenet"]["value"] == 0
    assert found["fig9.clb.renwj-trains@tinyimagenet"]["value"] == 1
    assert found["fig9.clb.renwj-feasible@tinyimagenet"]["value"] == 0
    # A run that diverged guesses.
    found = tiny_images.judge(made_up(remine=True), "overnight").entries
    gain = (0.1 + 0.1 + 1 / CLASSES - 0.3) / 3
    assert found["table3.accuracy@tinyimagenet"]["value"] == pytest.approx(gain)


def test_a_seed_without_all_of_its_runs_decides_nothing():
    rows = made_up(seeds=2)
    few = rows[(rows["seed"] < 1) | (rows["loss"] != "remine") | (rows["benchmark"] != "slb")]
    assert tiny_images.complete(few) == {0}
    assert not tiny_images.judge(few, "overnight").entries
    without = rows[rows["loss"] != tiny_images.CROSS_ENTROPY]
    assert set(tiny_images.judge(without, "overnight").entries) == CLAIMS - {BEATS_CE}


def test_the_pair_is_counted_at_more_seeds():
    rows, more = made_up(nwj=True), made_up(6, nwj=True)
    pair = (more["benchmark"] == "clb") & more["loss"].isin(["nwj", "renwj"]) & (more["seed"] > 1)
    found = tiny_images.judge(pd.concat([rows, more[pair]]), "overnight").entries
    assert [found[claim]["n"] for claim in sorted(CLAIMS)] == [2, 6, 6, 6, 2, 2, 2, 2]
    shares = ("fig9.clb.nwj-explodes@tinyimagenet", "fig9.clb.renwj-trains@tinyimagenet")
    assert [found[claim]["verdict"] for claim in shares] == ["holds", "holds"]
    alone = tiny_images.judge(rows, "overnight").entries  # of two seeds, a share is open
    assert [alone[claim]["verdict"] for claim in shares] == ["no power", "no power"]
    assert alone["table3.accuracy@tinyimagenet"] == found["table3.accuracy@tinyimagenet"]
    rows = rows[(rows["loss"] != tiny_images.CROSS_ENTROPY) | (rows["seed"] < 1)]
    few = tiny_images.judge(rows, "overnight").entries  # cross-entropy at one seed changes nothing
    assert few["table3.accuracy@tinyimagenet"] == alone["table3.accuracy@tinyimagenet"]


def test_how_far_the_supervised_losses_come_is_a_sentence():
    rows = made_up().assign(mi=0.9 * math.log(CLASSES))
    rows.loc[rows["loss"] == "mine", "mi"] = 0.5 * math.log(CLASSES)
    rows.loc[rows["loss"] == "nwj", "mi"] = np.nan
    told = tiny_images.attained(rows)
    assert "MINE 0.50, ReMINE 0.90, NWJ 0.00, ReNWJ 0.90, CE 0.90" in told
    assert told.endswith("3 of 5 pass 80%")


def test_the_course_ends_where_a_run_is_lost():
    run = tiny_images.planned()[0]
    terms = {"joint_term": 1.0, "product_term": 2.0, "mi": -1.0}
    tables = {
        "batches": pd.DataFrame({"split": ["train"] * 300 + ["test"] * 5}),
        "epochs": pd.DataFrame({"epoch": range(4), **terms}),
        "summary": pd.DataFrame({"diverged_step": [700.0]}),
    }
    found = tiny_images.course({run: tables})
    assert found["step"].tolist() == [150, 450, 750, 1050]
    assert found["mi"].isna().tolist() == [False, False, True, True]
    text = figures.fig9(found, ["nwj"], smooth=1).axes[0].texts
    assert [t.get_text() for t in text] == ["diverged at step 700"]
    tables["summary"]["diverged_step"] = np.nan
    found = tiny_images.course({run: tables})
    assert found["mi"].notna().all()
    assert not figures.fig9(found, ["nwj"], smooth=1).axes[0].texts


def test_the_claims_are_about_it_and_reduced():
    for claim in CLAIMS - {BEATS_CE}:
        entry = registry()[claim.partition("@")[0]]
        assert entry.on("tinyimagenet", "overnight").setting == "reduced"
        assert entry.on("textures", "cpu").setting == "stand-in"
