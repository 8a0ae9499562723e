"""The ledger as files: a page to search in, the same in Markdown, and JSON for machines.

All three are written beside a profile's figures and are functions of the ledger alone.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment

from remi_lib.paths import figures_dir
from remi_lib.replication.claims import KINDS, NOT_RUN, SETTINGS, collect, measured, worded
from remi_lib.replication.messages import TERMS, Status, decide, messages, table
from remi_lib.replication.scoreboard import (
    GREY,
    HEADINGS,
    STATUS_COLOURS,
    colour,
    counted,
    deciding_cell,
    figures,
    markdown_table,
    messages_markdown,
    tally,
)
from remi_lib.replication.store import atomic, write_json


def write(profile: str) -> None:
    """Write ``ledger.html``, ``ledger.md`` and ``claims.json`` into the profile's figures."""
    ledger, folder = collect(profile), figures_dir(profile)
    for name, text in (("ledger.html", page(ledger, profile)), ("ledger.md", markdown(ledger))):
        with atomic(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(machine(ledger), folder / "claims.json")


def machine(ledger: pd.DataFrame) -> dict[str, Any]:
    """Messages and claims as plain data."""
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
    claims = [
        {key: _plain(value) for key, value in row.items()} | {"evidence": _evidence(row)}
        for row in ledger.to_dict("records")
    ]
    return {"messages": statuses, "claims": claims}


def _plain(value: Any) -> Any:
    return None if value is pd.NA or (isinstance(value, float) and pd.isna(value)) else value


def _evidence(row: dict[str, Any]) -> str | None:
    """The file that holds a judged claim, from the checkout's root."""
    profile = _plain(row["profile"])
    return f"figures/{profile}/claims/{row['notebook']}.json" if profile else None


def _cell(row: dict[str, Any]) -> str:
    """The page of the cell that decides a claim, as seen from a profile's folder."""
    cell = deciding_cell(row["notebook"])
    profile = _plain(row["profile"])
    if cell is None:  # judged by a script, if at all
        own = f"../{profile}/claims/{row['notebook']}.json"
        return own if profile else f"../../remi_lib/data/claims/{row['notebook']}.yaml"
    return f"../{profile or 'cpu'}/html/{row['notebook']}.html#cell-{cell}"


def page(ledger: pd.DataFrame, profile: str) -> str:
    """One page with everything in it: no file beside it, no network; sorts and filters itself."""
    source = (files("remi_lib") / "data" / "pages" / "ledger.html.j2").read_text(encoding="utf-8")
    ordered = ledger.sort_values("message", kind="stable")  # what is about no message comes last
    rows = [
        {
            **row,
            "message": _plain(row["message"]) or "",
            "judged": row["verdict"] != NOT_RUN,
            "measured": measured(row) if row["verdict"] != NOT_RUN else "",
            "sees": f"{float(row['sees']):.2g}" if row["verdict"] != NOT_RUN else "",
            "said": worded(row),
            "colour": colour(row["verdict"], row["setting"]),
            "href": _cell(row),
            "parts": _parts(row),
        }
        for row in ordered.to_dict("records")
    ]
    found = table(ledger)
    told = [
        {**row, "colour": STATUS_COLOURS[Status(row["status"])]} for row in found.to_dict("records")
    ]
    return (
        Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        .from_string(source)
        .render(
            claims=rows,
            messages=told,
            headings=HEADINGS,
            kinds=KINDS,
            settings=SETTINGS,
            grey=GREY,
            counted=counted(ledger),
            terms=f"{tally(found)} {TERMS}",
            profile=profile,
            figures=figures(profile).to_dict("records"),
        )
    )


def _parts(row: dict[str, Any]) -> list[str]:
    """A family's members in words: value, interval, Holm's p."""
    parts = row["parts"] if isinstance(row["parts"], dict) else {}
    return [
        f"{name}: {measured(part)}" + (f", p = {part['p_holm']:.2g}" if "p_holm" in part else "")
        for name, part in parts.items()
    ]


def markdown(ledger: pd.DataFrame) -> str:
    """The ledger in Markdown: what a web forge shows, message by message, with anchors."""
    lines = ["# The ledger", "", counted(ledger), "", messages_markdown(ledger, ""), ""]
    for message in messages():
        own = ledger[ledger["message"] == message.id]
        lines += [f'<a id="message-{message.id}"></a>', f"## {message.id} · {message.name}", ""]
        lines += [f"{message.message} ({message.source}.) Reproduced if: {message.rule}.", ""]
        lines += _by_setting(own, message.id, tuple(message.decided_by))
    rest = ledger[ledger["message"].isna()]
    for kind, label in (("control", "Checks of the paper's text"), ("own", "This library")):
        lines += [f"## {label}", "", *_rows(rest[rest["kind"] == kind], ())]
    return "\n".join(lines)


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
    headings = ["claim", "data", "measured", "holds if", "threshold", "verdict"]
    lines = []
    for row in rows.to_dict("records"):
        bold = "**" if row["id"].partition("@")[0] in deciding else ""
        notebook = Path("../../notebooks") / f"{row['notebook']}.ipynb"
        link = notebook if deciding_cell(row["notebook"]) else _cell(row)
        cells = [
            f"{bold}[{row['statement']}]({link}){bold} `{row['id']}`",
            row["dataset"],
            measured(row) if row["verdict"] != NOT_RUN else "",
            row["threshold"],
            row["provenance"],
            worded(row),
        ]
        lines.append(cells)
    return [markdown_table(headings, lines), ""]
