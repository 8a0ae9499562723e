"""Executed notebooks as plain web pages that need no network, with an index.

nbconvert renders them through ``data/pages/cells.html.j2``: formulas become MathML, pictures files
of their own, code folds away.  The same notebooks always give the same bytes.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from jinja2 import Environment, StrictUndefined
from nbconvert.exporters import TemplateExporter
from nbconvert.preprocessors import ExtractOutputPreprocessor
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from traitlets.config import Config

from remi_lib.paths import figures_dir, project_root
from remi_lib.replication.claims import CONFIRMED, FAILS, HOLDS, Verdict
from remi_lib.replication.markup import (
    Renderer,
    boxed_html,
    linked,
    markdown,
    png_size,
    title_and_message,
)
from remi_lib.replication.messages import terms
from remi_lib.replication.notebooks import stable_ids
from remi_lib.replication.scoreboard import HEADINGS, counted, tally
from remi_lib.replication.store import atomic_folder, read_json

INDEX = "index.html"
ASSETS = files("remi_lib") / "data" / "pages"
# Best first; anything else of an output's offers is not shown.
PREFERRED = ["text/html", "image/svg+xml", "image/png", "text/markdown", "text/plain"]
TIMED = "(times are another machine's: see `make times`)"


# --- A notebook's cells -------------------------------------------------------------------------


@dataclass
class Page:
    """What one notebook became: its HTML, pictures by file name, and what the index says of it."""

    name: str
    title: str
    message: str
    body: str
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The page's own file name."""
        return f"{self.name}.html"

    @property
    def number(self) -> str:
        """The number its notebook's name begins with."""
        return self.name.split("_")[0]


def cells_that_ran(notebook: Mapping[str, Any]) -> list[dict]:
    """The cells to show: one of parameters, the injected one only if it changes a default."""
    cells = notebook["cells"]
    defaults, injected = (_tagged(cells, tag) for tag in ("parameters", "injected-parameters"))
    if not injected:
        return cells
    same = bool(defaults) and _values(injected[0]).items() <= _values(defaults[0]).items()
    hidden = injected if same else defaults
    return [cell for cell in cells if cell not in hidden]


def _tagged(cells: Sequence[dict], tag: str) -> list[dict]:
    return [cell for cell in cells if tag in _tags(cell)]


def _tags(cell: Mapping[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _values(cell: Mapping[str, Any]) -> dict[str, str]:
    """What a cell of literals assigns, by name, in Python's own spelling."""
    assigned = (node for node in ast.parse(cell["source"]).body if isinstance(node, ast.Assign))
    return {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in assigned}


def page(path: Path) -> Page:
    """Render one executed notebook; ValueError for a cell that failed or did not run."""
    notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
    renderer = Renderer()
    try:
        notebook.cells = [_checked(cell) for cell in cells_that_ran(notebook)]
        names = {"unique_key": path.stem, "output_files_dir": "images"}
        body, made = _exporter(renderer).from_notebook_node(notebook, names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    pictures = {name.removeprefix("images/"): data for name, data in made["outputs"].items()}
    body = _with_contents(body, renderer.headings)
    return Page(path.stem, *title_and_message(body, path.stem), stable_ids(body), pictures)


def _checked(cell: Any) -> nbformat.NotebookNode:
    """A cell that ran; of one tagged ``clock`` no outputs."""
    if cell.cell_type != "code" or not cell.source.strip():
        return cell
    if cell.execution_count is None:
        raise ValueError(f"cell {cell.id} was not executed")
    if "clock" in _tags(cell):
        cell.outputs = [nbformat.v4.new_output("stream", text=TIMED)]
    for output in cell.outputs:
        if output.output_type == "error":
            raise ValueError(f"a cell failed: {output.ename}: {output.evalue}")
        output.setdefault("metadata", nbformat.NotebookNode())
    return cell


def _exporter(renderer: Renderer) -> TemplateExporter:
    """nbconvert's exporter with our template; ``renderer`` collects the headings."""
    names = "{unique_key}-{cell_index}-{index}{extension}"
    settings = Config(
        NbConvertBase={"display_data_priority": PREFERRED},
        ExtractOutputPreprocessor={"output_filename_template": names},
    )
    return TemplateExporter(
        config=settings,
        template_name="base",
        raw_template=(ASSETS / "cells.html.j2").read_text(encoding="utf-8"),
        preprocessors=[ExtractOutputPreprocessor],
        filters={
            "words": lambda source: markdown(source, renderer),
            "plain": lambda text: escape(text.rstrip("\n"), quote=False),
            "boxed": boxed_html,
            "highlighted": lambda source: highlight(source.strip("\n"), PythonLexer(), _NO_WRAP),
            "label": _label,
            "size": lambda data: 'width="{}" height="{}"'.format(*png_size(data)),
        },
    )


_NO_WRAP = HtmlFormatter(nowrap=True)


def _label(cell: nbformat.NotebookNode) -> str:
    """What a folded cell is called."""
    if {"parameters", "injected-parameters"} & set(_tags(cell)):
        return "parameters"
    lines = len(cell.source.strip("\n").splitlines())
    return f"code, {lines} line{'s' if lines > 1 else ''}"


def _with_contents(body: str, headings: Sequence[tuple[int, str, str]]) -> str:
    """The body with a folded list of its sections before the first of them."""
    sections = [(anchor, text) for level, anchor, text in headings if level == 2]
    if len(sections) < 4:
        return body
    items = "".join(f'<li><a href="#{anchor}">{text}</a></li>' for anchor, text in sections)
    contents = f'<details class="contents"><summary>Contents</summary><ol>{items}</ol></details>\n'
    start = body.index("</section>")
    return body[:start] + contents + body[start:]


# --- The set of pages ---------------------------------------------------------------------------


def neighbours(pages: Sequence[Page]) -> Iterator[str]:
    """For each page its links to the index, the page before and the page after."""
    ends: list[Page | None] = [None, *pages, None]
    for (before, _), (_, after) in pairwise(pairwise(ends)):
        links = [f'<a href="{INDEX}">All notebooks</a>']
        if before:
            links.append(f'<a rel="prev" href="{before.file}">← {_short_title(before)}</a>')
        if after:
            links.append(f'<a rel="next" href="{after.file}">{_short_title(after)} →</a>')
        yield "\n".join(links)


def _short_title(of: Page) -> str:
    """The title, of which a narrow window shows the number."""
    number = f'<span class="narrow">{of.number.lstrip("0") or "0"}</span>'
    return f'<span class="wide">{escape(of.title)}</span>{number}'


def verdict_counts(entries: Sequence[Mapping[str, Any]]) -> str:
    """ "9 hold, 2 do not hold; on a stand-in: 1 not resolved", as HTML; the paper's in colour."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        stand_in = "on a stand-in:" if entry["setting"] == "stand-in" else "claims:"
        groups["about this library:" if entry["kind"] == "own" else stand_in][entry["verdict"]] += 1
    looks = {HOLDS: "good", CONFIRMED: "good", FAILS: "bad"}
    told = []
    for where in ("claims:", "on a stand-in:", "about this library:"):
        words = []
        for verdict in (v for v in Verdict if (count := groups[where][v])):
            several = {HOLDS: "hold", FAILS: "do not hold"} if count > 1 else {}
            look = looks.get(verdict, "") if where == "claims:" else ""
            words.append(f'<span class="{look}">{count} {several.get(verdict, verdict)}</span>')
        if words:
            told.append(f"<b>{where}</b> {', '.join(words)}")
    return "<br>".join(told)


def _card(of: Page, claims: Path) -> dict[str, Any]:
    judged = claims / f"{of.name}.json"
    picture = next(iter(of.pictures), None)
    size = png_size(of.pictures[picture]) if picture and picture.endswith(".png") else None
    return {
        "href": of.file,
        "title": escape(of.title),
        "message": of.message,
        "number": of.number.lstrip("0") or "0",
        "picture": f"images/{picture}" if picture else None,
        "size": size,
        "verdicts": verdict_counts(read_json(judged) if judged.exists() else []),
    }


def _messages(table: Path) -> list[dict[str, Any]]:
    """What the index says of each of the paper's messages; nothing where no report was made."""
    if not table.exists():
        return []
    rows = pd.read_csv(table, keep_default_na=False, dtype=str).to_dict("records")
    return [
        {
            **{key: escape(row[key]) for key in ("id", "message", "status", "condition")},
            "look": row["status"].replace(" ", "-"),
            "evidence": _where(row),
        }
        for row in rows
    ]


def _where(row: Mapping[str, str]) -> str:
    """The evidence of the setting that decides a message in short; else what a stand-in says."""
    setting = row["decided by"] or next((s for s in HEADINGS if row[s]), "")
    if not setting:
        return ""
    evidence = row[setting].partition(";")[0]  # without the names of data sets, which are long
    return f"{HEADINGS[setting]}: {escape(evidence)}".replace("n = ", "n&nbsp;=&nbsp;")


def compose(notebooks: Sequence[Path], claims: Path, profile: str) -> dict[str, bytes]:
    """The files of the site, by name: a page per notebook, pictures, style sheet and index."""
    pages = [page(path) for path in notebooks]
    names = [p.name for p in pages]
    # Templates get finished HTML; what is not is escaped where it is made.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    layout, index = (
        environment.from_string((ASSETS / f"{template}.html.j2").read_text(encoding="utf-8"))
        for template in ("page", "index")
    )
    written: dict[str, bytes] = {}
    for one, around in zip(pages, neighbours(pages), strict=True):
        body = linked(one.body, names)
        html = layout.render(title=escape(one.title), body=body, neighbours=around)
        written[one.file] = html.encode()
        written |= {f"images/{file}": data for file, data in one.pictures.items()}
    ledger = claims.parent / "ledger.csv"
    judged = pd.read_csv(ledger) if ledger.exists() else None
    total = "" if judged is None else counted(judged)
    cards = [_card(p, claims) for p in pages]
    said = _messages(claims.parent / "messages.csv")
    head = {"messages": said, "tally": tally(pd.DataFrame(said)) if said else ""}
    drawn = claims.parent / "messages.png"
    head["picture"] = f"images/{drawn.name}" if drawn.exists() else ""
    if drawn.exists():
        written[f"images/{drawn.name}"] = drawn.read_bytes()
    words = {} if judged is None else terms(judged)
    shown = index.render(cards=cards, **head, terms=words, total=total, profile=escape(profile))
    written[INDEX] = shown.encode()
    colours = HtmlFormatter(style="friendly").get_style_defs("details.code")
    keep = [line for line in colours.splitlines() if line.startswith("details.code .")]
    written["style.css"] = "\n".join(
        [(ASSETS / "style.css").read_text(encoding="utf-8"), *keep, ""]
    ).encode()
    return written


def render(profile: str) -> Path:
    """Write build/<profile>/*.ipynb to figures/<profile>/html/, which is replaced as a whole."""
    executed = sorted((project_root() / "build" / profile).glob("[0-9]*.ipynb"))
    executed = [path for path in executed if not path.name.endswith(".failed.ipynb")]
    if not executed:
        raise FileNotFoundError(f"build/{profile}: no executed notebooks; run `make all`")
    figures = figures_dir(profile)
    written = compose(executed, figures / "claims", profile)
    with atomic_folder(figures / "html") as folder:
        for name, data in written.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
    return figures / "html"
