"""What goes wrong around a run: a full disk, a folder that cannot be written, two at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas as pd
import pytest

from remi_lib.experiments import __main__ as command
from remi_lib.replication import notebooks
from remi_lib.replication.store import write_csv
from tests.conftest import ROOT
from tests.replication.test_notebooks import toy as toy  # a project with one small notebook

LIMITED = """
import resource
import pandas as pd
from pathlib import Path
from remi_lib.replication.store import write_csv
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a full disk does, mid-file
write_csv(pd.DataFrame({"x": range(10_000)}), Path("table.csv"))
"""

TWICE = """
import sys, time
from pathlib import Path
import pandas as pd
from remi_lib.replication.store import cached

def compute():
    with open("computed.log", "a") as log:
        log.write("once\\n")
    time.sleep(1)
    return {"table": pd.DataFrame({"x": [1.0, 2.0]})}

print(cached("shared", {"n": 1}, "remi_lib.scores", compute)["table"]["x"].sum())
"""


def python(code: str, folder, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_keeps_the_old_file(tmp_path):
    write_csv(pd.DataFrame({"x": [1]}), tmp_path / "table.csv")
    before = (tmp_path / "table.csv").read_bytes()
    run = python(LIMITED, tmp_path)
    assert "OSError" in run.communicate()[1]
    assert run.returncode != 0
    assert (tmp_path / "table.csv").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_figures_that_cannot_be_written(toy, capsys, monkeypatch):
    (toy / "blocked").write_text("a file where the folder should be")
    monkeypatch.setenv("REMI_FIGURES", str(toy / "blocked"))
    assert command.main(["run", "01_toy"]) == 1
    error = capsys.readouterr().err
    assert "blocked" in error  # the folder of what could not be written
    assert "what had finished is kept" in error
    assert not (toy / "build" / "cpu" / "01_toy.ipynb").exists()


def test_two_at_once_compute_once(tmp_path):
    both = [python(TWICE, tmp_path, REMI_CACHE=str(tmp_path / "cache")) for _ in range(2)]
    answers = [run.communicate(timeout=60) for run in both]
    assert [out.splitlines()[-1] for out, _ in answers] == ["3.0", "3.0"], answers
    assert (tmp_path / "computed.log").read_text() == "once\n"


@pytest.mark.parametrize("kind", [PermissionError, OSError])
def test_an_error_of_the_system_says_what_to_do(kind):
    assert "what had finished is kept" in notebooks.last_line(kind(28, "No space left", "x.csv"))
