"""The scoreboard: verdicts counted, laid out and linked, and what is not there yet."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from remi_lib.losses import LOSSES
from remi_lib.paths import figures_dir
from remi_lib.replication import scoreboard
from tests.conftest import ROOT


def ledger() -> pd.DataFrame:
    """Five claims: four judged, one of each kind and one qualified, and one that was not run."""
    verdicts = {
        "a": ("digits", "holds"),
        "b": ("digits", "artefact of the plot"),
        "c": ("digits", "does not hold"),
        "d": ("CIFAR-10", "not run (needs CIFAR-10 and a GPU)"),
        "e": ("digits", "not resolved"),
    }
    rows = [
        {
            "id": key,
            "dataset": dataset,
            "verdict": verdict,
            "statement": f"statement {key}",
            "source": "Table 2",
            "statistic": "gap",
            "value": 1.0,
            "interval": [0.5, 1.5],
            "threshold": "> 0",
            "notebook": "04_benchmark",
        }
        for key, (dataset, verdict) in verdicts.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [
        ("holds", "holds"),
        ("holds with a caveat: one seed", "holds"),
        ("artefact of the plot", "does not hold"),
        ("does not hold", "does not hold"),
        ("not resolved", "not resolved"),
        ("not run (needs a GPU)", "not run"),
    ],
)
def test_kind_of_a_verdict(verdict, kind):
    assert scoreboard.kind(verdict) == kind


def test_what_is_no_verdict_is_refused():
    with pytest.raises(ValueError, match="verdict: 'fine' is none"):
        scoreboard.kind("fine")


def test_a_readme_without_its_markers_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(scoreboard, "project_root", lambda: tmp_path)
    (tmp_path / "README.md").write_text("a\n<!-- results: by x -->\nold\n")
    with pytest.raises(ValueError, match="lacks a marker of the block 'results'"):
        scoreboard.write_block("results", "new")
    assert (tmp_path / "README.md").read_text().endswith("old\n")


def test_counts_by_data_set_and_in_all():
    table = scoreboard.counts(ledger())
    assert list(table.columns) == ["holds", "does not hold", "not resolved", "not run"]
    assert list(table.index) == ["digits", "CIFAR-10", "all"]
    assert table.to_numpy().tolist() == [[1, 2, 1, 0], [0, 0, 0, 1], [1, 2, 1, 1]]


def test_ledger_shows_evidence_colours_and_links():
    judged = ledger().query("id != 'd'")
    shown = scoreboard.styled_ledger(judged)
    assert shown.data["measured"].tolist() == ["1 [0.5, 1.5]"] * 4
    html = shown.to_html()
    for colour, times in (("#0072B2", 1), ("#D55E00", 2), ("#888888", 1)):
        styles = re.findall(r"([^{}]*)\{\s*color: " + colour, html)
        assert sum(rule.count("#T_") for rule in styles) == times
    cell = re.search(r'href="04_benchmark.ipynb#cell-([^"]+)"', html)
    assert cell is not None
    cells = json.loads((ROOT / "notebooks" / "04_benchmark.ipynb").read_text())["cells"]
    (linked,) = [c for c in cells if c["id"] == cell[1]]
    assert "nbval-check-output" in linked["metadata"]["tags"]  # the one that prints the verdicts


def test_a_notebook_that_is_not_there_is_linked_as_a_whole():
    assert scoreboard._link("99_mine") == '<a href="99_mine.ipynb">99_mine</a>'


def test_waiting_counts_by_what_is_needed():
    table = scoreboard.waiting(pd.concat([ledger(), ledger()]))
    assert table.to_dict("records") == [
        {
            "notebook": "04_benchmark",
            "verdict": "not run (needs CIFAR-10 and a GPU)",
            "claims": 2,
        }
    ]


def test_verdict_lines_put_what_was_not_run_last():
    assert scoreboard.verdict_lines(ledger()).splitlines() == [
        "a: holds",
        "b: artefact of the plot",
        "c: does not hold",
        "e: not resolved",
        "d: not run (needs CIFAR-10 and a GPU)",
    ]


def table2() -> pd.DataFrame:
    rows = [
        {
            "benchmark": benchmark,
            "loss": loss,
            "quantity": "mi",
            "value": i + offset,
            "low": i + offset - 0.1,
            "high": i + offset + 0.1,
            "failed": 5 * (loss == "nwj"),
            "seeds": 5,
            "fate": "frozen" if loss == "nwj" else "",
            "theory": i + 0.25,
            "paper": i + 0.75,
        }
        for benchmark, offset in (("slb", 90.0), ("clb", 0.0))
        for i, loss in enumerate(LOSSES)
    ]
    return pd.DataFrame(rows)


def test_results_in_the_readme_are_those_of_the_ledger_and_of_table_2(tmp_path, monkeypatch):
    monkeypatch.setattr(scoreboard, "project_root", lambda: tmp_path)
    monkeypatch.setattr(scoreboard, "collect", lambda profile: ledger())
    figures_dir("cpu").mkdir(parents=True)
    table2().to_csv(figures_dir("cpu") / "table2.csv", index=False)
    (tmp_path / "README.md").write_text("a\n<!-- results: by x -->\nold\n<!-- /results -->\nb\n")
    scoreboard.write_readme()
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("a\n<!-- results: by x -->\nThe ledger has 5 claims:\n")
    assert text.endswith("<!-- /results -->\nb\n")
    lines = text.splitlines()
    assert "| digits | 1 | 2 | 1 | 0 |" in lines
    assert "| all | 1 | 2 | 1 | 1 |" in lines
    mine, nwj = LOSSES.index("remine"), LOSSES.index("renwj")
    # Contrastive, not supervised: no 90 anywhere.
    assert (
        f"| MINE | 0.000 ± 0.100 | 0.250 | 0.750 | {mine}.000 ± 0.100 | {mine}.250 | {mine}.750 |"
    ) in lines
    assert f"| NWJ | frozen | 3.250 | 3.750 | {nwj}.000 ± 0.100 |" in text
    assert "\nold\n" not in text
