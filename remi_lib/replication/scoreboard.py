"""The scoreboard: messages and claims counted, laid out and linked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import pandas as pd
from pandas.io.formats.style import Styler

from remi_lib.paths import atomic, figures_dir, project_root
from remi_lib.replication.claims import measured, statistic, verdict_line, worded
from remi_lib.replication.messages import Status, table, terms
from remi_lib.replication.registry import (
    CONFIRMED,
    FAILS,
    HOLDS,
    KINDS,
    NO_POWER,
    NOT_RUN,
    OPEN,
    SETTINGS,
    Verdict,
)

GREY = "#767676"
COLOURS = {HOLDS: "#0072B2", CONFIRMED: "#0072B2", FAILS: "#B34700"}
COLOURS |= dict.fromkeys((OPEN, NO_POWER, NOT_RUN), GREY)
STATUS_COLOURS = {
    Status.REPRODUCED: "#0072B2",
    Status.CONDITION: "#00786C",
    Status.NOT_REPRODUCED: "#B34700",
    Status.NO_POWER: "#7B4B94",
    Status.NOT_TESTED: GREY,
}
HEADINGS = {"paper": "paper's setting", "reduced": "real data, reduced", "stand-in": "stand-in"}


def colour(verdict: str, setting: str) -> str:
    """The colour of a verdict; grey on a stand-in, which is no evidence about the paper."""
    return GREY if setting == "stand-in" else COLOURS[Verdict(verdict)]


def apart(ledger: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The claims of the replication, and the library's own, which no ledger of a paper counts."""
    own = ledger["kind"] == "own"
    return ledger[~own], ledger[own]


def styled_ledger(ledger: pd.DataFrame) -> Styler:
    """The judged claims for display, each linked to the cell that decides it."""
    shown = pd.DataFrame(
        {
            "claim": ledger["statement"],
            "data": ledger["dataset"],
            "source": ledger["source"],
            "statistic": [statistic(entry) for entry in ledger.to_dict("records")],
            "measured": [measured(entry) for entry in ledger.to_dict("records")],
            "holds if": ledger["threshold"],
            "threshold": ledger["provenance"],
            "verdict": [worded(entry) for entry in ledger.to_dict("records")],
            "decided in": ledger["notebook"].map(_link),
        }
    )
    css = [
        f"color: {colour(row.verdict, row.setting)}; font-weight: bold"
        for row in ledger.itertuples()
    ]
    left = [{"selector": "td, th", "props": "text-align: left; vertical-align: top"}]
    return (
        shown.style.hide(axis="index")
        .apply(lambda _: css, subset="verdict", axis=0)
        .set_table_styles(left)
    )


def styled_messages(ledger: pd.DataFrame) -> Styler:
    """The messages for display: status, condition, what each setting's evidence says."""
    found = table(ledger)
    shown = found.set_index("id")[["status", "message", "condition", *SETTINGS, "source"]]
    css = [
        f"color: {STATUS_COLOURS[Status(status)]}; font-weight: bold" for status in found["status"]
    ]
    left = [{"selector": "td, th", "props": "text-align: left; vertical-align: top"}]
    return (
        shown.rename(columns=HEADINGS)
        .style.apply(lambda _: css, subset="status", axis=0)
        .set_properties(subset=[HEADINGS["stand-in"]], color=GREY)
        .set_table_styles(left)
    )


@cache
def deciding_cell(notebook: str) -> str | None:
    """The id of the notebook's cell that prints its verdicts; None without one."""
    checked = [
        c["id"] for c in _cells(notebook) if "nbval-check-output" in c["metadata"].get("tags", [])
    ]
    return checked[-1] if checked else None


@cache
def showing_cell(notebook: str) -> str | None:
    """The id of the first cell that shows what a larger profile has committed; None without one."""
    found = (c["id"] for c in _cells(notebook) if ".committed(" in "".join(c["source"]))
    return next(found, None)


def _cells(notebook: str) -> list[dict]:
    path = project_root() / "notebooks" / f"{notebook}.ipynb"
    return json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else []


def _link(notebook: str) -> str:
    """A link to the cell of a notebook that prints its verdicts."""
    cell = deciding_cell(notebook)
    anchor = f"#cell-{cell}" if cell else ""
    return f'<a href="{notebook}.ipynb{anchor}">{notebook}</a>'


def figures(profile: str) -> pd.DataFrame:
    """Every published table and picture with the notebook cell that wrote it.

    Columns ``artifact`` (file name), ``notebook``, ``cell``.  Read from the notebooks' sources:
    the first argument of ``publish`` (or ``publish_...``), in which ``{...}`` stands for anything.
    """
    folder = figures_dir(profile)
    names = sorted(p.name for p in folder.glob("*.*") if p.suffix in (".csv", ".png"))
    rows = []
    for pattern, notebook, cell in _published():
        rows += [(n, notebook, cell) for n in names if pattern.fullmatch(n.rpartition(".")[0])]
    found = pd.DataFrame(rows, columns=["artifact", "notebook", "cell"])
    return found.drop_duplicates("artifact").sort_values("artifact", ignore_index=True)


def _published() -> Iterator[tuple[re.Pattern, str, str]]:
    """The names that notebooks publish under, literal ones first, with notebook and cell."""
    found = []
    for path in sorted((project_root() / "notebooks").glob("*.ipynb")):
        for cell in _cells(path.stem):
            source = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
            for name in re.findall(r"""\bpublish\w*\(\s*f?["']([^"']+)["']""", source):
                parts = [re.escape(part) for part in re.split(r"\{[^}]*\}", name)]
                found.append((len(parts), re.compile(".+".join(parts)), path.stem, cell["id"]))
    for _, pattern, notebook, cell_id in sorted(found, key=lambda f: f[0]):
        yield pattern, notebook, cell_id


def waiting(ledger: pd.DataFrame) -> pd.DataFrame:
    """The claims that were not run, counted by what they need."""
    idle = ledger[ledger["verdict"] == NOT_RUN]
    found = idle.groupby(["notebook", "qualifier"]).size().rename("claims").reset_index()
    return found.rename(columns={"qualifier": "waits for"})


def verdict_lines(ledger: pd.DataFrame) -> str:
    """One line per message and per claim, what nbval compares."""
    idle = ledger["verdict"] == NOT_RUN
    lines = [f"message {row.id}: {row.status}" for row in table(ledger).itertuples()]
    lines += [verdict_line(row) for row in ledger[~idle].to_dict("records")]
    return "\n".join(
        lines + [f"{row.id}: {worded(row._asdict())}" for row in ledger[idle].itertuples()]
    )


def messages_markdown(ledger: pd.DataFrame, page: str) -> str:
    """The README's table of messages, above it how many came to what, below it what that means.

    ``page`` is the ledger page that its cells link to.  Three columns, so that a phone shows it:
    the status with its condition, and what it rests on.
    """
    found = table(ledger)
    rows = []
    for row in found.to_dict("records"):
        link = f"{page}#message-{row['id']}"
        status = [
            f"**[{row['status']}]({link})**",
            *([row["condition"]] if row["condition"] else []),
        ]
        evidence = [f"[{HEADINGS[s]}]({link}-{s}): {row[s]}" for s in SETTINGS if row[s]]
        cells = [f"{row['id']} · {row['message']}", "<br>".join(status), "<br>".join(evidence)]
        rows.append([cell.replace("n = ", "n\u00a0=\u00a0") for cell in cells])
    shown = markdown_table(["message", "status", "evidence"], rows)
    said = "\n".join(f"- **{term}** {meaning}" for term, meaning in terms(ledger).items())
    return f"{tally(found)}\n\n{shown}\n\n{said}"


def tally(messages: pd.DataFrame) -> str:
    """Which messages have which status: "Of 3 messages: 2 reproduced (1, 3), 1 not tested (2)."."""
    own = {s: messages["id"][messages["status"] == s].astype(str) for s in Status}
    of = {Status.NO_POWER: "of "}
    said = [f"{len(n)} {of.get(s, '')}{s} ({', '.join(n)})" for s, n in own.items() if len(n)]
    return f"Of {len(messages)} messages: {', '.join(said)}."


def counted(ledger: pd.DataFrame) -> str:
    """The claims in one sentence: of which kind, and how many of the paper's were judged where."""
    base = ledger.assign(claim=ledger["id"].str.partition("@")[0]).drop_duplicates("claim")
    number = base["kind"].value_counts()
    paper = ledger[(ledger["kind"] == "paper") & (ledger["verdict"] != NOT_RUN)]
    where = paper["setting"].value_counts().reindex(list(SETTINGS), fill_value=0)
    words = {"paper": "at the paper's setting", "reduced": "reduced", "stand-in": "on stand-ins"}
    judged = ", ".join(f"{n} {words[name]}" for name, n in where.items())
    parts = [f"{number[name]} {label}" for name, label in LABELS.items() if name in number]
    return (
        f"The ledger has {', '.join(parts)}. Of the paper's, judged: {judged}; one that was "
        "judged in two settings counts in both."
    )


LABELS = {
    "paper": "claims of the paper",
    "control": "controls",
    "identity": "identities (settled by calculation, not counted)",
    "own": "claims about this library or beyond the paper",
}
assert LABELS.keys() == KINDS.keys()


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, a line a row; a bar within a cell is escaped."""
    cells = [[f" {c}".replace("|", "\\|").rstrip() for c in row] for row in (headings, *rows)]
    lines = [f"|{' |'.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]])


def write_block(name: str, text: str) -> None:
    """Put a text between the markers ``<!-- name: ... -->`` and ``<!-- /name -->``.

    They stand in README.md or in a page of docs/.
    """
    root = project_root()
    pages = [root / "README.md", *sorted(root.glob("docs/*.md"))]
    marked = [page for page in pages if f"<!-- {name}" in page.read_text(encoding="utf-8")]
    path = marked[0] if marked else pages[0]
    head, opened, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name}")
    marker, _, rest = rest.partition("-->\n")
    _, closed, tail = rest.partition(f"<!-- /{name} -->")
    if not (opened and closed):
        raise ValueError(f"{path.name}: lacks a marker of the block {name!r}; nothing was changed")
    block = f"<!-- {name}{marker}-->\n{text}\n<!-- /{name} -->"
    with atomic(path) as temporary:
        temporary.write_text(head + block + tail, encoding="utf-8")
