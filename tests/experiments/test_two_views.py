"""Two views of an image: VICReg, what a run records, and what complete seeds decide."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from remi_lib.experiments import overnight, two_views, view_runs
from remi_lib.experiments.view_runs import vicreg
from remi_lib.experiments.z_loss import report
from remi_lib.paths import figures_dir
from remi_lib.replication import cells
from remi_lib.streams import as_global_stream
from remi_lib.tasks import images
from tests.conftest import crossed


@pytest.fixture(autouse=True)
def few_images(tmp_path, monkeypatch, random_images):
    """24 random images of two classes in place of CIFAR-10, two seeds, a pass of six steps."""
    monkeypatch.setenv("REMI_PROGRESS", str(tmp_path / "progress"))
    random_images("cifar10")
    for name, value in {"BATCH": 4, "EPOCHS": 1, "SEEDS": 2}.items():
        monkeypatch.setattr(two_views, name, value)


def test_vicreg_of_constant_embeddings_is_its_hinge():
    z = torch.ones(5, 3, dtype=torch.double)
    assert vicreg(z, z).item() == pytest.approx(25 * (1 - 0.01))
    wide = 100 * torch.eye(4, dtype=torch.double)[:, :1]  # one feature: nothing to be correlated
    assert vicreg(wide, wide + 2).item() == pytest.approx(25 * 2**2)


def test_vicreg_is_its_formula():
    """Bardes et al. 2022, in loops."""
    both = torch.randn(2, 6, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    n, d = both.shape[1:]
    difference = sum((both[0, i, j] - both[1, i, j]) ** 2 for i in range(n) for j in range(d))
    expected = 25 * difference / (n * d)
    for z in both:
        mean = [z[:, j].mean() for j in range(d)]
        c = [
            [sum((z[:, j] - mean[j]) * (z[:, k] - mean[k])) / (n - 1) for k in range(d)]
            for j in range(d)
        ]
        hinge = sum(max(0, 1 - math.sqrt(c[j][j] + 1e-4)) for j in range(d)) / d
        apart = sum(c[j][k] ** 2 for j in range(d) for k in range(d) if j != k) / d
        expected += 25 * hinge / 2 + apart
    assert vicreg(*both).item() == pytest.approx(float(expected))


def test_the_plan_is_every_loss_once_a_seed_and_needs_no_images(monkeypatch):
    def absent(name):
        raise FileNotFoundError(name)

    for module in (images, view_runs, two_views):
        monkeypatch.setattr(module, "load_images", absent)
    plan = list(two_views.image_cells())
    assert len({cell.name for cell in plan}) == len(plan) == 7 * 2
    assert [cell.config["seed"] for cell in plan] == [0] * 7 + [1] * 7
    assert {cell.kind for cell in plan} == {"views"}
    weights = {v.loss: v.module(v.loss).loss.weight for v in two_views.planned()[:6]}
    assert weights == {"infonce": None, "mine": None, "nwj": None} | dict.fromkeys(
        ("reinfonce", "remine", "renwj"), two_views.WEIGHT
    )


def test_losses_of_a_seed_share_first_weights_batches_and_views(monkeypatch):
    seen = {}

    def first(net, batch, data, _embedded=view_runs.embedded):
        found = _embedded(net, batch, data)
        seen.setdefault(loss, []).append((batch, found[0].detach()))
        return found

    monkeypatch.setattr(view_runs, "embedded", first)
    for view in two_views.planned():
        if view.loss in ("infonce", "renwj", "vicreg"):
            loss = f"{view.loss} {view.seed}"
            view_runs.computed(view)
    for other in ("renwj 0", "vicreg 0"):
        assert torch.equal(seen["infonce 0"][0][1], seen[other][0][1])
        assert all(
            torch.equal(a[0], b[0]) for a, b in zip(seen["infonce 0"], seen[other], strict=True)
        )
    assert not torch.equal(seen["infonce 0"][0][1], seen["infonce 1"][0][1])
    assert not torch.equal(seen["infonce 0"][1][1], seen["vicreg 0"][1][1])  # after a step of each


def test_a_view_is_its_streams_alone_and_each_images_own():
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(64, 3, 16, 16)
    found = []
    for number in (0, 0, 1):
        with as_global_stream(0, "views", number):
            found.append(view_runs.augmented(x))
    assert (found[0].shape, found[0].dtype) == (x.shape, x.dtype)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len({image.numpy().tobytes() for image in found[0]}) > 60  # one image, many views
    mirrored = (found[0][..., 0] > found[0][..., -1]).float().mean()
    assert 0.3 < mirrored < 0.7


def view_of(loss: str) -> view_runs.View:
    return next(view for view in two_views.planned() if view.loss == loss)


def test_a_run_ends_where_its_objective_is_lost(monkeypatch):
    calls = []

    def lost_at_the_third(first, second):
        calls.append(0)
        return vicreg(first, second) * (math.nan if len(calls) == 3 else 1)

    monkeypatch.setattr(view_runs, "vicreg", lost_at_the_third)
    tables = view_runs.computed(view_of("vicreg"))
    row = tables["summary"].iloc[0]
    assert (row["diverged_step"], row["steps"], len(calls)) == (2, 3, 3)
    assert row[["accuracy", *view_runs.READINGS]].isna().all()
    assert np.isfinite(tables["steps"]["value"]).tolist() == [True, True, False]


def test_parameters_that_the_last_step_lost_are_a_divergence_too():
    net = nn.Linear(2, 2)
    assert view_runs.lost_at(net, [1.0, 2.0]) is None
    assert view_runs.lost_at(net, [1.0, math.inf]) == 1
    nn.init.constant_(net.weight, math.nan)
    assert view_runs.lost_at(net, [1.0, 2.0]) == 2


def test_a_run_reads_its_mi_below_infonces_ceiling():
    row = view_runs.computed(view_of("reinfonce"))["summary"].iloc[0]
    assert math.isnan(row["diverged_step"])
    assert row["steps"] == 6
    assert 0 <= row["accuracy"] <= 1
    ceiling = math.log(2 * two_views.BATCH - 1)
    assert (row[["train_mi", "test_mi"]] < ceiling).all()
    assert (row[["train_log_partition", "test_log_partition"]].abs() <= 2).all()  # 1/temperature


def test_a_sitting_trains_and_publishes_and_the_next_goes_on(monkeypatch):
    plan = list(two_views.image_cells())
    folder = figures_dir("overnight")
    verdicts = folder / "claims" / "12_z_loss.json"
    overnight.publish_views()
    assert not (folder / "views.csv").exists()
    cells.finish(plan[:8])
    overnight.publish_views()
    rows = pd.read_csv(folder / "views.csv")
    assert rows["loss"].tolist() == ["infonce", "infonce", *two_views.LOSSES[1:]]
    assert rows["seed"].tolist() == [0, 1, *[0] * 6]
    assert {"accuracy", *view_runs.READINGS, "diverged_step", "steps", "epochs", "read"} < set(rows)
    assert (folder / "views.png").exists()
    assert not verdicts.exists()  # the second seed is not complete
    monkeypatch.setattr(view_runs, "computed", None)  # what is done is not computed again
    cells.finish(plan[:8])


def test_a_later_sitting_keeps_earlier_rows_and_other_verdicts():
    plan = list(two_views.image_cells())
    folder = figures_dir("overnight")
    verdicts = folder / "claims" / "12_z_loss.json"
    cells.finish(plan[:7])
    overnight.publish_views()
    for cell in plan[:7]:  # the cache is lost, the committed table is not
        shutil.rmtree(cells.folder_of(cell))
    verdicts.parent.mkdir(parents=True)
    other = report_of_real_images()
    verdicts.write_text(json.dumps(other))
    cells.finish(plan[7:])
    overnight.publish_views()
    assert len(pd.read_csv(folder / "views.csv")) == 14
    judged = pd.read_json(verdicts).set_index("id")
    assert set(judged.index) == {f"{claim}@cifar10_10k" for claim in (*CLAIMS, "z.real.pins")}
    assert judged.loc[[f"{claim}@cifar10_10k" for claim in CLAIMS], "n"].tolist() == [2, 2, 2]
    overnight.publish_views()
    pd.testing.assert_frame_equal(pd.read_json(verdicts).set_index("id"), judged)


CLAIMS = ("views.accuracy", "views.nwj", "views.vicreg")


def report_of_real_images() -> list[dict]:
    """The entry of the other judge of notebook 12's claims on these images."""
    ledger = two_views.Ledger("12_z_loss", "overnight", ["cifar10_10k"])
    ledger.judge("z.real.pins@cifar10_10k", [2.0, 2.1])
    return list(ledger.entries.values())


def made_up(gain: float = 0.001, vicreg: float = 0.5) -> pd.DataFrame:
    """Two seeds of every loss; ``gain``: of the penalty in accuracy."""
    rows = crossed(loss=two_views.LOSSES, seed=range(2))
    loss, seed = rows["loss"], rows["seed"]
    right = 0.6 + gain * loss.str.startswith("re") + 0.001 * seed
    known = {"train_mi": 1.0, "test_mi": 0.9, "test_log_partition": 0.1, "read": "made up"}
    return rows.assign(accuracy=right.mask(loss == "vicreg", vicreg), **known, diverged_step=np.nan)


def judged(rows: pd.DataFrame, monkeypatch) -> dict[str, dict]:
    """The entries by claim; accuracies are counted on 10,000 images."""
    monkeypatch.setattr(report, "test_images", lambda dataset: 10_000)
    entries = two_views.judge(rows, "overnight").entries
    return {key.partition("@")[0]: entry for key, entry in entries.items()}


def test_what_is_judged_from_made_up_rows(monkeypatch):
    found = judged(made_up(), monkeypatch)
    assert [found[c]["value"] for c in CLAIMS] == pytest.approx([0.001, -0.001, 0.1005])
    assert [found[c]["verdict"] for c in CLAIMS] == ["holds"] * 3
    assert set(found["views.accuracy"]["parts"]) == set(two_views.FAMILIES)
    found = judged(made_up(gain=0.1, vicreg=0.9), monkeypatch)
    assert [found[c]["verdict"] for c in CLAIMS] == ["does not hold"] * 3
    few = made_up().iloc[:-1]  # VICReg lacks a seed
    assert not two_views.judge(few, "overnight").entries


def test_a_run_that_is_lost_counts_as_a_guess_and_its_family_does_not_train(monkeypatch):
    rows = made_up()
    lost = rows["loss"] == "nwj"
    rows.loc[lost, ["accuracy", "diverged_step"]] = np.nan, 3
    found = judged(rows, monkeypatch)
    assert set(found["views.accuracy"]["parts"]) == {"infonce", "mine"}
    assert found["views.nwj"]["verdict"] == "does not hold"
    assert found["views.nwj"]["value"] == pytest.approx(1 / 2 - 0.6015)  # of two classes
    rows.loc[:, ["accuracy", "diverged_step"]] = np.nan, 0
    found = judged(rows, monkeypatch)
    assert "views.accuracy" not in found  # nothing trains, nothing is compared
    assert found["views.vicreg"]["value"] == 0


def test_the_notebooks_sentence_and_table():
    rows = made_up()
    rows.loc[rows["loss"] == "nwj", ["accuracy", "diverged_step"]] = np.nan, 3
    assert "14 of 14 runs" in two_views.said(rows)
    assert two_views.said(rows).endswith("made up; runs that became non-finite: 2")
    shown = report.views_table(rows)
    assert shown.index.tolist() == [
        "InfoNCE", "ReInfoNCE", "MINE", "ReMINE", "NWJ", "ReNWJ", "VICReg"
    ]  # fmt: skip
    assert shown.loc["NWJ", "accuracy"] == "non-finite 2/2"
    assert report.views_table(rows[rows["seed"] == 0]).loc["MINE", "held-out MI (nats)"] == "0.900"
    assert report.views_figure(rows).axes[0].has_data()
