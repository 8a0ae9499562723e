"""Runs, sweeps and tables: one configuration, one result, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
import pytest

from remi_lib.experiments import benchmark, image_results, image_runs, sweep
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.published import table2_long
from remi_lib.experiments.verdicts.benchmark import judge, prepared
from remi_lib.experiments.verdicts.common import at_best_weight, seeds_with
from remi_lib.images import load_images
from remi_lib.losses import LOSSES, split_name
from remi_lib.paths import cache_dir
from remi_lib.replication.claims import Ledger
from remi_lib.tasks import ImageTask, Member

EPOCHS = {"slb": 1, "clb": 1}


def few(losses=("mine", "remine", "nwj", "renwj"), seeds=2, **options) -> list[Run]:
    given = dict(dataset="digits", batch=10, epochs=EPOCHS, seeds=seeds, weight=0.1, width=32)
    return image_results.runs_of(losses, **(given | options))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> sweep.Results:
    previous = os.environ.get("REMI_CACHE")
    os.environ["REMI_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    found = sweep.sweep("few", few(LOSSES))
    if previous is not None:
        os.environ["REMI_CACHE"] = previous
    return found


def test_result_tables(results):
    assert len(results.summary) == 12 * 2 * 2
    assert results.summary["run"].is_unique
    batches = results.batches.groupby(["run", "split"]).size()
    assert (batches == 143).all()
    assert results.summary["accuracy"].between(0, 1).all()
    held_out = results.batches[results.batches["split"] == "test"]
    slb = held_out[held_out["benchmark"] == "slb"]
    assert (slb["pairs"] == 10).all()


def test_a_run_does_not_depend_on_its_company():
    runs = [r for r in few(seeds=1) if r.task.benchmark == "clb"]
    together = image_runs.execute(runs, "cpu")[1]["summary"]
    alone = image_runs.execute(runs[1:2], "cpu")[0]["summary"]
    for column in ("train_joint", "train_log_partition", "test_row_term"):
        np.testing.assert_allclose(together[column], alone[column], rtol=5e-2)
    with pytest.raises(ValueError, match="differ in nothing but their loss"):
        image_runs.execute(few(seeds=1), "cpu")


def test_sweep_computes_only_what_is_missing(capsys):
    runs = few(("mine",), seeds=1)
    sweep.sweep("a", runs)
    sweep.sweep("a", [*runs, *runs, *few(("infonce",), seeds=1)])
    assert "a: 2 runs, 0 from the cache" in capsys.readouterr().out.splitlines()[0]
    first = sweep.load(runs).summary
    pd.testing.assert_frame_equal(first, sweep.load(runs).summary)
    sweep.sweep("a", runs)
    assert "a: 2 runs, 2 from the cache" in capsys.readouterr().out


def test_unreadable_result_is_computed_again(capsys):
    run = few(("mine",), seeds=1)[:1]
    before = sweep.sweep("a", run).summary
    path = next(image_runs.folder_of(run[0]).glob("summary.parquet"))
    path.write_bytes(b"garbage")
    after = sweep.load(run).summary
    assert "unreadable" in capsys.readouterr().out
    pd.testing.assert_frame_equal(before.drop(columns="seconds"), after.drop(columns="seconds"))


def test_killed_driver_goes_on_where_it_was():
    """SIGKILL while sweeping, then again: nothing half-written, only the rest is computed."""
    script = (
        "from tests.experiments.test_benchmark import few; from remi_lib.experiments import sweep;"
        "sweep.sweep('k', few(seeds=4, epochs={'slb': 2}), stack=4, workers=1)"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stderr=subprocess.DEVNULL
    )
    runs = few(seeds=4, epochs={"slb": 2})
    deadline = time.time() + 600  # a busy machine imports slowly
    while not any(map(image_runs.is_done, runs)) and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    done = sum(map(image_runs.is_done, runs))
    assert 0 < done < len(runs)
    found = sweep.sweep("k", runs, stack=4)
    assert len(found.summary) == len(runs)
    kept = [p for p in (cache_dir() / "runs").iterdir() if not p.name.startswith(".")]
    assert len(kept) == len(runs)


def test_a_killed_worker_is_replaced(monkeypatch, capfd):
    """The first worker to start kills itself; the sweep still ends with every result, once."""
    monkeypatch.setattr(sweep, "_work", _suicidal)
    runs = few(("mine", "infonce"), seeds=2)
    found = sweep.sweep("s", runs, stack=1, workers=2)
    assert len(found.summary) == len(runs)
    assert found.summary["run"].is_unique
    assert "a worker died" in capfd.readouterr().out


_WORK = sweep._work


def _suicidal(runs, device):
    flag = cache_dir() / "died"
    flag.parent.mkdir(parents=True, exist_ok=True)
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _WORK(runs, device)


def test_hopeless_sweep_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sweep.ENGINES, "local", lambda *_: iter(()))
    with pytest.raises(RuntimeError, match="runs are missing after 3 attempts"):
        sweep.sweep("x", few(("mine",), seeds=1))


def test_unknown_engine():
    with pytest.raises(ValueError, match="engine: 'slurm' is not allowed"):
        sweep.sweep("x", few(("mine",), seeds=1), engine="slurm")


def test_chunks_keep_company_together():
    groups = sweep.chunks(few(seeds=2), stack=3)
    assert sorted(map(len, groups)) == [1, 1, 1, 1, 3, 3, 3, 3]
    assert all(len({run.company for run in group}) == 1 for group in groups)
    single = [Run(ImageTask(net="resnet18"), Member("mine", s), 1) for s in range(2)]
    assert list(map(len, sweep.chunks(single, 8))) == [1, 1]


def test_per_run_readings(results):
    runs = image_results.per_run(results)
    batches = results.batches.query("run == 0 and split == 'train' and pairs > 0")
    assert runs.loc[0, "mi"] == pytest.approx(batches["mi"].mean())
    pooled = np.average(batches["joint"], weights=batches["pairs"]) - np.log(
        np.exp(batches["log_partition"].astype(float)).mean()
    )
    assert runs.loc[0, "micro"] == pytest.approx(pooled, rel=1e-5)
    nwj = runs[(runs["loss"] == "nwj") & (runs["benchmark"] == "slb")].iloc[0]
    exact = nwj["train_joint"] - np.exp(nwj["train_log_partition"] - 1)
    assert nwj["exact"] == pytest.approx(exact, rel=1e-5)
    infonce = runs[runs["loss"] == "infonce"].iloc[0]
    assert infonce["exact"] == pytest.approx(infonce["train_joint"] - infonce["train_row_term"])


def test_table2_has_every_cell_and_never_a_zero_for_a_failure(results):
    runs = image_results.per_run(results)
    runs.loc[runs["loss"] == "nwj", ["diverged_step", "first_term"]] = [3.0, "product_term"]
    table = benchmark.table2(runs, benchmark.theory(runs))
    assert len(table) == 2 * 12 * 2
    lost = table[table["loss"] == "nwj"]
    assert lost["value"].isna().all()
    assert lost["fate"].eq("diverged at step 3").all()
    html = benchmark.styled_table2(table, "digits", "clb").to_html()
    assert "diverged at step 3" in html
    assert "paper, CIFAR-10" in html
    assert "ours, digits" in html


def test_partly_failed_cell_says_so():
    row = {"value": 1.0, "low": 0.9, "high": 1.1, "failed": 1, "seeds": 5, "fate": "frozen"}
    assert image_results.cell_text(row) == "1.000 ± 0.100; 1 of 5 frozen"


ENTROPY = load_images("digits").entropy


def made_up(**changes: dict) -> sweep.Results:
    """All twelve losses in both benchmarks, two seeds, every number known.

    MI is H(Y) less 0.3 for an original and less 0.1 for its twin, JS less 1/e; accuracy 0.8 and
    0.9.  Seeds differ by 0.02 in both.  ``changes``: columns of a loss's runs in CLB.
    """
    summary, batches = [], []
    runs = product(("slb", "clb"), LOSSES, (0, 1))
    for number, (where, loss, seed) in enumerate(runs):
        family, twin = split_name(loss)
        low = 0.1 if twin else 1 / np.e if family == "js" else 0.3
        statistics = {"joint": ENTROPY, "log_partition": 0.0, "row_term": 0.5}
        row = {
            **Run(ImageTask("digits", where), Member(loss, seed, 10), 1, 1e-3).columns(),
            "run": number,
            "accuracy": (0.9 if twin else 0.8) - 0.02 * seed,
            "accuracy_batch_norm": 0.7,
            **{f"{s}_{k}": v for s in ("train", "test") for k, v in statistics.items()},
            "diverged_step": np.nan,
            "first_term": "",
            "frozen": False,
            "seconds": 1.0,
            "target": 0.0 if loss == "rejs" else np.nan,
        }
        row |= changes.get(loss, {}) if where == "clb" else {}
        mi = np.nan if np.isfinite(row["diverged_step"]) else ENTROPY - low - 0.02 * seed
        summary.append(row)
        about = {"run": number, "benchmark": where, "loss": loss, "pairs": 10}
        batches += [{**about, **statistics, "split": s, "mi": mi} for s in ("train", "test")]
    empty = pd.DataFrame({"run": [0], "epoch": 0})
    return sweep.Results(pd.DataFrame(summary), empty, pd.DataFrame(batches))


DIVERGED = {"diverged_step": 0.0, "first_term": "product_term"}


def lost(runs: pd.DataFrame, loss: str, seeds: Sequence[int]) -> None:
    """Some seeds of a loss diverge, in both benchmarks."""
    gone = (runs["loss"] == loss) & runs["seed"].isin(seeds)
    runs.loc[gone, ["diverged_step", "first_term", "mi", "accuracy"]] = [
        3.0,
        "product_term",
        np.nan,
        np.nan,
    ]


def test_table2_by_hand():
    """The mean of two seeds 0.02 apart, and t(1, 97.5%) = 12.706 times 0.01 around it."""
    table = benchmark.table2(image_results.per_run(made_up())).set_index(
        ["benchmark", "loss", "quantity"]
    )
    mine = table.loc[("slb", "mine", "mi")]
    assert mine["value"] == pytest.approx(ENTROPY - 0.31)
    assert (mine["high"] - mine["low"]) / 2 == pytest.approx(0.12706, abs=1e-5)
    assert (mine["paper"], mine["paper_ci"], mine["paper_dataset"]) == (2.300, 0.003, "cifar10")
    assert mine["theory"] is None
    assert table.loc[("clb", "renwj", "accuracy"), "value"] == pytest.approx(0.89)
    assert table.loc[("clb", "renwj", "accuracy"), "paper"] == 0.831
    assert image_results.cell_text(mine) == f"{ENTROPY - 0.31:.3f} ± 0.127"


def test_table2_averages_the_runs_that_trained_and_counts_the_others():
    runs = image_results.per_run(made_up())
    third = runs[runs["seed"] == 1].assign(seed=2, mi=7.0, accuracy=0.1, frozen=True)
    table = benchmark.table2(pd.concat([runs, third])).set_index(["benchmark", "loss", "quantity"])
    row = table.loc[("clb", "mine", "mi")]
    assert (row["failed"], row["seeds"], row["fate"]) == (1, 3, "frozen")
    assert row["value"] == pytest.approx(ENTROPY - 0.31)  # not a mean with the 7 of a frozen run
    assert image_results.cell_text(row).endswith("± 0.127; 1 of 3 frozen")


def test_one_survivor_is_no_interval_and_never_the_better_half():
    runs = image_results.per_run(made_up())
    lost(runs, "nwj", [0])
    table = benchmark.table2(runs)
    row = table[(table["loss"] == "nwj") & (table["quantity"] == "mi")].iloc[0]
    assert np.isnan(row["value"])
    assert image_results.cell_text(row) == "1 of 2 diverged at step 3"
    block = table.set_index(["benchmark", "quantity", "loss"]).loc["slb"]
    pair = [block.loc[("mi", loss)] for loss in ("nwj", "renwj")]
    assert benchmark._better(pair, "mi", ENTROPY) == ["", "font-weight: bold; color: #D55E00"]


@pytest.mark.parametrize(
    ("original", "twin", "quantity", "css"),
    [
        ((2.0, 1.9, 2.1), (2.2, 2.15, 2.25), "mi", ["", "font-weight: bold; color: #D55E00"]),
        ((2.0, 1.9, 2.1), (2.1, 2.0, 2.2), "mi", ["", "font-weight: bold"]),  # they overlap
        ((2.3, 2.2, 2.4), (3.0, 2.9, 3.1), "mi", ["font-weight: bold; color: #D55E00", ""]),
        ((0.9, 0.8, 1.0), (0.7, 0.6, 0.8), "accuracy", ["font-weight: bold", ""]),
    ],
)
def test_the_better_half_is_nearer_the_truth_or_more_accurate(original, twin, quantity, css):
    columns = ("value", "low", "high")
    rows = [dict(zip(columns, x, strict=True), failed=0, seeds=5) for x in (original, twin)]
    assert benchmark._better(rows, quantity, np.log(10)) == css


def test_styled_table2_shows_ours_theory_and_paper():
    runs = image_results.per_run(made_up())
    lost(runs, "tuba", [0, 1])
    optima = benchmark.theory(runs)
    shown = benchmark.styled_table2(benchmark.table2(runs, optima), "digits", "slb")
    frame, html = shown.data, shown.to_html()
    ours, paper = "ours, digits", "paper, CIFAR-10"
    assert frame.loc["MINE", ("MI (nats)", ours, "regularised")] == f"{ENTROPY - 0.11:.3f} ± 0.127"
    assert frame.loc["JS", ("MI (nats)", "theory", "original")] == f"{np.log(10) - 1 / np.e:.3f}"
    assert frame.loc["JS", ("MI (nats)", paper, "original")] == "1.944 ± 0.039"
    assert frame.loc["JS", ("accuracy", paper, "regularised")] == "0.842 ± 0.004"
    assert frame.loc["TUBA", ("accuracy", ours, "original")] == "diverged at step 3"
    assert ("accuracy", "theory", "original") not in frame.columns
    assert f"SLB, H(Y) = {ENTROPY:.3f} nats" in html
    assert not any("difference" in column for column in frame)  # digits less CIFAR is nothing
    without = benchmark.styled_table2(benchmark.table2(runs), "digits", "slb").data
    assert set(without["MI (nats)", "theory", "original"]) == {""}


def test_the_papers_accuracy_is_compared_with_the_one_that_the_authors_take(monkeypatch):
    """Batch norm in training mode; on the paper's own data set alone."""
    digits = load_images("digits")
    monkeypatch.setattr(benchmark, "load_images", lambda name: digits)
    runs = image_results.per_run(made_up()).assign(accuracy_batch_norm=0.7)
    table = benchmark.table2(runs).assign(dataset="cifar10")  # the numbers are of digits
    own = table.query("quantity == 'accuracy' and benchmark == 'slb'").set_index("loss")
    assert own["authors_way"].tolist() == pytest.approx([0.7] * len(own))
    assert own["value"].min() > 0.75
    frame = benchmark.styled_table2(table, "cifar10", "slb").data
    assert frame.loc["MINE", ("accuracy", "authors' way", "original")] == "0.700"
    difference = frame.loc["MINE", ("accuracy", "difference", "original")]
    assert difference == f"{0.7 - own.loc['mine', 'paper']:+.3f}"


def test_theory_is_the_closed_form_where_there_is_one(results):
    """SLB: log K for every bound at its optimum, JS low by 1/e; CLB: InfoNCE below log B."""
    optima = benchmark.theory(image_results.per_run(results))
    assert len(optima) == 24
    for family in ("mine", "infonce", "nwj", "tuba", "remine"):
        assert optima["digits", "slb", family] == pytest.approx(np.log(10), abs=1e-3)
    assert optima["digits", "slb", "js"] == pytest.approx(np.log(10) - 1 / np.e, abs=1e-4)
    assert optima["digits", "clb", "tuba"] < optima["digits", "clb", "nwj"] < np.log(10)
    free = benchmark.theory(
        image_results.per_run(results).query("loss == 'nwj'"), nonnegative=False
    )
    assert free["digits", "clb", "nwj"] > optima["digits", "clb", "nwj"] + 0.1


def test_a_diverged_run_guesses_and_is_infinitely_wrong():
    runs = image_results.per_run(made_up(nwj=DIVERGED))
    gone = (runs["loss"] == "nwj") & (runs["benchmark"] == "clb")
    accuracy, error = image_results.accuracy_or_guess(runs), image_results.mi_error(runs)
    assert accuracy[gone].tolist() == [0.1, 0.1]
    assert accuracy[~gone].min() == pytest.approx(0.78)
    assert error[gone].tolist() == [np.inf, np.inf]
    assert error[runs["loss"] == "remine"].tolist() == pytest.approx([0.1, 0.12] * 2)
    assert image_results.failed(runs).sum() == 2
    assert runs[gone].apply(image_results.fate, axis=1).unique() == ["diverged at step 0"]


def judged(main) -> dict[str, dict]:
    runs = image_results.per_run(main)
    runs["weight"] = np.where(runs["loss"].str.startswith("re"), 0.01, np.nan)
    rejs = runs[runs["loss"] == "rejs"].assign(target=0.0)  # its own runs as the other target's
    ledger = Ledger("04_benchmark", "cpu", ["digits"])
    judge(ledger, runs, rejs)
    assert set(ledger.due()) == set(ledger.entries)
    return {key.removesuffix("@digits"): e for key, e in ledger.entries.items()}


def test_claims_of_notebook_4_by_hand():
    main = made_up(nwj=DIVERGED, smile={"frozen": True}, remine={"accuracy": 0.75})
    found = judged(main)
    value = {key: entry["value"] for key, entry in found.items()}
    closer = found["table2.slb.closer"]
    assert closer["parts"]["mine"]["value"] == pytest.approx(0.2)
    assert closer["parts"]["js"]["value"] == pytest.approx(1 / np.e - 0.1, abs=1e-6)
    assert closer["value"] == pytest.approx(np.mean([p["value"] for p in closer["parts"].values()]))
    assert value["table2.slb.accuracy"] == pytest.approx(0.1)
    # Two of the three fail, one diverges, one freezes: at no seed do all three.
    fails = {k: p["value"] for k, p in found["table2.clb.three-fail"]["parts"].items()}
    assert fails == {"smile": 1, "nwj": 1, "tuba": 0}
    assert value["table2.clb.three-fail"] == 0
    assert value["table2.clb.rescued"] == 0
    assert value["table2.clb.half-way"] == 1
    assert value["table2.clb.competitive"] == pytest.approx(0.1)
    assert value["table2.slb.beats-ce"] == 0
    # Its own runs stand for the other target's: the same gain.
    assert value["quirk2.js-gain-at-target-0"] == pytest.approx(1 / np.e - 0.1, abs=1e-6)


def test_accuracies_know_that_the_test_images_are_a_sample():
    """Two seeds that agree to the digit leave no spread, but 360 images still do."""
    parts = judged(made_up())["table2.slb.accuracy"]["parts"]
    p, q, images = 0.79, 0.89, 360
    half = 1.959964 * np.sqrt((p * (1 - p) + q * (1 - q)) / images)
    low, high = parts["mine"]["interval"]
    assert (high - low) / 2 == pytest.approx(half, rel=1e-3)


def test_lambda_is_the_one_of_best_mi_among_the_papers_three():
    """At lambda 1 the MI is nearest, but the paper did not have it."""
    runs = prepared(image_results.per_run(made_up()))
    runs["weight"] = np.where(runs["loss"].str.startswith("re"), 0.01, np.nan)
    far = runs[runs["loss"] == "remine"].assign(weight=0.1, error=0.5)
    beyond = runs[runs["loss"] == "remine"].assign(weight=1.0, error=0.0)
    chosen = at_best_weight(pd.concat([runs, far, beyond]))
    assert chosen.loc[chosen["loss"] == "remine", "weight"].unique().tolist() == [0.01]
    assert len(chosen) == len(runs)
    with pytest.raises(ValueError, match=r"weights: \['reinfonce'.* were run at none of \(5.0,\)"):
        at_best_weight(runs, [5.0])


def test_paired_differences(results):
    runs = image_results.per_run(results)
    gain = benchmark.paired(runs, "accuracy")
    assert gain.shape == (12, 2)
    own = runs.set_index(["benchmark", "loss", "seed"])["accuracy"]
    assert gain.loc[("digits", "slb", "nwj"), 1] == pytest.approx(
        own["slb", "renwj", 1] - own["slb", "nwj", 1]
    )


def test_what_the_penalty_gains_by_hand():
    truth = load_images("digits").entropy
    row = {"dataset": "digits", "frozen": False, "diverged_step": np.nan}
    rows = [
        {**row, "benchmark": b, "loss": loss, "seed": seed, "mi": mi, "accuracy": accuracy}
        for b, loss, mi, accuracy in (
            ("slb", "mine", truth - 0.5, 0.6),
            ("slb", "remine", truth + 0.2, 0.7),
            ("clb", "nwj", np.nan, np.nan),
            ("clb", "renwj", truth, 0.3),
        )
        for seed in range(3)
    ]
    runs = pd.DataFrame(rows)
    runs.loc[runs["loss"] == "nwj", "diverged_step"] = 0.0
    runs = runs[(runs["loss"] != "remine") | (runs["seed"] != 2)]
    gains = benchmark.penalty_gains(runs)
    table = benchmark.printed_gains(gains).droplevel("data")
    mine = ["0.300 [0.300, 0.300]", "0.100 [0.100, 0.100]"]
    assert table.loc[("SLB", "MINE")].tolist() == [2, *mine]  # positive though it overshoots
    nwj = ["original failed", "0.200 [0.200, 0.200]"]  # from a guess's 0.1
    assert table.loc[("CLB", "NWJ")].tolist() == [3, *nwj]
    assert gains.loc[("digits", "slb", "mine"), "closer_low"] == pytest.approx(0.3)
    assert benchmark.penalty_gains(runs[runs["seed"] < 1]).empty  # one seed has no interval


def test_failures_are_printed_with_the_term_that_went_first():
    row = {"dataset": "digits", "benchmark": "clb", "first_term": None, "frozen": False}
    ways = (
        {"loss": "nwj", "diverged_step": 3.0, "first_term": "product_term", "accuracy": np.nan},
        {"loss": "smile", "diverged_step": np.nan, "frozen": True, "accuracy": 0.4},
        {"loss": "smile", "diverged_step": np.nan, "frozen": True, "accuracy": 0.5},
        {"loss": "mine", "diverged_step": np.nan, "accuracy": 0.9},
    )
    table = benchmark.printed_failures(pd.DataFrame([row | way for way in ways]))
    table = table.loc["digits (stand-in for CIFAR-10)", "CLB"]
    assert len(table) == 2
    assert table.loc[("NWJ", "diverged at step 3", "second")].tolist() == [1, "none"]
    assert table.loc[("SMILE", "frozen", "–")].tolist() == [2, 0.45]


def test_rejs_targets():
    assert few(("rejs",), rejs_target=1.0)[0].member.target == 1.0
    consistent = few(("rejs",), rejs_target="consistent")[0].member.target
    assert consistent == pytest.approx(np.log(11) / 10, abs=1e-4)
    with pytest.raises(ValueError, match="rejs_target: 'best'"):
        few(("rejs",), rejs_target="best")


def test_published_numbers():
    wide = table2_long()
    assert len(wide) == 48
    cell = wide.query("benchmark == 'clb' and dataset == 'cifar100' and loss == 'resmile'").iloc[0]
    assert (cell["mi"], cell["mi_ci"], cell["accuracy"]) == (4.677, 0.162, 0.585)


def test_a_claim_about_several_losses_counts_seeds():
    """Two losses that share a seed's start and batches are not two samples of what happens."""
    failed = pd.DataFrame({"nwj": [True, True, False], "tuba": [True, False, False]})
    assert seeds_with(failed, all_of_them=True).tolist() == [True, False, False]
    assert seeds_with(failed, all_of_them=False).tolist() == [True, True, False]
    gap = failed.astype(object)
    gap.iloc[1, 0] = np.nan
    with pytest.raises(ValueError, match="failed: a run of"):
        seeds_with(gap, all_of_them=True)
