"""The scoreboard: verdicts counted, laid out and linked, and what is not there yet."""

from __future__ import annotations

import json
import re
from itertools import combinations

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from remi_lib.experiments import plots, report
from remi_lib.losses import LOSSES
from remi_lib.paths import figures_dir
from remi_lib.replication import ledger_page, scoreboard
from remi_lib.replication.claims import Ledger, collect, registry
from remi_lib.replication.evidence import Evidence
from remi_lib.replication.messages import messages
from tests.conftest import ROOT
from tests.experiments.test_plotting import table2


def ledger() -> pd.DataFrame:
    """The real ledger with two notebooks judged: one at the paper's setting, one on a stand-in."""
    for notebook, datasets in (("03_target_constant", ()), ("07_out_of_distribution", ("digits",))):
        book = Ledger(notebook, "cpu", datasets)
        for key in book.due():
            estimand = registry()[key.partition("@")[0]].estimand
            part = {"one": Evidence(estimand, 0.5, 0.4, 0.6, 4)}
            book.judge(key, Evidence(estimand, 0.5, 0.4, 0.6, 4), part)
        book.save()
    return collect("cpu")


def test_a_readme_without_its_markers_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(scoreboard, "project_root", lambda: tmp_path)
    (tmp_path / "README.md").write_text("a\n<!-- results: by x -->\nold\n")
    with pytest.raises(ValueError, match="lacks a marker of the block 'results'"):
        scoreboard.write_block("results", "new")
    assert (tmp_path / "README.md").read_text().endswith("old\n")


def test_claims_are_counted_by_kind_and_setting():
    sentence = scoreboard.counted(ledger())  # two of notebook 3, four of notebook 7
    assert "2 at the paper's setting, 0 reduced, 4 on stand-ins;" in sentence
    assert "claims about this library" not in scoreboard.counted(scoreboard.apart(ledger())[0])


def test_messages_are_tallied_best_first():
    status = ["not tested", "reproduced", "no power", "reproduced"]
    told = scoreboard.tally(pd.DataFrame({"id": [1, 2, 3, 4], "status": status}))
    assert told == "Of 4 messages: 2 reproduced (2, 4), 1 of no power (3), 1 not tested (1)."


def test_a_stand_in_never_wears_the_colours_of_evidence():
    assert scoreboard.colour("holds", "paper") != scoreboard.GREY
    for verdict in ("holds", "does not hold", "no power"):
        assert scoreboard.colour(verdict, "stand-in") == scoreboard.GREY
    rows = ledger()
    judged = rows[rows["verdict"] != "not run"]
    html = scoreboard.styled_ledger(judged).to_html()
    coloured = re.findall(r"([^{}]*)\{\s*color: (#[0-9A-F]{6})", html)
    grey = sum(r.count("#T_") for r, hue in coloured if hue == scoreboard.GREY)
    undecided = judged["verdict"].isin(["not resolved", "no power"])
    assert grey == ((judged["setting"] == "stand-in") | undecided).sum()


def test_claims_link_to_the_cell_that_decides_them():
    html = scoreboard.styled_ledger(ledger().query("verdict != 'not run'")).to_html()
    cell = re.search(r'href="03_target_constant.ipynb#cell-([^"]+)"', html)
    assert cell is not None
    cells = json.loads((ROOT / "notebooks" / "03_target_constant.ipynb").read_text())["cells"]
    (linked,) = [c for c in cells if c["id"] == cell[1]]
    assert "nbval-check-output" in linked["metadata"]["tags"]  # the one that prints the verdicts
    assert scoreboard._link("99_mine") == '<a href="99_mine.ipynb">99_mine</a>'


def test_waiting_counts_by_what_is_needed():
    table = scoreboard.waiting(ledger()).set_index("notebook")
    assert table.loc["03_target_constant":"03_target_constant"].empty
    assert table.loc["02_explosion", "waits for"] == "needs 02_explosion"


def test_verdict_lines_begin_with_the_messages():
    lines = scoreboard.verdict_lines(ledger()).splitlines()
    assert lines[0] == "message 1: not tested"
    assert lines[2].startswith("message 3: ")
    assert "fig8.test-alike@digits: does not hold" in lines


def test_figures_lead_to_the_cell_that_wrote_them():
    folder = figures_dir("cpu")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("fig4.png", "fig4.csv", "table2_digits.csv", "nobody.csv"):
        (folder / name).touch()
    found = scoreboard.figures("cpu").set_index("artifact")
    assert sorted(found.index) == ["fig4.csv", "fig4.png", "table2_digits.csv"]
    assert found.loc["table2_digits.csv", "notebook"] == "04_benchmark"  # of a name with {name}
    cells = json.loads((ROOT / "notebooks" / "03_target_constant.ipynb").read_text())["cells"]
    (cell,) = [c for c in cells if c["id"] == found.loc["fig4.png", "cell"]]
    assert 'publish("fig4"' in "".join(cell["source"])


def test_the_ledgers_files():
    rows = ledger()
    ledger_page.write("cpu")
    folder = figures_dir("cpu")
    page = BeautifulSoup((folder / "ledger.html").read_text(), "html.parser")
    own = rows["kind"] == "own"
    assert len(page.select("#ledger tbody tr")) == (~own).sum()
    assert len(page.select("#messages + table tbody tr")) == 13
    assert not page.select('a[href^="../overnight/"]')  # no larger profile has left anything here
    (figures_dir("overnight")).mkdir(parents=True)
    (figures_dir("overnight") / "fig7.csv").touch()
    ledger_page.write("cpu")
    larger = BeautifulSoup((folder / "ledger.html").read_text(), "html.parser")
    assert [a.text for a in larger.select('a[href^="../overnight/"]')] == ["overnight/fig7.csv"]
    library = BeautifulSoup((folder / "library.html").read_text(), "html.parser")
    assert len(library.select("#ledger tbody tr")) == own.sum() > 0
    assert not library.select("#messages, #figures")
    # Nothing beside it, no network: no script, style or picture from elsewhere.
    assert not page.select("script[src], link[rel=stylesheet], img")
    for link in page.select("a[href]:not([href^='#'])"):  # as seen from where it is committed
        assert (ROOT / "figures" / "cpu" / link["href"].partition("#")[0]).exists(), link
    assert "one: 0.5 [0.4, 0.6]" in page.select_one('[id="claim-fig4.second-term-at-target"]').text
    machine = json.loads((folder / "claims.json").read_text())
    assert len(machine["claims"]) == (~own).sum()
    assert len(json.loads((folder / "library.json").read_text())["claims"]) == own.sum()
    assert [m["id"] for m in machine["messages"]] == list(range(1, 14))
    judged = {c["id"]: c for c in machine["claims"]}["fig8.test-alike@digits"]
    assert judged["evidence"] == "figures/cpu/claims/07_out_of_distribution.json"
    assert (judged["setting"], judged["verdict"]) == ("stand-in", "does not hold")
    text = (folder / "ledger.md").read_text()
    for message in messages():
        assert f'<a id="message-{message.id}"></a>' in text
    anchors = set(re.findall(r'<a id="([^"]+)"', text))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_the_picture_says_what_the_table_says():
    table = scoreboard.table(ledger())
    figure = report.messages_figure(table)
    shown = " ".join(text.get_text().replace("\n", " ") for text in figure.axes[0].texts)
    for row in table.to_dict("records"):
        assert row["name"] in shown
        assert row["status"] in shown


def test_no_text_of_the_committed_picture_lies_on_another():
    table = pd.read_csv(ROOT / "figures" / "cpu" / "messages.csv", keep_default_na=False)
    plots.use_style()
    figure = report.messages_figure(table)
    figure.canvas.draw()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for (one, first), (other, second) in combinations(boxes, 2):
        assert not first.overlaps(second.padded(-1)), (one, other)


def test_the_readme_shows_the_messages_and_table_2(tmp_path, monkeypatch):
    monkeypatch.setattr(scoreboard, "project_root", lambda: tmp_path)
    rows = ledger()
    both = pd.concat([table2().assign(benchmark="slb", value=90.0), table2(nwj="frozen")])
    both.to_csv(figures_dir("cpu") / "table2.csv", index=False)
    blocks = "".join(
        f"<!-- {name}: by x -->\nold\n<!-- /{name} -->\n"
        for name in ("messages", "beside", "results")
    )
    (tmp_path / "README.md").write_text(f"a\n{blocks}b\n")
    report.write_readme()
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("a\n<!-- messages: by x -->\nOf 13 messages: 1 not reproduced (3), 12 ")
    assert "<!-- results: by x -->\nThe ledger has " in text
    assert text.endswith("<!-- /results -->\nb\n")
    assert "\nold\n" not in text
    lines = text.splitlines()
    for row in scoreboard.table(rows).to_dict("records"):
        (line,) = [x for x in lines if x.startswith(f"| {row['id']} · ")]
        assert f"**[{row['status']}](figures/cpu/ledger.md#message-{row['id']})**" in line
    mine, nwj = 1 + LOSSES.index("remine"), 1 + LOSSES.index("renwj")
    # Contrastive, not supervised: no 90 anywhere.
    assert (
        f"| MINE | 1.000 ± 0.150 | 1.500 | 1.300 | {mine}.000 ± 0.150 | {mine}.500 | {mine}.300 |"
    ) in lines
    assert f"| NWJ | frozen | 4.500 | 4.300 | {nwj}.000 ± 0.150 |" in text


def test_what_stands_beside_the_messages_is_a_claim_and_is_shown():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    block = text.partition("<!-- beside")[2].partition("<!-- /beside")[0]
    for claim in report.BESIDE:
        assert registry()[claim].statement in block
