"""The web pages: what reads well, what is never left in them, and what a browser says."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from remi_lib.replication import pages
from remi_lib.replication.markup import linked, markdown, mathml, typeset
from remi_lib.replication.pages import compose, page, render
from tests.browser import CHROMIUM, browser
from tests.conftest import REFERENCE as COMMITTED
from tests.conftest import ROOT

FIGURES = COMMITTED / "figures" / "cpu"
NOTEBOOKS = sorted((COMMITTED / "notebooks").glob("[0-9]*.ipynb"))
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def site() -> dict[str, bytes]:
    """The committed notebooks, rendered."""
    return compose(NOTEBOOKS, FIGURES / "claims", "cpu")


@pytest.fixture(scope="module")
def soups(site) -> dict[str, BeautifulSoup]:
    return html_files(site)


def html_files(site: dict[str, bytes]) -> dict[str, BeautifulSoup]:
    return {
        name: BeautifulSoup(data.decode(), "html.parser")
        for name, data in site.items()
        if name.endswith(".html")
    }


def raw_tex(soup: BeautifulSoup) -> list[str]:
    """What looks like TeX in the words of a page; code may look like anything."""
    soup = BeautifulSoup(str(soup), "html.parser")
    for verbatim in soup.find_all(["pre", "code", "style", "script", "math"]):
        verbatim.decompose()
    found = re.findall(r".{0,20}(?:\$|\\[a-zA-Z(\[]|\^\{|_\{).{0,20}", soup.get_text())
    return found + [str(m) for m in soup.find_all("merror")]


def loads(soup: BeautifulSoup) -> list[str]:
    """Every address that a page fetches by itself (a link waits for a click)."""
    kinds = {"script": "src", "img": "src", "link": "href", "iframe": "src", "object": "data"}
    found = [tag[attr] for name, attr in kinds.items() for tag in soup.find_all(name, {attr: True})]
    sheets = [tag.get_text() for tag in soup.find_all("style")]
    sheets += [tag["style"] for tag in soup.find_all(style=True)]
    return found + [url for sheet in sheets for url in addresses(sheet)]


def addresses(css: str) -> list[str]:
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", css)


def broken(own: str, soups: dict[str, BeautifulSoup], files: set[str]) -> list[str]:
    """Local links of a page whose file or anchor is not there."""
    missing = []
    for link in soups[own].find_all("a", href=True):
        href = link["href"]
        if href.startswith(("http://", "https://")):
            continue
        file, _, anchor = href.partition("#")
        target = file or own
        if target not in files or (anchor and not soups[target].find(id=anchor)):
            missing.append(href)
    return missing


# --- The committed notebooks ------------------------------------------------------------------


def test_committed_pages_are_the_committed_notebooks(site):
    """If this fails: `make refresh`, which renders what it copies."""
    folder = FIGURES / "html"
    committed = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    assert committed.keys() == site.keys()
    assert [name for name in site if site[name] != committed[name]] == []
    assert sum(map(len, site.values())) < 6e6


def test_no_raw_tex(soups):
    assert {name: found for name, soup in soups.items() if (found := raw_tex(soup))} == {}


def test_no_broken_links(site, soups):
    # Notebook 11 writes the ledger beside the pages.
    ledger = BeautifulSoup((FIGURES / "ledger.html").read_text(encoding="utf-8"), "html.parser")
    all_soups = {**soups, "../ledger.html": ledger}
    there = {*site, "../ledger.html"}
    left = {name: found for name in soups if (found := broken(name, all_soups, there))}
    assert left == {}


@pytest.mark.parametrize("name", ["ledger.html", "library.html"])
def test_every_claim_of_the_ledger_leads_to_a_cell_or_a_file(name, soups):
    """Evidence of every profile: what a larger one judged is shown in a page of this one."""
    own = BeautifulSoup((FIGURES / name).read_text(encoding="utf-8"), "html.parser")
    links = {a["href"] for a in own.select("a[href]") if not a["href"].startswith(("#", "http"))}
    assert len(links) > 2
    here = ROOT / "figures" / "cpu"
    for link in links:
        file, _, anchor = link.partition("#")
        assert (here / file).exists(), link
        page = soups.get(Path(file).name) if anchor and "/html/" in file else None
        assert page is None or page.find(id=anchor), link
    text = (FIGURES / name.replace("html", "md")).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (here / link).exists(), link


def test_nothing_leaves_the_machine(site, soups):
    for name, soup in soups.items():
        for url in loads(soup):
            assert url in site or url.startswith("data:"), (name, url)
        scripts = "".join(s.get_text() for s in soup.find_all("script"))
        assert not re.search(r"https?:|fetch|import|XMLHttp", scripts), name
    assert addresses(site["style.css"].decode()) == []


def test_index_has_a_picture_and_a_message_for_every_notebook(soups):
    cards = soups["index.html"].select(".card")
    assert [c["href"] for c in cards] == [f"{p.stem}.html" for p in NOTEBOOKS]
    for card in cards:
        assert card.select_one("img, .tile")
        assert len(card.select_one(".message").get_text()) > 20
        assert "Claim." not in card.select_one(".message").get_text()


def test_pages_are_a_chain(soups):
    names = [f"{p.stem}.html" for p in NOTEBOOKS]
    for i, name in enumerate(names):
        soup = soups[name]
        for rel, at in (("prev", i - 1), ("next", i + 1)):
            found = {a["href"] for a in soup.find_all("a", rel=rel)}
            assert found == ({names[at]} if 0 <= at < len(names) else set())


# --- Small notebooks ----------------------------------------------------------------------------


def code(source: str, *outputs: dict, tags: tuple[str, ...] = (), count: int | None = 1) -> dict:
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(source)) % 10**6}",
        "metadata": {"tags": list(tags)},
        "source": source,
        "execution_count": count,
        "outputs": list(outputs),
    }


def text(source: str) -> dict:
    return {"cell_type": "markdown", "id": "m1", "metadata": {}, "source": source}


def shown(**data: str) -> dict:
    names = {"html": "text/html", "png": "image/png", "svg": "image/svg+xml", "plain": "text/plain"}
    offers = {names[k]: v for k, v in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": offers}


def notebook(path: Path, *cells: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content))
    return path


TITLE = text("# 1 · A title\n\n> **Claim.** It *holds* for $C$.\n")


def test_a_page_shows_outputs_and_folds_code(tmp_path):
    path = notebook(
        tmp_path / "01_toy.ipynb",
        TITLE,
        code(
            "print('<b>')",
            {"output_type": "stream", "name": "stdout", "text": ["<b>\n"]},
            shown(png=PIXEL, plain="<Figure>"),
            shown(html="<table><tr><td>$\\lambda=1$</td></tr></table>", plain="x"),
            shown(svg="<svg></svg>"),
            shown(plain="a & b"),
        ),
    )
    found = page(path)
    soup = BeautifulSoup(found.body, "html.parser")
    assert (found.title, found.number) == ("1 · A title", "01")
    assert found.message.startswith("It <em>holds</em> for <math")
    assert list(found.pictures) == ["01_toy-1-1.png", "01_toy-1-3.svg"]
    assert [i["src"] for i in soup.find_all("img")] == [f"images/{n}" for n in found.pictures]
    assert soup.find("img")["width"] == "1"
    details = soup.find("details", class_="code")
    assert not details.has_attr("open")
    assert details.get_text().strip() == "code, 1lineprint('<b>')".replace("1line", "1 line")
    assert soup.find("pre", class_="stream").get_text() == "<b>"
    assert soup.find("pre", class_="text").get_text() == "a & b"
    assert soup.find("td").find("math") is not None
    assert "&lt;Figure" not in found.body


def test_table_ids_do_not_change_from_run_to_run(tmp_path):
    bodies = []
    for random in ("1a2b3", "f00d5"):
        style = f"<style>#T_{random}_row0 {{color: red}}</style>"
        table = f'<table id="T_{random}"><tr><td id="T_{random}_row0">T_0 1</td></tr></table>'
        path = notebook(
            tmp_path / random / "01_toy.ipynb", TITLE, code("x", shown(html=style + table))
        )
        bodies.append(page(path).body)
    assert bodies[0] == bodies[1]
    assert "#T_1_row0" in bodies[0]


def test_sentences_are_set_left_and_pandas_style_is_dropped(tmp_path):
    table = (
        "<style scoped>th {color: red}</style><script>alert(1)</script><table border='1'>"
        "<thead><tr><th></th><th>what</th><th>n</th></tr></thead><tbody>"
        "<tr><th>a</th><td>a sentence of more than a few words</td><td>1</td></tr></tbody></table>"
    )
    path = notebook(tmp_path / "01_toy.ipynb", TITLE, code("x", shown(html=table)))
    soup = BeautifulSoup(page(path).body, "html.parser")
    assert [c.get_text() for c in soup.select(".words")] == [
        "what",
        "a sentence of more than a few words",
    ]
    assert not soup.find("script")
    assert not soup.find("style")
    assert soup.find("table").find_parent("div", class_="scroll")


@pytest.mark.parametrize(
    ("injected", "kept"), [("a = 1\nb = 'x'", "default"), ("a = 2\nb = 'x'", "injected")]
)
def test_parameters_are_shown_once(tmp_path, injected, kept):
    path = notebook(
        tmp_path / "01_toy.ipynb",
        TITLE,
        code("a = 1  # default\nb = 'x'\nc = 3", tags=("parameters",)),
        code("# injected\n" + injected, tags=("injected-parameters",)),
    )
    details = BeautifulSoup(page(path).body, "html.parser").find_all("details")
    assert len(details) == 1
    assert kept in details[0].get_text()
    assert details[0].find("summary").get_text() == "parameters"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            code("1/0", {"output_type": "error", "ename": "E", "evalue": "v", "traceback": []}),
            "a cell failed: E: v",
        ),
        (code("x = 1", count=None), "was not executed"),
        (text(r"$\nonsense{x}$"), r"formula: '\\\\nonsense\{x\}'"),
    ],
)
def test_what_cannot_be_shown_is_named(tmp_path, cell, message):
    path = notebook(tmp_path / "01_toy.ipynb", TITLE, cell)
    with pytest.raises(ValueError, match=message) as caught:
        page(path)
    assert "01_toy.ipynb" in str(caught.value)


def test_later_notebooks_need_no_edit(tmp_path):
    names = ("00_quickstart", "05_sweep", "10_findings")
    paths = [notebook(tmp_path / f"{n}.ipynb", TITLE, code("x", shown(png=PIXEL))) for n in names]
    claims = tmp_path / "claims"
    claims.mkdir()
    paper = ("holds", "holds", "does not hold", "no power")
    judged = [{"verdict": v, "kind": "paper", "setting": "paper"} for v in paper]
    judged += [{"verdict": "holds", "kind": "control", "setting": "stand-in"}]
    judged += [{"verdict": "does not hold", "kind": "own", "setting": "paper"}]
    (claims / "05_sweep.json").write_text(json.dumps(judged))
    site = compose(paths, claims, "cpu")
    assert {f"{n}.html" for n in names} <= site.keys()
    cards = html_files(site)["index.html"].select(".card")
    assert len(cards) == 3
    counts = cards[1].select_one(".counts")
    assert counts.get_text("|", strip=True).split("|") == [
        *("claims:", "2 hold", ",", "1 does not hold", ",", "1 no power"),
        *("on a stand-in:", "1 holds", "about this library:", "1 does not hold"),
    ]
    # Every claim is counted once, and only evidence about the paper has a colour.
    assert sum(map(int, re.findall(r"\d+", counts.get_text()))) == len(judged)
    assert [span["class"] for span in counts.select("span")[:2]] == [["good"], ["bad"]]
    assert not any(span["class"] != [""] and span["class"] for span in counts.select("span")[2:])
    assert cards[0].select_one(".counts") is None


def test_the_index_opens_with_what_the_messages_came_to(soups, tmp_path):
    rows = soups["index.html"].select(".messages tbody tr")
    with (FIGURES / "messages.csv").open(encoding="utf-8") as file:
        committed = list(csv.DictReader(file))
    assert [row.a.get_text() for row in rows] == [row["status"] for row in committed]
    assert [row.a["href"] for row in rows] == [f"../ledger.html#message-{i}" for i in range(1, 14)]
    path = notebook(tmp_path / "01_toy.ipynb", TITLE)
    bare = html_files(compose([path], tmp_path / "claims", "cpu"))["index.html"]
    assert bare.select_one(".messages") is None  # no report was made


def test_links_between_notebooks():
    html = (
        '<a href="02_b.ipynb">b</a> <a href="02_b.ipynb#cell-id=abc">c</a> '
        '<a href="09_gone.ipynb">gone</a> <a href="https://x.org/a.ipynb">out</a>'
    )
    assert linked(html, ["02_b"]) == (
        '<a href="02_b.html">b</a> <a href="02_b.html#cell-abc">c</a> '
        'gone <a href="https://x.org/a.ipynb">out</a>'
    )


def test_render_replaces_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "project_root", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="build/cpu: no executed notebooks"):
        render("cpu")
    notebook(tmp_path / "build/cpu/01_toy.ipynb", TITLE)
    notebook(tmp_path / "build/cpu/02_toy.failed.ipynb", TITLE)
    folder = render("cpu")
    (folder / "stale.html").write_text("")
    render("cpu")
    assert {p.name for p in folder.iterdir()} == {"01_toy.html", "index.html", "style.css"}
    assert [p.name for p in folder.parent.iterdir()] == ["html"]


# --- Formulas -----------------------------------------------------------------------------------


def test_formulas_by_hand():
    space = '<mspace width="0.167em" />'
    assert f"<mi>log</mi>{space}<mi>x</mi>" in mathml(r"\log x")
    assert space not in mathml(r"\log(x)")
    assert f"<msup><mi>log</mi><mn>2</mn></msup>{space}<mn>3</mn>" in mathml(r"\log^2 3")
    assert "<munder><mo>sup</mo><mi>T</mi></munder>" in mathml(r"\sup_T f", display=True)
    assert "<munder>" not in mathml(r"\sup_T f")
    assert 'display="block"' in mathml("x", display=True)


def test_markdown_formulas_and_tables():
    html = markdown("A $x<y$.\n\n$$a\n=b$$\n\n| a | b |\n|---|---|\n| $c$ | `$d$` |\n")
    soup = BeautifulSoup(html, "html.parser")
    assert raw_tex(soup) == []
    assert len(soup.find_all("math")) == 3
    assert soup.find("math", display="block").parent["class"] == ["scroll", "math"]
    assert soup.find("code").get_text() == "$d$"
    assert soup.find("table").parent["class"] == ["scroll"]


@pytest.mark.parametrize("prose", ["costs $5 and $6", "no formula", "a $ b $ c", "US$1, US$2"])
def test_dollars_that_are_no_formula(prose):
    assert "<math" not in typeset(prose)


def test_the_checks_find_what_they_look_for():
    bad = BeautifulSoup(
        r'<p>a $\frac12$ b</p><img src="https://x.org/a.png"><a href="gone.html">x</a>'
        '<a href="#nowhere">y</a><style>p {background: url(http://x.org/b)}</style>'
        '<pre>$x$</pre><a href="https://x.org">fine</a>',
        "html.parser",
    )
    assert len(raw_tex(bad)) == 1
    assert loads(bad) == ["https://x.org/a.png", "http://x.org/b"]
    assert broken("a.html", {"a.html": bad}, {"a.html"}) == ["gone.html", "#nowhere"]


# --- In a browser -------------------------------------------------------------------------------


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_pages_in_a_browser(site, tmp_path):
    for name, data in site.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    with browser() as tab:
        for name in (n for n in site if n.endswith(".html")):
            for width in (1280, 390):
                visit = tab.visit(tmp_path / name, width)
                assert visit.errors == visit.failed == [], name
                assert all(url.startswith(("file:", "data:")) for url in visit.requests), name
                overflow = "document.documentElement.scrollWidth - innerWidth"
                assert tab.evaluate(overflow) <= 0, (name, width)
                unseen = "[...document.images].filter((i) => !i.naturalWidth).length"
                assert tab.evaluate(unseen) == 0, name
                flat = (
                    "[...document.querySelectorAll('math')]"
                    ".filter((m) => !m.closest('details') && !m.getBoundingClientRect().height)"
                )
                assert tab.evaluate(f"{flat}.length") == 0, name
            if name == "index.html":  # its first screen has every message
                tab.visit(tmp_path / name, 1280, 900)
                end = "document.querySelector('.messages').getBoundingClientRect().bottom"
                assert tab.evaluate(end) <= 900
            else:
                opened = "document.querySelectorAll('details.code[open]').length"
                assert tab.evaluate(opened) == 0
                tab.evaluate("document.getElementById('code').click()")
                assert tab.evaluate(opened) > 1
                assert tab.evaluate(overflow) <= 0, f"{name} with its code"


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_ledger_sorts_and_filters_in_a_browser():
    """As a reader would: a message's link, a word, a click on a heading; on a phone, too."""
    claims = json.loads((FIGURES / "claims.json").read_text(encoding="utf-8"))["claims"]
    seen = "[...document.querySelectorAll('#ledger tbody tr')].filter((r) => !r.hidden)"
    with browser() as tab:
        for width in (1280, 390):
            visit = tab.visit(FIGURES / "ledger.html", width)
            assert visit.errors == visit.failed == []
            assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert tab.evaluate(f"{seen}.length") == len(claims)
            tab.evaluate("document.querySelector('#message-2 a').click()")
            own = [c["id"] for c in claims if c["message"] == 2]
            assert sorted(tab.evaluate(f"{seen}.map((r) => r.id)")) == sorted(
                f"claim-{name}" for name in own
            )
        typed = "form.text.value = 'OVERFLOW'; form.dispatchEvent(new Event('input'))"
        tab.evaluate(f"form.reset(); {typed}")
        found = tab.evaluate(f"{seen}.map((r) => r.id)")
        assert "claim-fig3.nwj-overflows" in found
        assert len(found) < len(claims)
        tab.evaluate("form.reset(); form.dispatchEvent(new Event('input'))")
        verdicts = "[...document.querySelectorAll('#ledger tbody td:last-child')]"
        heading = "document.querySelectorAll('#ledger th button')[7].click()"
        for order in (sorted, lambda words: sorted(words, reverse=True)):
            tab.evaluate(heading)
            shown = tab.evaluate(f"{verdicts}.map((c) => c.textContent.split(' (')[0])")
            assert shown == order(shown)
