"""The reference that checks compare with, the receipt of a run, and clocks in artifacts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from remi_lib.paths import times_dir
from remi_lib.replication import receipt
from remi_lib.replication.receipt import (
    DIFFERS,
    IDENTICAL,
    WITHIN,
    artifacts,
    compare_claims,
    compare_tables,
    moved_verdicts,
    reference,
)
from remi_lib.replication.store import CLOCK, publish, record
from tests.conftest import REFERENCE, ROOT


@pytest.fixture
def shipped(tmp_path) -> Path:
    """A small checkout without git."""
    for name, text in (("figures/cpu/a.csv", "x\n1\n"), ("notebooks/01_a.ipynb", "{}")):
        (tmp_path / "mein Haus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mein Haus" / name).write_text(text)
    return tmp_path / "mein Haus"


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def table(root: Path) -> str:
    return (reference(root) / "figures/cpu/a.csv").read_text()


def test_without_git_the_reference_is_what_was_shipped(shipped):
    assert table(shipped) == "x\n1\n"
    (shipped / "figures/cpu/a.csv").write_text("x\n2\n")  # as `make all` does
    assert table(shipped) == "x\n1\n"


def test_with_git_the_reference_is_what_is_staged(shipped):
    git(shipped, "init", "-q")
    git(shipped, "add", "-A")
    git(shipped, "commit", "-q", "-m", "all")
    assert table(shipped) == "x\n1\n"
    (shipped / "figures/cpu/a.csv").write_text("x\n2\n")
    assert table(shipped) == "x\n1\n"
    git(shipped, "add", "figures")  # as after `make refresh`
    assert table(shipped) == "x\n2\n"
    git(shipped, "rm", "-q", "--cached", "notebooks/01_a.ipynb")
    assert not (reference(shipped) / "notebooks").exists()
    shutil.rmtree(shipped / ".git")
    (shipped / "figures/cpu/a.csv").write_text("x\n3\n")
    assert table(shipped) == "x\n2\n"


@pytest.mark.parametrize(
    ("changed", "status", "why"),
    [
        (None, IDENTICAL, ""),
        ({"x": [1.1, 2.1, 2.9, 4.1]}, WITHIN, ""),
        ({"loss": ["a 1.5", "b", "c", "d"]}, WITHIN, ""),
        ({"loss": ["other", "b", "c", "d"]}, DIFFERS, "loss: 25% of the texts"),
        ({"x": [11.0, 12.0, 13.0, 14.0]}, DIFFERS, "x: the median moved by 10"),
        ({"x": [1.0, 2.0, 3.0, float("nan")]}, DIFFERS, "x: 25% more, or fewer"),
        ({"x": ["frozen", "b", "c", "d"]}, DIFFERS, "x: numbers became text"),
        ({"y": [1, 2, 3, 4]}, DIFFERS, "columns"),
        ({"paper": [1.0, 2.0, 4.0, 3.0]}, DIFFERS, "paper: what the paper prints has changed"),
    ],
)
def test_tables_are_compared(tmp_path, changed, status, why):
    old = pd.DataFrame({"loss": ["a 1.0", "b", "c", "d"], "x": [1.0, 2.0, 3.0, 4.0]})
    old["paper"] = old["x"]
    old.to_csv(tmp_path / "old.csv", index=False)
    old.assign(**changed or {}).to_csv(tmp_path / "new.csv", index=False)
    found = compare_tables(tmp_path / "old.csv", tmp_path / "new.csv")
    assert found[0] == status
    assert found[1].startswith(why)


def test_a_lost_row_differs(tmp_path):
    (tmp_path / "old.csv").write_text("x\n1\n2\n")
    (tmp_path / "new.csv").write_text("x\n1\n")
    assert compare_tables(tmp_path / "old.csv", tmp_path / "new.csv") == (DIFFERS, "1 rows, not 2")


def entry(value: float, verdict: str = "holds") -> dict:
    return {
        "id": "a.b",
        "verdict": verdict,
        "value": value,
        "interval": [value - 1, value + 1],
    }


@pytest.mark.parametrize(("value", "status"), [(0.0, IDENTICAL), (0.5, WITHIN), (9.0, DIFFERS)])
def test_statistics_are_compared_by_their_intervals(tmp_path, value, status):
    for name, one in (("old", entry(0.0)), ("new", entry(value))):
        (tmp_path / name).write_text(json.dumps([one]))
    assert compare_claims(tmp_path / "old", tmp_path / "new")[0] == status


def test_moved_verdicts_are_named(tmp_path):
    for name, one in (("old", entry(0.0)), ("new", entry(0.1, "not resolved"))):
        (tmp_path / name).write_text(json.dumps([one]))
    moved = moved_verdicts(tmp_path / "old", tmp_path / "new")
    assert moved == {"a.b": "holds -> not resolved"}


def test_a_receipt_of_the_committed_artifacts_and_of_altered_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(receipt, "project_root", lambda: tmp_path)
    monkeypatch.setattr(receipt, "reference", lambda: REFERENCE)
    made = tmp_path / "figures" / "cpu"
    shutil.copytree(REFERENCE / "figures" / "cpu", made)
    rows = receipt.receipt("cpu")
    assert set(rows["status"]) == {IDENTICAL}
    assert "verdicts that moved: none" in capsys.readouterr().out
    (made / "fig1.csv").write_text("x\n1\n")
    (made / "fig1.png").unlink()
    assert receipt.main(["compare"]) == 0
    said = capsys.readouterr().out
    assert "fig1.csv: differs (columns)" in said
    assert "fig1.png: not made" in said
    kept = pd.read_csv(tmp_path / "build" / "cpu" / "receipt.csv").set_index("artifact")["status"]
    assert kept["fig1.csv"] == DIFFERS
    assert receipt.main(["compare", "--profile", "own"]) == 0
    assert "none of this profile is committed" in capsys.readouterr().out


DATE = re.compile(r"\b20\d\d-[01]\d-[0-3]\d\b")
RATE = re.compile(r"\b\d[\d.,]* ?(?:seconds|minutes|(?:images|steps) per second)\b")


def clock_readings(folder: Path) -> list[str]:
    """Where an artifact of a profile holds what a clock or a calendar said; should be empty.

    What `make compare` measured in ``estimators/`` is about time and is not looked at.
    """
    found = []
    for name, path in artifacts(folder).items():
        if name.endswith(".csv"):
            found += [f"{name}: {c}" for c in pd.read_csv(path, nrows=0) if c in CLOCK]
    written = [*folder.glob("*.csv"), *folder.rglob("*.json"), *folder.glob("html/*.html")]
    for path in sorted(written):
        text = path.read_text(encoding="utf-8")
        patterns = (DATE, RATE) if path.suffix == ".html" else (DATE,)
        for match in (m for pattern in patterns for m in pattern.finditer(text)):
            found.append(f"{path.relative_to(folder).as_posix()}: {match[0]}")
    return found


def test_the_committed_artifacts_hold_no_clock_reading():
    assert clock_readings(REFERENCE / "figures" / "cpu") == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "loss,seconds\nmine,1.5\n"),
        ("b.csv", "x,made\n1,2026-11-24\n"),
        ("claims/c.json", '{"date": "2026-11-24"}'),
        ("html/d.html", "<pre>10 runs at 557 images per second each</pre>"),
    ],
)
def test_a_clock_reading_is_found(tmp_path, name, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert len(clock_readings(tmp_path)) == 1


def test_published_tables_lose_their_clock_columns():
    publish("runs", "cpu", pd.DataFrame({"loss": ["mine"], "seconds": [1.5]}))
    record("rates", "cpu", pd.DataFrame({"images per second": [9.0]}))
    kept = times_dir("cpu")
    assert list(pd.read_csv(kept / "runs.csv")) == ["loss", "seconds"]
    assert list(pd.read_csv(kept.parents[1] / "cpu" / "runs.csv")) == ["loss"]
    assert (kept / "rates.csv").exists()


def test_times_of_nothing_and_of_two_notebooks(capsys):
    assert receipt.times("cpu").empty
    assert receipt.main(["times"]) == 0
    assert "nothing has run here yet" in capsys.readouterr().out
    folder = times_dir("cpu")
    folder.mkdir(parents=True)
    for name, seconds in (("02_b", 20.0), ("01_a", 10.0)):
        (folder / f"{name}.json").write_text(json.dumps({"notebook": name, "seconds": seconds}))
    table = receipt.times("cpu")
    assert table[["notebook", "seconds"]].to_numpy().tolist() == [["01_a", 10.0], ["02_b", 20.0]]
    assert list(table.columns)[2:] == ["computed", "device", "python", "torch", "date"]
    assert receipt.main(["times"]) == 0
    assert "30 s of notebooks" in capsys.readouterr().out


def test_the_whole_ledger_is_compared_by_its_claims(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "claims.json"
    shutil.copy(ROOT / "figures" / "cpu" / "claims.json", old)
    ledger = json.loads(old.read_text())
    moved = next(e for e in ledger["claims"] if e["interval"] and 0 < (e["value"] or 0) < 1e9)
    moved["value"] *= 1 + 1e-9
    new.write_text(json.dumps(ledger))
    assert compare_claims(old, new)[0] == WITHIN


def test_what_was_half_written_is_no_artifact(tmp_path):
    (tmp_path / "claims").mkdir()
    for name in ("a.csv", ".a-123.csv", "claims/b.json", "claims/.b-123.json"):
        (tmp_path / name).touch()
    assert list(artifacts(tmp_path)) == ["a.csv", "claims/b.json"]
