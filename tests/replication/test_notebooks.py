"""The contract of notebooks and parameter files, and how errors reach whoever makes them."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pandas as pd
import pytest

from remi_lib.experiments import __main__ as command
from remi_lib.experiments.rules import RULES
from remi_lib.replication import notebooks
from remi_lib.replication.claims import worded
from remi_lib.replication.parameters import ParameterError, check, declared
from tests.conftest import REFERENCE, ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]


def cells(path: Path, kind: str = "code") -> list[dict]:
    return [
        c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind
    ]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tagged(path: Path, tag: str) -> list[dict]:
    return [c for c in cells(path) if tag in c["metadata"].get("tags", [])]


def output(cell: dict) -> str:
    return "".join("".join(o.get("text", "")) for o in cell["outputs"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_committed_notebook_was_executed(path):
    for count, cell in enumerate(cells(path), start=1):
        assert cell["execution_count"] == count, source(cell)
        for found in cell["outputs"]:
            assert found["output_type"] != "error"
            assert found.get("name") != "stderr", "".join(found.get("text", ""))
            assert "site-packages" not in json.dumps(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_checked_cells_hold_what_nbval_compares(path):
    checked = tagged(path, "nbval-check-output")
    assert checked
    assert all(output(cell).strip() for cell in checked)


def disagreements(notebook: Path, ledger: Path) -> list[str]:
    """Lines of a ledger that the notebook's checked cells do not print as they stand there."""
    lines = [f"{e['id']}: {worded(e)}" for e in json.loads(ledger.read_text(encoding="utf-8"))]
    printed = "".join(map(output, tagged(notebook, "nbval-check-output"))).splitlines()
    return [line for line in lines if line not in printed]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_stored_verdicts_are_the_committed_ledgers(path):
    """A verdict altered in the notebook or in the ledger disagrees with the other."""
    ledger = REFERENCE / "figures" / "cpu" / "claims" / f"{path.stem}.json"
    path = REFERENCE / "notebooks" / path.name
    if not ledger.exists():
        pytest.skip("no claims of its own")
    assert disagreements(path, ledger) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_cells_are_short_and_parse(path):
    for cell in cells(path):
        text = source(cell)
        ast.parse(text)
        assert len(text.splitlines()) <= 25, text
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert len(node.body) <= 6, node.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_tells_a_story(path):
    first = source(cells(path, "markdown")[0])
    assert first.startswith("# ")
    assert "\n> " in first
    ids = [c["id"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("profile", ["cpu", "gpu", "gpu32", "tiny"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_parameter_files_fit(path, profile):
    values = check(path, ROOT / "params" / profile / f"{path.stem}.yaml", RULES)
    assert values.keys() == declared(path).keys()
    assert values["profile"] == profile
    if profile == "cpu":
        assert values == declared(path)


def test_without_rules_only_names_and_types_count(toy):
    parameters = toy / "params" / "cpu" / "01_toy.yaml"
    parameters.write_text("losses: [mien]\n", encoding="utf-8")
    assert check(toy / "notebooks" / "01_toy.ipynb", parameters) == {"losses": ["mien"]}


def test_no_parameter_file_without_a_notebook():
    for path in (ROOT / "params").glob("*/*.yaml"):
        assert path.stem in NAMES


BAD = [
    ("stepz: 10", "unknown key 'stepz'; 01_toy.ipynb declares: profile, steps, lr"),
    ("lr: 1e-3", r"lr: '1e-3' is str.*write 1.0e-3"),
    ("steps: 10.5", "steps: 10.5 is float, the notebook declares int"),
    ("steps: true", "steps: True is bool"),
    ("steps: 0", "steps: 0 is not allowed; at least 1"),
    ("lr: .nan", "lr: nan is not allowed; positive and finite"),
    ("losses: []", "losses: needs at least one item"),
    ("profile: gpu", "profile: must be 'cpu'"),
    ("weight: -0.1", "weight: -0.1 is not allowed; lambda >= 0"),
    ("weight: .inf", "weight: inf is not allowed; lambda >= 0"),
    ("batch: 1", "batch: 1 is not allowed; at least 2"),
    ("losses: [mine, mien]", "losses: 'mien' is not allowed; one of mine"),
    ("losses: [mine, 3]", "losses: 3 is int"),
    ("device: tpu", "device: 'tpu' is not allowed"),
    ("seeds: 1", "seeds: 1 is not allowed"),
    ("samples: 10", "samples: 10 is not allowed; at least 50, which estimate_mi needs"),
    ("seeds:", "seeds: None is NoneType, the notebook declares int"),
    ("- a list", "must hold 'key: value' lines"),
    ("lr: [", "is not YAML"),
    ("steps: 5\nlr: 0.1\nsteps: 50", "'steps' is given twice"),
]


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """A project with one small notebook."""
    declaration = [
        'profile = "cpu"\n',
        "steps = 2\n",
        "lr = 0.1\n",
        "weight = 0.1\n",
        "batch = 4\n",
        'losses = ["mine"]\n',
        'device = "auto"\n',
        "seeds = 2\n",
        "samples = 100\n",
    ]
    code = {"cell_type": "code", "outputs": [], "execution_count": None}
    content = {
        "cells": [
            {**code, "id": "a", "metadata": {"tags": ["parameters"]}, "source": declaration},
            {**code, "id": "b", "metadata": {}, "source": ["print(1 / (steps - 3))"]},
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    for folder in ("notebooks", "params/cpu"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notebooks" / "01_toy.ipynb").write_text(json.dumps(content))
    (tmp_path / "params" / "cpu" / "01_toy.yaml").write_text("steps: 5\n")
    for module in (notebooks, command):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_parameters_are_named_before_anything_runs(toy, text, message):
    parameters = toy / "params" / "cpu" / "01_toy.yaml"
    parameters.write_text(text)
    with pytest.raises(ParameterError, match=message) as caught:
        check(toy / "notebooks" / "01_toy.ipynb", parameters, RULES)
    assert "01_toy.yaml" in str(caught.value)


def test_run_leaves_a_target_only_when_everything_ran(toy, capsys):
    target = toy / "build" / "cpu" / "01_toy.ipynb"
    assert command.main(["run", "01_toy"]) == 0
    good = target.read_bytes()
    parameters = toy / "params" / "cpu" / "01_toy.yaml"
    parameters.write_text("steps: 3\n")
    assert command.main(["run", "01_toy"]) == 1
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err
    assert target.read_bytes() == good
    assert target.with_suffix(".failed.ipynb").exists()
    parameters.write_text("steps: -1\n")
    assert command.main(["run", "01_toy"]) == 2
    parameters.write_text("steps: 4\n")
    assert command.main(["run", "01_toy"]) == 0
    assert not target.with_suffix(".failed.ipynb").exists()


def test_refresh_strips_what_papermill_adds(toy):
    command.main(["run", "01_toy"])
    notebooks.refresh()
    found = json.loads((toy / "notebooks" / "01_toy.ipynb").read_text(encoding="utf-8"))
    assert [c["execution_count"] for c in found["cells"]] == [1, 2]
    assert set(found["metadata"]) == {"kernelspec", "language_info"}
    assert found["cells"][1]["outputs"][0]["text"] == ["0.5\n"]
    assert str(toy) not in json.dumps(found)


def test_times_are_kept_of_what_was_computed(toy):
    path = notebooks.times_dir("cpu") / "01_toy.json"
    command.main(["run", "01_toy"])
    first = json.loads(path.read_text(encoding="utf-8"))
    assert first["computed"] == 0
    path.write_text(json.dumps({**first, "seconds": 99.0, "computed": 7}))
    command.main(["run", "01_toy"])
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert (kept["seconds"], kept["computed"]) == (99.0, 7)
    (toy / "params" / "cpu" / "01_toy.yaml").write_text("steps: 6\n")
    command.main(["run", "01_toy"])
    assert json.loads(path.read_text(encoding="utf-8"))["seconds"] < 99


def test_refresh_does_not_overwrite_an_edit(toy, capsys):
    command.main(["run", "01_toy"])
    path = toy / "notebooks" / "01_toy.ipynb"
    edited = path.read_text(encoding="utf-8").replace("steps - 3", "steps - 4")
    path.write_text(edited)
    assert command.main(["refresh"]) == 2
    assert "notebooks/01_toy.ipynb: was edited after it was executed" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == edited


def test_unknown_names(toy, capsys):
    assert command.main(["run", "nothing"]) == 2
    assert "notebooks/nothing.ipynb: there is no such file" in capsys.readouterr().err
    assert command.main(["check", "--profile", "tpu"]) == 2
    assert "params/tpu: no such profile" in capsys.readouterr().err


def test_the_same_results_are_the_same_notebook():
    """pandas draws a styled table's ids at random, and an object's text has its address."""
    frame = pd.DataFrame({"a": [1.0]})

    def notebook() -> dict:
        texts = [frame.style.to_html(), frame.style.to_html(), repr(frame.style)]
        data = [{"output_type": "display_data", "data": {"text/html": t}} for t in texts]
        return {"cells": [{"cell_type": "code", "metadata": {}, "outputs": data, "source": ""}]}

    once, again = notebook(), notebook()
    assert once != again
    assert notebooks.cleaned(once) == notebooks.cleaned(again)
    same = notebooks.cleaned(once)["cells"][0]["outputs"]
    assert ['id="T_1' in o["data"]["text/html"] for o in same] == [True, False, False]
    assert ['id="T_2' in o["data"]["text/html"] for o in same] == [False, True, False]
