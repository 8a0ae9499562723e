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

    ``messages``: :func:`remi_lib.replication.messages.table`.  A filled mark decided the status and
    has its condition beside it; an open one decides nothing, and a stand-in is grey.
    """
    figure, (ax,) = plots.panels(1, height=0.5 * len(messages) + 1.0)
    columns = ["status", *SETTINGS]
    at = dict(zip(columns, (0.0, 2.45, 4.85, 5.6), strict=True))
    for y, row in enumerate(messages.to_dict("records")):
        hue = STATUS_COLOURS[Status(row["status"])]
        ax.text(-0.15, y, f"{row['id']}  {row['name']}", ha="right", va="center", fontsize=8)
        ax.text(at["status"], y, row["status"], color=hue, va="center", fontsize=7, weight="bold")
        for setting in SETTINGS:
            if not row[setting]:
                continue
            decides = setting == row["decided by"]
            own = hue if decides else GREY
            said = row["condition"] if decides else row[setting]
            text = "\n".join(textwrap.wrap(said, 42 if decides else 30))
            ax.plot(at[setting], y, "o", ms=5, mfc=own if decides else "none", mec=own)
            ax.text(at[setting] + 0.1, y, text, color="0.25", va="center", fontsize=6)
    for column, heading in {"status": "", **HEADINGS}.items():
        ax.text(at[column] - 0.05, -0.8, heading, fontsize=8, color="0.3")
    legend = "filled: decided the status, with its condition; open: decides nothing"
    ax.text(at["status"], len(messages) - 0.3, legend, fontsize=7, color="0.3")
    ax.set(xlim=(-1.85, 7.4), ylim=(len(messages), -1.1))
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
