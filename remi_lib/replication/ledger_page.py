"""The ledger as files: a page to search in, the same in Markdown, and JSON for machines.

All three are written beside a profile's figures; the page also links the files that lie there.  The
library's own claims are in files of their own, ``library.*``.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment

from remi_lib.paths import atomic, figures_dir
from remi_lib.replication.claims import EVIDENCE, collect, measured, statistic, worded
from remi_lib.replication.messages import Status, decide, messages, table, terms
from remi_lib.replication.registry import KINDS, NOT_RUN, SETTINGS
from remi_lib.replication.scoreboard import (
    GREY,
    HEADINGS,
    STATUS_COLOURS,
    apart,
    colour,
    counted,
    deciding_cell,
    figures,
    markdown_table,
    messages_markdown,
    showing_cell,
    tally,
)
from remi_lib.replication.store import write_json

LEDGER, LIBRARY = "The ledger", "Claims about this library"
RULE = (
    "A verdict goes by the whole 95% interval: inside the threshold *holds*, outside *does not "
    "hold*, across it *not resolved*, or *no power* if half the interval is wider than the effect "
    "that the paper reports, or if so few seeds could not have decided it either way. Identities "
    "are settled by calculation and not counted. *threshold fixed* says what git shows: *fixed "
    "before* the first verdict, committed *with* it, or *after a pilot* whose numbers were known."
)
BELOW = "Below each: its statistic."
READ = f"{RULE} In bold: claims that decide a message. {BELOW}"


def write(profile: str) -> None:
    """Write ``ledger.html``, ``ledger.md`` and ``claims.json`` into the profile's figures.

    Of the library's own claims ``library.html``, ``library.md`` and ``library.json``.
    """
    ledger, library = apart(collect(profile))
    folder = figures_dir(profile)
    for name, text in {
        "ledger.html": page(ledger, profile),
        "ledger.md": markdown(ledger),
        "library.html": page(library, profile, LIBRARY),
        "library.md": "\n".join([f"# {LIBRARY}", "", f"{RULE} {BELOW}", "", *_rows(library, ())]),
    }.items():
        with atomic(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json({"messages": _statuses(ledger), "claims": _claims(ledger)}, folder / "claims.json")
    write_json({"claims": _claims(library)}, folder / "library.json")


def _statuses(ledger: pd.DataFrame) -> list[dict[str, Any]]:
    statuses = []
    for message in messages():
        setting, finding = decide(message, ledger)
        statuses.append(
            {
                "id": message.id,
                "message": message.message,
                "source": message.source,
                "status": finding.status,
                "condition": finding.condition or None,
                "decided in setting": setting,
                "decided by": list(finding.judged or message.decided_by),
            }
        )
    return statuses


def _claims(ledger: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {key: _plain(value) for key, value in row.items()} | {"evidence": _evidence(row)}
        for row in ledger.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    return None if value is pd.NA or (isinstance(value, float) and pd.isna(value)) else value


def _evidence(row: dict[str, Any]) -> str | None:
    """The file that holds a judged claim, from the checkout's root."""
    profile = _plain(row["profile"])
    return f"figures/{profile}/claims/{row['notebook']}.json" if profile else None


def _cell(row: dict[str, Any]) -> str:
    """The page of the cell that decides a claim, or shows it; as seen from a profile's folder.

    What a larger profile judged has no page of its own: a notebook shows it beside its own run.
    """
    notebook, profile = row["notebook"], _plain(row["profile"])
    larger = profile in EVIDENCE[1:]
    cell = showing_cell(notebook) if larger else deciding_cell(notebook)
    if cell:
        return f"../{'cpu' if larger else profile or 'cpu'}/html/{notebook}.html#cell-{cell}"
    judged = f"../{profile}/claims/{notebook}.json"
    return judged if profile else f"../../remi_lib/data/claims/{notebook}.yaml"


def page(ledger: pd.DataFrame, profile: str, title: str = LEDGER) -> str:
    """One page with everything in it: no file beside it, no network; sorts and filters itself.

    The ledger's opens with the messages and ends with the figures; the library's has its claims.
    """
    source = (files("remi_lib") / "data" / "pages" / "ledger.html.j2").read_text(encoding="utf-8")
    ordered = ledger.sort_values("message", kind="stable")  # what is about no message comes last
    rows = [
        {
            **row,
            "message": _plain(row["message"]) or "",
            "judged": row["verdict"] != NOT_RUN,
            "measured": measured(row) if row["verdict"] != NOT_RUN else "",
            "statistic": statistic(row),
            "sees": f"{float(row['sees']):.2g}" if row["verdict"] != NOT_RUN else "",
            "said": worded(row),
            "colour": colour(row["verdict"], row["setting"]),
            "href": _cell(row),
            "parts": _parts(row),
        }
        for row in ordered.to_dict("records")
    ]
    whole = title == LEDGER
    found = table(ledger) if whole else pd.DataFrame()
    told = [
        {**row, "colour": STATUS_COLOURS[Status(row["status"])]} for row in found.to_dict("records")
    ]
    return (
        Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        .from_string(source)
        .render(
            title=title,
            claims=rows,
            messages=told,
            headings=HEADINGS,
            kinds=KINDS,
            settings=SETTINGS,
            grey=GREY,
            counted=counted(ledger),
            rule=re.sub(r"\*(.+?)\*", r"<em>\1</em>", RULE),
            tally=tally(found) if whole else "",
            terms=terms(ledger) if whole else {},
            profile=profile,
            figures=figures(profile).to_dict("records") if whole else [],
            larger=_larger(profile) if whole else [],
        )
    )


def _larger(profile: str) -> list[tuple[str, str]]:
    """Profile and file name of every table and picture that a larger profile has committed."""
    if profile != EVIDENCE[0]:
        return []
    folders = [figures_dir(name) for name in EVIDENCE[1:]]
    return [
        (folder.name, path.name)
        for folder in folders
        for path in sorted(folder.glob("*.*"))
        if path.suffix in (".csv", ".png")
    ]


def _parts(row: dict[str, Any]) -> list[str]:
    """A family's members in words: value, interval, Holm's p."""
    parts = row["parts"] if isinstance(row["parts"], dict) else {}
    return [
        f"{name}: {measured(part)}" + (f", p = {part['p_holm']:.2g}" if "p_holm" in part else "")
        for name, part in parts.items()
    ]


def markdown(ledger: pd.DataFrame) -> str:
    """The ledger in Markdown: what a web forge shows, message by message, with anchors."""
    lines = ["# The ledger", "", counted(ledger), "", messages_markdown(ledger, ""), "", READ, ""]
    for message in messages():
        own = ledger[ledger["message"] == message.id]
        lines += [f'<a id="message-{message.id}"></a>', f"## {message.id} · {message.name}", ""]
        lines += [f"{message.message} Reproduced if: {message.rule}.", ""]
        for control, claims in message.presumes.items():
            named = ", ".join(f"`{claim}`" for claim in claims)
            lines += [
                f"Set aside, whatever it says, where `{control}` does not hold: {named}.",
                "",
            ]
        lines += [f"The paper, {message.source}: {message.quote}", ""]
        lines += _by_setting(own, message.id, tuple(message.decided_by))
    lines += ["## Checks of the paper's text", "", *_rows(ledger[ledger["message"].isna()], ())]
    return "\n".join([*lines, f"[{LIBRARY}](library.md) are counted apart.", ""])


def _by_setting(own: pd.DataFrame, number: int, deciding: tuple[str, ...]) -> list[str]:
    lines = []
    for setting, heading in HEADINGS.items():
        rows = own[(own["setting"] == setting) & (own["verdict"] != NOT_RUN)]
        if len(rows):
            lines += [f'<a id="message-{number}-{setting}"></a>', f"**{heading}**", ""]
            lines += _rows(rows, deciding)
    idle = own[own["verdict"] == NOT_RUN]
    return lines + ([f"**Not run**: {', '.join(idle['id'])}", ""] if len(idle) else [])


def _rows(rows: pd.DataFrame, deciding: tuple[str, ...]) -> list[str]:
    """A Markdown table of claims; those that decide the message are in bold."""
    if rows.empty:
        return []
    headings = ["claim", "data", "measured", "holds if", "threshold fixed", "verdict"]
    lines = []
    for row in rows.to_dict("records"):
        bold = "**" if row["id"].partition("@")[0] in deciding else ""
        notebook = Path("../../notebooks") / f"{row['notebook']}.ipynb"
        link = notebook if deciding_cell(row["notebook"]) else _cell(row)
        cells = [
            f"{bold}[{row['statement']}]({link}){bold} `{row['id']}`<br>{statistic(row)}",
            row["dataset"],
            measured(row) if row["verdict"] != NOT_RUN else "",
            row["threshold"],
            row["provenance"],
            worded(row),
        ]
        lines.append(cells)
    return [markdown_table(headings, lines), ""]
