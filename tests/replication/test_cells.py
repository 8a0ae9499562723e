"""Cells: found by configuration, whatever code computed them; resumed; never lost by an edit."""

import multiprocessing
import os
import signal
import subprocess
import time

import pandas as pd

from remi_lib.paths import cache_dir
from remi_lib.replication import cells, store
from remi_lib.replication.cells import Cell

MODULE = "remi_lib.intervals"


def cell(number, done=None, cost=1.0, pause=0.0):
    config = {"number": number}

    def compute():
        def work():
            time.sleep(pause)
            if done is not None:
                done.append(number)
            return {"table": pd.DataFrame({"x": [number]})}

        return store.cached("toy", config, MODULE, work)

    return Cell("toys", f"number {number}", "toy", config, MODULE, cost, compute)


def test_what_is_missing_is_computed_in_order_and_once():
    done: list[int] = []
    plan = [cell(2, done), cell(0, done), cell(1, done)]
    plan[1].compute()
    cells.finish(plan)
    assert done == [0, 2, 1]
    cells.finish(plan)
    assert done == [0, 2, 1]
    assert cells.tables_of(plan[2])["table"]["x"].tolist() == [1]


def test_an_edit_of_the_code_loses_nothing_and_is_said(monkeypatch):
    done: list[int] = []
    plan = [cell(0, done)]
    cells.finish(plan)
    monkeypatch.setattr(store, "code_digest", lambda module: "edited")
    monkeypatch.setattr(cells, "code_digest", lambda module: "edited")
    assert cells.state_of(plan[0]) == "done by other code"
    cells.finish(plan)
    assert done == [0]
    cells.finish(plan, again=True)
    assert done == [0, 0]
    assert cells.state_of(plan[0]) == "done"


def test_a_setting_that_was_added_later_does_not_hide_a_result():
    plan = cell(0)
    plan.compute()
    folder = cells.folder_of(plan)
    store.write_tables(folder, store.read_tables(folder), {"number": 0, "added": "later"})
    assert cells.folder_of(plan) == folder
    assert cells.folder_of(cell(1)) is None


def test_the_record_names_commit_and_code():
    plan = [cell(0)]
    cells.finish(plan)
    record = cells.record_of(plan[0])
    assert record["code"] == store.code_digest(MODULE)[:12]
    assert record["commit"] == cells.commit()
    assert record["seconds"] >= 0


def test_tables_that_a_sitting_writes_do_not_make_its_commit_dirty(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "project_root", lambda: tmp_path)
    assert cells.commit() == "unknown"  # no checkout
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for name in ("figures/t.csv", "code.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1\n")
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    clean = cells.commit()
    assert len(clean) == 12
    (tmp_path / "figures/t.csv").write_text("2\n")
    assert cells.commit() == clean
    (tmp_path / "code.py").write_text("2\n")
    assert cells.commit() == clean + "-dirty"


def test_what_is_left_is_estimated_from_what_was_measured():
    plan = [cell(0, cost=2.0), cell(1, cost=6.0), cell(2, cost=1.0)]
    assert cells.left(plan).startswith("0 of 3 cells done, the time left is unknown until")
    cells.finish(plan[:1])
    cells.write_json({**cells.record_of(plan[0]), "seconds": 7200.0}, plan[0].record)
    assert cells.left(plan) == "1 of 3 cells done, 7.0 hours left on one core"
    table = cells.status(plan)
    assert table["state"].tolist() == ["done", "missing", "missing"]


def test_a_kill_costs_one_cell_and_the_next_run_goes_on():
    plan = [cell(number, pause=0.3) for number in range(4)]
    worker = multiprocessing.get_context("fork").Process(target=cells.finish, args=(plan,))
    worker.start()
    deadline = time.time() + 30
    while cells.folder_of(plan[0]) is None and time.time() < deadline:
        time.sleep(0.02)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    survived = [cells.folder_of(c) is not None for c in plan]
    assert survived[0]
    assert not survived[3]
    assert "running" not in set(cells.status(plan)["state"])  # a dead process holds nothing
    cells.finish(plan)
    assert set(cells.status(plan)["state"]) == {"done"}


def test_a_cell_that_another_process_is_at_is_left_to_it():
    plan = [cell(0), cell(1)]
    held = cells.FileLock(plan[0].record.with_suffix(".lock"))
    plan[0].record.parent.mkdir(parents=True)
    with held:
        context = multiprocessing.get_context("fork")
        worker = context.Process(target=cells.finish, args=(plan,))
        worker.start()
        worker.join()
    assert cells.status(plan)["state"].tolist() == ["missing", "done"]


def test_an_unreadable_folder_is_no_result():
    plan = cell(0)
    plan.compute()
    (cells.folder_of(plan) / "config.json").write_text("{")
    assert cells.folder_of(plan) is None
    assert list(cache_dir().glob("toy-*"))


def test_new_rows_replace_their_like_and_the_others_stay():
    former = pd.DataFrame({"loss": ["a", "b"], "seed": [0, 0], "x": [1.0, 2.0]})
    fresh = pd.DataFrame({"loss": ["b", "c"], "seed": [0, 0], "x": [9.0, 3.0]})
    table = cells.merged(former, fresh, ["loss", "seed"])
    assert dict(zip(table["loss"], table["x"], strict=True)) == {"a": 1.0, "b": 9.0, "c": 3.0}
    assert cells.merged(None, fresh, ["loss"]).equals(fresh)


def test_a_table_that_comes_back_from_its_file_is_not_doubled(tmp_path):
    keys = ["level", "clipped", "name"]
    table = pd.DataFrame(
        {"level": [2.0, 0.1], "clipped": [True, False], "name": ["a", "b"], "x": [1.5, 2.5]}
    )
    store.write_csv(table, tmp_path / "table.csv")
    again = cells.merged(pd.read_csv(tmp_path / "table.csv"), table[:1], keys)
    assert len(again) == 2
    store.write_csv(table[:1], tmp_path / "one.csv")  # its level is an integer when read
    assert len(cells.merged(pd.read_csv(tmp_path / "one.csv"), table, keys)) == 2


def test_a_key_that_is_missing_is_the_same_before_and_after_its_file(tmp_path):
    rows = pd.DataFrame({"loss": ["mine", "remine"], "weight": [None, 0.1], "mi": [1.0, 2.0]})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    merged = cells.merged(pd.read_csv(tmp_path / "rows.csv"), rows, ["loss", "weight"])
    assert len(merged) == 2


def test_of_two_results_the_newer_one_counts(monkeypatch):
    values = iter(range(9))
    config = {"number": 0}

    def compute():
        fresh = {"table": pd.DataFrame({"x": [next(values)]})}
        store.cached("toy", config, MODULE, lambda: fresh)

    one = Cell("toys", "number 0", "toy", config, MODULE, 1.0, compute)
    for edit in range(6):  # a digest whose folder may come before or after the former one
        monkeypatch.setattr(store, "code_digest", lambda module, edit=edit: f"edit {edit}")
        monkeypatch.setattr(cells, "code_digest", lambda module, edit=edit: f"edit {edit}")
        cells.finish([one], again=True)
        assert cells.tables_of(one)["table"]["x"].tolist() == [edit]
        time.sleep(0.01)


def test_a_damaged_table_is_no_result():
    plan = cell(0)
    cells.finish([plan])
    (cells.folder_of(plan) / "table.parquet").write_bytes(b"")
    cells._config.cache_clear()  # as in a process of its own
    assert cells.state_of(plan) == "missing"
    assert cells.finish([plan])
    assert cells.tables_of(plan)["table"]["x"].tolist() == [0]


def test_a_cell_without_its_images_does_not_stop_the_others(capsys):
    def absent():
        raise FileNotFoundError("dataset: cifar10 is missing")

    done: list[int] = []
    first = Cell("toys", "no images", "toy", {"number": 7}, MODULE, 1.0, absent)
    assert not cells.finish([first, cell(1, done)])
    assert done == [1]
    assert (
        "1 cells left out, no images first: dataset: cifar10 is missing" in capsys.readouterr().out
    )
