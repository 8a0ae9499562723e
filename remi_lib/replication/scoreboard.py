"""The scoreboard: the ledger counted, laid out and linked."""

from __future__ import annotations

import json
from functools import cache

import pandas as pd
from pandas.io.formats.style import Styler

from remi_lib.experiments.benchmark import cell_text
from remi_lib.losses import FAMILIES, title
from remi_lib.paths import figures_dir, project_root
from remi_lib.replication.claims import FAILS, HOLDS, NOT_RUN, OPEN, collect, measured, verdict_line
from remi_lib.replication.store import atomic

KINDS = (HOLDS, FAILS, OPEN, NOT_RUN)
COLOURS = {HOLDS: "#0072B2", FAILS: "#D55E00", OPEN: "#888888", NOT_RUN: "#888888"}


def kind(verdict: str) -> str:
    """The class of a verdict: "holds with a caveat: ..." holds, "artefact of ..." does not.

    Raises ValueError for a text that is no verdict.
    """
    for prefix, found in (*zip(KINDS, KINDS, strict=True), ("artefact of", FAILS)):
        if verdict.startswith(prefix):
            return found
    raise ValueError(f"verdict: {verdict!r} is none")


def counts(ledger: pd.DataFrame, by: str = "dataset") -> pd.DataFrame:
    """How many claims of each data set, or notebook, got which verdict."""
    table = pd.crosstab(ledger[by], ledger["verdict"].map(kind).rename("verdict"))
    table = table.reindex(columns=KINDS, fill_value=0)
    order = ledger[by].drop_duplicates()
    table = table.loc[order]
    table.loc["all"] = table.sum()
    return table


def styled_ledger(ledger: pd.DataFrame) -> Styler:
    """The judged claims for display, each linked to the notebook that decides it."""
    shown = pd.DataFrame(
        {
            "claim": ledger["statement"],
            "data": ledger["dataset"],
            "source": ledger["source"],
            "statistic": ledger["statistic"],
            "measured": [measured(entry) for entry in ledger.to_dict("records")],
            "threshold": ledger["threshold"],
            "verdict": ledger["verdict"],
            "decided in": ledger["notebook"].map(_link),
        }
    )
    left = [{"selector": "td, th", "props": "text-align: left; vertical-align: top"}]
    return (
        shown.style.hide(axis="index")
        .map(lambda v: f"color: {COLOURS[kind(v)]}; font-weight: bold", subset="verdict")
        .set_table_styles(left)
    )


@cache
def _link(notebook: str) -> str:
    """A link to the cell of a notebook that prints its verdicts."""
    path = project_root() / "notebooks" / f"{notebook}.ipynb"
    cells = json.loads(path.read_text())["cells"] if path.exists() else []
    checked = [c["id"] for c in cells if "nbval-check-output" in c["metadata"].get("tags", [])]
    anchor = f"#cell-{checked[-1]}" if checked else ""
    return f'<a href="{notebook}.ipynb{anchor}">{notebook}</a>'


def waiting(ledger: pd.DataFrame) -> pd.DataFrame:
    """The claims that were not run, counted by what they need."""
    idle = ledger[ledger["verdict"].str.startswith(NOT_RUN)]
    return idle.groupby(["notebook", "verdict"]).size().rename("claims").reset_index()


def verdict_lines(ledger: pd.DataFrame) -> str:
    """One line per claim, what nbval compares."""
    judged = ~ledger["verdict"].str.startswith(NOT_RUN)
    idle = [f"{row.id}: {row.verdict}" for row in ledger[~judged].itertuples()]
    return "\n".join([verdict_line(row) for row in ledger[judged].to_dict("records")] + idle)


def results_markdown(profile: str = "cpu") -> str:
    """The README's block of results, from the committed ledger and Table 2."""
    counted = counts(collect(profile))
    lines = [
        "| data | " + " | ".join(KINDS) + " |",
        "|---" * (1 + len(KINDS)) + "|",
    ]
    lines += [
        f"| {dataset} | " + " | ".join(str(n) for n in row) + " |"
        for dataset, row in zip(counted.index, counted.to_numpy(), strict=True)
    ]
    table = pd.read_csv(figures_dir(profile) / "table2.csv")
    head = f"The ledger has {counted.to_numpy()[-1].sum()} claims:\n\n"
    return head + "\n".join(lines) + "\n\n" + _table2_markdown(table)


def _table2_markdown(table: pd.DataFrame) -> str:
    """The contrastive half of Table 2 in Markdown: ours, theory, paper."""
    block = table[(table["benchmark"] == "clb") & (table["quantity"] == "mi")].set_index("loss")
    lines = [
        "Contrastive benchmark, MI in nats (ours on digits, mean ± 95% interval over seeds; "
        "optimum of the loss; paper on CIFAR-10):",
        "",
        "| | original | optimum | paper | regularised | optimum | paper |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        cells = []
        for loss in (family, "re" + family):
            row = block.loc[loss]
            cells += [cell_text(row), f"{row['theory']:.3f}", f"{row['paper']:.3f}"]
        lines.append(f"| {title(family)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


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


def write_readme() -> None:
    """Put the results between the README's two markers."""
    write_block("results", results_markdown())


if __name__ == "__main__":
    write_readme()
