"""Executed notebooks as plain web pages that need no network, with an index.

python -m remi_lib.replication.pages --profile cpu     build/cpu/*.ipynb -> figures/cpu/html/

Formulas become MathML, pictures files of their own, code folds away, and a link between notebooks
becomes a link between pages.  The same notebooks always give the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from jinja2 import Environment, StrictUndefined
from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from remi_lib.paths import figures_dir, project_root
from remi_lib.replication.claims import FAILS, HOLDS, OPEN
from remi_lib.replication.scoreboard import kind
from remi_lib.replication.store import replace_folder

INDEX = "index.html"
ASSETS = files("remi_lib") / "data" / "pages"
# Best first; anything else of an output's offers is not shown.
TIMED = '<pre class="text" tabindex="0">(times are another machine\'s: see `make times`)</pre>\n'
PREFERRED = ("text/html", "image/svg+xml", "image/png", "text/markdown", "text/plain")


# --- Formulas and Markdown ----------------------------------------------------------------------

_MATHML = "http://www.w3.org/1998/Math/MathML"
_FUNCTIONS = {"log", "exp", "sin", "cos", "tanh", "det", "arg", "ln"}
_LIMITS = {"sup", "inf", "max", "min", "lim", "argmax", "argmin"}
_INLINE_TEX = re.compile(r"(?<![\\$])\$(?![\s$])([^$\n]+?)(?<![\s\\])\$(?![\d$])")


def mathml(tex: str, display: bool = False) -> str:
    """A formula as MathML; what this function cannot translate raises ValueError."""
    try:
        found = convert(tex.strip(), display="block" if display else "inline")
    except Exception as error:
        raise ValueError(f"formula: {tex!r} cannot be translated: {error}") from error
    if "\\" in found:
        raise ValueError(f"formula: {tex!r} has a command that cannot be translated")
    ElementTree.register_namespace("", _MATHML)
    root = ElementTree.fromstring(found)
    for parent in root.iter():
        _set_operators(parent, display)
    return ElementTree.tostring(root, encoding="unicode")


def _set_operators(parent: ElementTree.Element, display: bool) -> None:
    """What TeX does and the translation does not: "log x" has a space, "sup" its limit below."""
    tags = [child.tag.removeprefix(f"{{{_MATHML}}}") for child in parent]
    for i in reversed(range(len(parent))):
        base = parent[i][0] if tags[i] in ("msup", "msub") else parent[i]
        if display and tags[i] == "msub" and base.text in _LIMITS:
            parent[i].tag = f"{{{_MATHML}}}munder"
        row = parent.tag in (f"{{{_MATHML}}}{name}" for name in ("mrow", "math", "mtd"))
        if row and base.text in _FUNCTIONS and i + 1 < len(parent) and tags[i + 1] != "mo":
            space = ElementTree.Element(f"{{{_MATHML}}}mspace", {"width": "0.167em"})
            parent.insert(i + 1, space)


def typeset(text: str) -> str:
    """Plain text as HTML, with $...$ turned into MathML."""
    parts = _INLINE_TEX.split(text)
    return "".join(mathml(p) if i % 2 else escape(p, quote=False) for i, p in enumerate(parts))


class _Renderer(IPythonRenderer):
    """Markdown cells: headings with stable anchors, formulas as MathML, tables in a box."""

    def __init__(self) -> None:
        super().__init__(escape=False)
        self.headings: list[tuple[int, str, str]] = []

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        words = re.sub(r"<math.*?</math>|<[^>]+>", "", text, flags=re.S)
        slug = re.sub(r"[^a-z0-9]+", "-", unescape(words).lower()).strip("-") or "section"
        taken = [s for _, s, _ in self.headings]
        anchor = slug if slug not in taken else f"{slug}-{len(taken)}"
        self.headings.append((level, anchor, text))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return f'<span class="scroll math">{mathml(body, display=True)}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")


# A formula that stands alone in its paragraph is a block; a paragraph may not hold one.
_ALONE = re.compile(r'<p>\s*<span class="scroll math">(.*?)</span>\s*</p>', re.S)


def markdown(source: str, renderer: _Renderer | None = None) -> str:
    """Markdown with formulas as HTML."""
    html = MarkdownWithMath(renderer=renderer or _Renderer()).render(source)
    html = _ALONE.sub(r'<div class="scroll math">\1</div>', html)
    html = re.sub(r'<span class="scroll math">(.*?)</span>', r"\1", html, flags=re.S)
    return html.replace("<table>", '<div class="scroll"><table>').replace(
        "</table>", "</table></div>"
    )


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
        return f"{self.name}.html"

    @property
    def number(self) -> str:
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
    return [cell for cell in cells if tag in cell["metadata"].get("tags", [])]


def _values(cell: Mapping[str, Any]) -> dict[str, str]:
    """What a cell of literals assigns, by name, in Python's own spelling."""
    assigned = (node for node in ast.parse(_source(cell)).body if isinstance(node, ast.Assign))
    return {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in assigned}


def _source(cell: Mapping[str, Any]) -> str:
    return _text(cell["source"])


def _text(lines: str | Sequence[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def page(path: Path) -> Page:
    """Render one executed notebook.

    Raises ValueError, naming the notebook, for a cell that failed or was not executed and for a
    formula that cannot be translated.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    renderer = _Renderer()
    pictures: dict[str, bytes] = {}
    parts = []
    try:
        for cell in cells_that_ran(notebook):
            if cell["cell_type"] == "markdown":
                inner = markdown(_source(cell), renderer)
            elif cell["cell_type"] == "code" and _source(cell).strip():
                timed = "clock" in cell["metadata"].get("tags", [])
                outputs = [] if timed else _executed(cell)["outputs"]
                shown = [_output(o, path.stem, pictures) for o in outputs] + [TIMED] * timed
                inner = _code(cell) + "".join(shown)
            else:
                continue
            parts.append(f'<section id="cell-{escape(cell["id"])}">\n{inner}</section>\n')
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    body = _with_contents("".join(parts), renderer.headings)
    return Page(path.stem, *_title_and_message(body, path.stem), _stable_ids(body), pictures)


def _executed(cell: dict) -> dict:
    if cell.get("execution_count") is None:
        raise ValueError(f"cell {cell['id']} was not executed")
    return cell


_HIGHLIGHT = HtmlFormatter(nowrap=True)


def _code(cell: Mapping[str, Any]) -> str:
    """A cell's code, folded."""
    source = _source(cell).strip("\n")
    tags = cell["metadata"].get("tags", [])
    lines = len(source.splitlines())
    parameters = {"parameters", "injected-parameters"} & set(tags)
    label = "parameters" if parameters else f"code, {lines} line{'s' if lines > 1 else ''}"
    inner = highlight(source, PythonLexer(), _HIGHLIGHT)
    return (
        f'<details class="code"><summary>{label}</summary>'
        f'<pre tabindex="0"><code>{inner}</code></pre></details>\n'
    )


def _output(output: Mapping[str, Any], name: str, pictures: dict[str, bytes]) -> str:
    if output["output_type"] == "error":
        raise ValueError(f"a cell failed: {output['ename']}: {output['evalue']}")
    if output["output_type"] == "stream":
        text = _text(output["text"]).rstrip("\n")
        return f'<pre class="stream" tabindex="0">{escape(text, quote=False)}</pre>\n'
    offers = output["data"]
    best = next((mime for mime in PREFERRED if mime in offers), None)
    if best is None:
        return ""
    content = _text(offers[best])
    if best == "text/html":
        return _boxed_html(content)
    if best == "text/markdown":
        return markdown(content)
    if best == "text/plain":
        return f'<pre class="text" tabindex="0">{escape(content, quote=False)}</pre>\n'
    suffix = "png" if best == "image/png" else "svg"
    file = f"{name}-{len(pictures) + 1}.{suffix}"
    data = base64.b64decode(content) if suffix == "png" else content.encode()
    pictures[file] = data
    size = ' width="{}" height="{}"'.format(*png_size(data)) if suffix == "png" else ""
    return (
        f'<a class="figure" href="images/{file}">'
        f'<img src="images/{file}" alt="figure {len(pictures)}"{size}></a>\n'
    )


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header."""
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _boxed_html(content: str) -> str:
    """An output's HTML: formulas typeset, tables in a box, columns of words set left."""
    soup = BeautifulSoup(content, "html.parser")
    # A page has its own look of tables, and no use for an output's scripts.
    for unwanted in [*soup.find_all("style", scoped=True), *soup.find_all("script")]:
        unwanted.decompose()
    for table in soup.find_all("table"):
        table.attrs.pop("border", None)
        _set_words_left(table)
    for node in [n for n in soup.find_all(string=True) if type(n) is NavigableString]:
        if _INLINE_TEX.search(node) and not _is_verbatim(node):
            node.replace_with(BeautifulSoup(typeset(node), "html.parser"))
    return f'<div class="scroll output" tabindex="0">{soup}</div>\n'


def _set_words_left(table: Tag) -> None:
    """Mark the columns that hold sentences; counted from the right, where no cell spans rows."""
    rows = [row.find_all(["td", "th"]) for row in table.find_all("tr")]
    words: set[int] = set()
    for row in rows:
        for at, cell in enumerate(reversed(row)):
            text = cell.get_text(" ", strip=True)
            sentence = len(text) > 24 and " " in text and not re.match(r"[-\d.\[]", text)
            if sentence and (cell.name == "td" or cell.find_parent("tbody")):
                words.add(at)
    for row in rows:
        for at, cell in enumerate(reversed(row)):
            if at in words:
                _mark(cell, "words")


def _mark(cell: Tag, name: str) -> None:
    cell["class"] = " ".join([*filter(None, cell.get_attribute_list("class")), name])


def _is_verbatim(node: NavigableString) -> bool:
    return any(tag.name in ("style", "script", "pre", "code") for tag in node.parents)


def _with_contents(body: str, headings: Sequence[tuple[int, str, str]]) -> str:
    """The body with a folded list of its sections before the first of them."""
    sections = [(anchor, text) for level, anchor, text in headings if level == 2]
    if len(sections) < 4:
        return body
    items = "".join(f'<li><a href="#{anchor}">{text}</a></li>' for anchor, text in sections)
    contents = f'<details class="contents"><summary>Contents</summary><ol>{items}</ol></details>\n'
    start = body.index("</section>")
    return body[:start] + contents + body[start:]


def _title_and_message(body: str, name: str) -> tuple[str, str]:
    """The first heading's text, and the first quotation without the word "Claim."."""
    soup = BeautifulSoup(body, "html.parser")
    heading, quotation = soup.find("h1"), soup.find("blockquote")
    title = heading.get_text() if isinstance(heading, Tag) else name
    if not isinstance(quotation, Tag):
        return title, ""
    first = quotation.find("strong")
    if isinstance(first, Tag) and first.get_text(strip=True).rstrip(".").lower() == "claim":
        first.decompose()
    for link in quotation.find_all("a"):  # the whole card is one
        link.unwrap()
    return title, " ".join(p.decode_contents().strip() for p in quotation.find_all("p"))


def _stable_ids(html: str) -> str:
    """pandas draws the ids of styled tables at random; here they are counted."""
    numbers: dict[str, str] = {}

    def count(match: re.Match) -> str:
        return numbers.setdefault(match[0], f"T_{len(numbers) + 1}")

    return re.sub(r"\bT_[0-9a-f]{5,32}(?![0-9a-f])", count, html)


# --- The set of pages ---------------------------------------------------------------------------

_LINK = re.compile(r'href="([^"/:#]+)\.ipynb(#[^"]*)?"')


def linked(html: str, names: Sequence[str]) -> str:
    """Links to notebooks made links to pages; one to a notebook that has no page is no link.

    A cell is addressed as ``#cell-<id>``; JupyterLab's ``#cell-id=<id>`` is understood too.
    """

    def rewrite(match: re.Match) -> str:
        name, anchor = match[1], (match[2] or "").replace("#cell-id=", "#cell-")
        return f'href="{name}.html{anchor}"' if name in names else "data-missing"

    return re.sub(r"<a data-missing[^>]*>(.*?)</a>", r"\1", _LINK.sub(rewrite, html), flags=re.S)


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
    """ "12 claims: 9 hold, 2 do not, 1 not resolved", as HTML; empty without claims."""
    if not entries:
        return ""
    kinds = [kind(entry["verdict"]) for entry in entries]
    words = ((HOLDS, "good", "hold"), (FAILS, "bad", "do not"), (OPEN, "", "not resolved"))
    told = [
        f'<span class="{css}">{kinds.count(which)} {word}</span>'
        for which, css, word in words
        if which in kinds
    ]
    plural = "s" if len(entries) > 1 else ""
    return f"<b>{len(entries)} claim{plural} judged:</b> " + ", ".join(told)


def _verdicts(claims: Path, name: str) -> list[dict]:
    path = claims / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _card(of: Page, claims: Path) -> dict[str, Any]:
    picture = next(iter(of.pictures), None)
    size = png_size(of.pictures[picture]) if picture and picture.endswith(".png") else None
    return {
        "href": of.file,
        "title": escape(of.title),
        "message": of.message,
        "number": of.number.lstrip("0") or "0",
        "picture": f"images/{picture}" if picture else None,
        "size": size,
        "verdicts": verdict_counts(_verdicts(claims, of.name)),
    }


def compose(notebooks: Sequence[Path], claims: Path, profile: str) -> dict[str, bytes]:
    """The files of the site, by name: a page per notebook, pictures, style sheet and index.

    ``claims`` is the folder with the notebooks' verdicts, of which the index tells how many.

    Raises ValueError for a notebook that failed, was not executed, or has an unknown formula.
    """
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
    total = verdict_counts([entry for name in names for entry in _verdicts(claims, name)])
    cards = [_card(p, claims) for p in pages]
    written[INDEX] = index.render(cards=cards, total=total, profile=escape(profile)).encode()
    colours = HtmlFormatter(style="friendly").get_style_defs("details.code")
    keep = [line for line in colours.splitlines() if line.startswith("details.code .")]
    written["style.css"] = "\n".join(
        [(ASSETS / "style.css").read_text(encoding="utf-8"), *keep, ""]
    ).encode()
    return written


def render(profile: str) -> Path:
    """Write build/<profile>/*.ipynb to figures/<profile>/html/, which is replaced as a whole.

    Raises:
        FileNotFoundError: nothing was executed under this profile.
        ValueError: as :func:`compose`.
    """
    executed = sorted((project_root() / "build" / profile).glob("[0-9]*.ipynb"))
    executed = [path for path in executed if not path.name.endswith(".failed.ipynb")]
    if not executed:
        raise FileNotFoundError(f"build/{profile}: no executed notebooks; run `make all`")
    figures = figures_dir(profile)
    return _replace_folder(figures / "html", compose(executed, figures / "claims", profile))


def _replace_folder(folder: Path, written: Mapping[str, bytes]) -> Path:
    """A folder with exactly these files, swapped in at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".html-"))
    try:
        for name, data in written.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_bytes(data)
        temporary.chmod(0o755)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--profile", default="cpu", help="a folder of build/ (default: cpu)")
    options = parser.parse_args(arguments)
    try:
        folder = render(options.profile)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    pages = sorted(folder.glob("[0-9]*.html"))
    print(f"{len(pages)} pages: {folder / INDEX}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
