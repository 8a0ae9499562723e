"""Runs, sweeps and tables: one configuration, one result, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from remi_lib import benchmark, sweep, tables
from remi_lib.benchmark import Run
from remi_lib.paper import table2_long
from remi_lib.store import cache_dir
from remi_lib.tasks import ImageTask, Member

EPOCHS = {"slb": 1, "clb": 1}


def few(losses=("mine", "remine", "nwj", "renwj"), seeds=2, **options) -> list[Run]:
    given = dict(dataset="digits", batch=10, epochs=EPOCHS, seeds=seeds, weight=0.1, width=32)
    return tables.runs_of(losses, **(given | options))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> sweep.Results:
    previous = os.environ.get("REMI_CACHE")
    os.environ["REMI_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    found = sweep.sweep("few", few(tables.FAMILIES + tuple("re" + f for f in tables.FAMILIES)))
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
    together = benchmark.execute(runs, "cpu")[1]["summary"]
    alone = benchmark.execute(runs[1:2], "cpu")[0]["summary"]
    for column in ("train_joint", "train_log_partition", "test_row_term"):
        np.testing.assert_allclose(together[column], alone[column], rtol=5e-2)
    with pytest.raises(ValueError, match="differ in nothing but their loss"):
        benchmark.execute(few(seeds=1), "cpu")


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
    path = next(sweep.folder_of(run[0]).glob("summary.parquet"))
    path.write_bytes(b"garbage")
    after = sweep.load(run).summary
    assert "unreadable" in capsys.readouterr().out
    pd.testing.assert_frame_equal(before.drop(columns="seconds"), after.drop(columns="seconds"))


def test_killed_driver_goes_on_where_it_was():
    """SIGKILL while sweeping, then again: nothing half-written, only the rest is computed."""
    script = (
        "from tests.test_benchmark import few; from remi_lib import sweep;"
        "sweep.sweep('k', few(seeds=4, epochs={'slb': 2}), stack=4, workers=1)"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stderr=subprocess.DEVNULL
    )
    runs = few(seeds=4, epochs={"slb": 2})
    deadline = time.time() + 60
    while not any(map(sweep._is_done, runs)) and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    done = sum(map(sweep._is_done, runs))
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
    runs = tables.per_run(results)
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


def test_shifted_js_is_nwj_at_t_plus_one(results):
    shifted = tables.shifted_js(results)
    run = results.summary[results.summary["loss"] == "js"]["run"].iloc[0]
    rows = results.batches.query("run == @run and split == 'train' and pairs > 0")
    expected = (rows["joint"] + 1 - np.exp(rows["log_partition"])).mean()
    assert shifted[run] == pytest.approx(expected)


def test_table2_has_every_cell_and_never_a_zero_for_a_failure(results):
    runs = tables.per_run(results)
    runs.loc[runs["loss"] == "nwj", ["diverged_step", "first_term"]] = [3.0, "product_term"]
    table = tables.table2(runs, tables.theory(runs))
    assert len(table) == 2 * 12 * 2
    lost = table[table["loss"] == "nwj"]
    assert lost["value"].isna().all()
    assert lost["fate"].eq("diverged at step 3 (product_term)").all()
    html = tables.styled_table2(table, "digits", "clb").to_html()
    assert "diverged at step 3" in html
    assert "paper, CIFAR-10" in html
    assert "ours, digits" in html


def test_partly_failed_cell_says_so():
    row = {"value": 1.0, "low": 0.9, "high": 1.1, "failed": 1, "seeds": 5, "fate": "frozen"}
    assert tables.cell_text(row) == "1.000 ± 0.100; 1 of 5 frozen"


def test_paired_differences(results):
    runs = tables.per_run(results)
    gain = tables.paired(runs, "accuracy")
    assert gain.shape == (12, 2)
    own = runs.set_index(["benchmark", "loss", "seed"])["accuracy"]
    assert gain.loc[("digits", "slb", "nwj"), 1] == pytest.approx(
        own["slb", "renwj", 1] - own["slb", "nwj", 1]
    )


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
