"""Pieces of a web page: formulas as MathML, Markdown cells, tables of an output, links, titles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape, unescape
from typing import Any
from xml.etree import ElementTree

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

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


class Renderer(IPythonRenderer):
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


def markdown(source: str, renderer: Renderer | None = None) -> str:
    """Markdown with formulas as HTML."""
    html = MarkdownWithMath(renderer=renderer or Renderer()).render(source)
    html = _ALONE.sub(r'<div class="scroll math">\1</div>', html)
    html = re.sub(r'<span class="scroll math">(.*?)</span>', r"\1", html, flags=re.S)
    return html.replace("<table>", '<div class="scroll"><table>').replace(
        "</table>", "</table></div>"
    )


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header."""
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def boxed_html(content: str) -> str:
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
            sentence = len(text) > 24 and len(re.findall(r"[^\W\d_]{2,}", text)) > 3
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


def title_and_message(body: str, name: str) -> tuple[str, str]:
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


_LINK = re.compile(r'href="([^"/:#]+)\.ipynb(#[^"]*)?"')


def linked(html: str, names: Sequence[str]) -> str:
    """Links to notebooks made links to pages; one to a notebook that has no page is no link.

    A cell is addressed as ``#cell-<id>``; JupyterLab's ``#cell-id=<id>`` is understood too.
    """

    def rewrite(match: re.Match) -> str:
        name, anchor = match[1], (match[2] or "").replace("#cell-id=", "#cell-")
        return f'href="{name}.html{anchor}"' if name in names else "data-missing"

    missing = re.compile(r"<a [^>]*?data-missing[^>]*>(.*?)</a>", re.S)
    return missing.sub(r"\1", _LINK.sub(rewrite, html))
