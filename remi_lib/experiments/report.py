"""What the replication shows first: the picture of the messages, and the README's blocks."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from remi_lib.experiments import plots
from remi_lib.experiments.image_results import cell_text
from remi_lib.losses import FAMILIES, title
from remi_lib.paths import figures_dir
from remi_lib.replication import ledger_page
from remi_lib.replication.claims import SETTINGS, collect
from remi_lib.replication.messages import Status
from remi_lib.replication.scoreboard import (
    GREY,
    HEADINGS,
    STATUS_COLOURS,
    counted,
    messages_markdown,
    write_block,
)


def messages_figure(messages: pd.DataFrame) -> Figure:
    """The messages as rows: status in its colour, then what each setting's evidence says.

    ``messages``: :func:`remi_lib.replication.messages.table`.  Filled marks decided the status,
    open ones stand beside it; a stand-in is grey whatever it says.
    """
    figure, (ax,) = plots.panels(1, height=0.42 * len(messages) + 0.8)
    columns = ["status", *SETTINGS]
    at = dict(zip(columns, (0.0, 2.1, 3.5, 4.5), strict=True))
    for y, row in enumerate(messages.to_dict("records")):
        hue = STATUS_COLOURS[Status(row["status"])]
        ax.text(-0.15, y, f"{row['id']}  {row['name']}", ha="right", va="center", fontsize=8)
        ax.text(at["status"], y, row["status"], color=hue, va="center", fontsize=8, weight="bold")
        for setting in SETTINGS:
            own = hue if setting == row["decided by"] else GREY
            text = "\n".join(textwrap.wrap(row[setting], 26))
            filled = own if setting == row["decided by"] else "none"
            if text:
                ax.plot(at[setting] - 0.08, y, "o", ms=5, mfc=filled, mec=own)
                ax.text(at[setting], y, text, color=own, va="center", fontsize=6)
    for column, heading in {"status": "", **HEADINGS}.items():
        ax.text(at[column], -0.8, heading, fontsize=8, color="0.3")
    ax.set(xlim=(-1.75, 5.7), ylim=(len(messages) - 0.5, -1.1))
    ax.axis("off")
    return figure


def table2_markdown(table: pd.DataFrame) -> str:
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


def write_readme(profile: str = "cpu") -> None:
    """Fill the README's blocks of messages and results from the ledger and Table 2."""
    ledger = collect(profile)
    messages = messages_markdown(ledger, f"figures/{profile}/ledger.md")
    write_block("messages", messages)
    table = pd.read_csv(figures_dir(profile) / "table2.csv")
    write_block("results", f"{counted(ledger)}\n\n{table2_markdown(table)}")


if __name__ == "__main__":
    ledger_page.write("cpu")
    write_readme()
