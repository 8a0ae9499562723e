"""What the replication shows first: the picture of the messages, and the README's blocks."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from remi_lib.experiments import plots
from remi_lib.experiments.image_results import cell_text
from remi_lib.losses import FAMILIES, title
from remi_lib.paths import figures_dir
from remi_lib.replication import ledger_page
from remi_lib.replication.claims import NOT_RUN, SETTINGS, collect, measured, statistic, worded
from remi_lib.replication.messages import Status
from remi_lib.replication.scoreboard import (
    GREY,
    HEADINGS,
    STATUS_COLOURS,
    counted,
    markdown_table,
    messages_markdown,
    write_block,
)


def messages_figure(messages: pd.DataFrame) -> Figure:
    """The messages as rows: status in its colour with its condition, then the evidence by setting.

    ``messages``: :func:`remi_lib.replication.messages.table`.  A filled mark decided the status; an
    open one decides nothing, and a stand-in is grey.
    """
    wrapped = [textwrap.wrap(condition, 54) for condition in messages["condition"]]
    heights = [max(1.0, 0.5 + 0.17 * len(lines)) for lines in wrapped]
    places = np.cumsum([0.0, *heights])  # a row is as high as its condition
    figure, (ax,) = plots.panels(1, height=0.55 * places[-1] + 1.0)
    at = dict(zip(("status", *SETTINGS), (0.0, 3.2, 4.45, 6.1), strict=True))
    for y, lines, row in zip(places, wrapped, messages.to_dict("records"), strict=False):
        hue = STATUS_COLOURS[Status(row["status"])]
        ax.text(-0.15, y, f"{row['id']}  {row['name']}", ha="right", va="center", fontsize=8)
        below = "\n".join(lines)
        ax.text(
            0,
            y,
            row["status"],
            color=hue,
            va="bottom" if below else "center",
            fontsize=7,
            weight="bold",
        )
        ax.text(0, y, below, color="0.25", va="top", fontsize=5.5, linespacing=1.1)
        for setting in SETTINGS:
            if not row[setting]:
                continue
            decides = setting == row["decided by"]
            own = hue if decides else GREY
            # Counts alone: names and conditions are as long as the table has room for them.
            text = row[setting].partition(";")[0].replace(", ", "\n")
            text += "\nunder conditions" if "; but" in row[setting] else ""
            ax.plot(at[setting], y, "o", ms=5, mfc=own if decides else "none", mec=own)
            ax.text(at[setting] + 0.12, y, text, color="0.25", va="center", fontsize=6)
    small: dict[str, Any] = {"fontsize": 7, "color": "0.3"}
    ax.text(-0.15, -0.8, "message", ha="right", **small)
    ax.text(at["status"], -0.8, "status", **small)
    for column, heading in HEADINGS.items():
        ax.text(at[column] - 0.05, -0.8, heading, **small)
    legend = (
        "filled: decided the status; open: decides nothing. n: seeds, runs or samples of a claim"
    )
    ax.text(-1.8, places[-1], legend, fontsize=7, color="0.3")
    ax.set(xlim=(-1.85, 7.3), ylim=(places[-1] + 0.2, -1.1))
    ax.axis("off")
    return figure


def table2_markdown(table: pd.DataFrame) -> str:
    """The contrastive half of Table 2 in Markdown: ours, theory, paper."""
    block = table[(table["benchmark"] == "clb") & (table["quantity"] == "mi")].set_index("loss")
    said = (
        "Contrastive benchmark, MI in nats (ours on digits, mean ± 95% interval over seeds; "
        "optimum of the loss; paper on CIFAR-10):"
    )
    rows = []
    for family in FAMILIES:
        cells = []
        for loss in (family, "re" + family):
            row = block.loc[loss]
            cells += [cell_text(row), f"{row['theory']:.3f}", f"{row['paper']:.3f}"]
        rows.append([title(family), *cells])
    headings = ["", "original", "optimum", "paper", "regularised", "optimum", "paper"]
    return f"{said}\n\n{markdown_table(headings, rows)}"


# What the runs show that no message of the paper says, or says in passing.
BESIDE = (
    "control.drift.exact-gradient",
    "control.drift.product-noise",
    "control.variance.second-term",
    "dv.above-nwj",
    "table2.seed-spread",
    "table2.clb.order",
    "published.intervals-apart",
)


def beside_markdown(ledger: pd.DataFrame) -> str:
    """:data:`BESIDE` in Markdown: what was asked, of what data, what came out."""
    judged = ledger[ledger["verdict"] != NOT_RUN]
    base = judged["id"].str.partition("@")[0]
    rows = [
        (row["statement"], row["dataset"], statistic(row), measured(row), worded(row))
        for claim in BESIDE
        for row in judged[base == claim].to_dict("records")
    ]
    return markdown_table(["statement", "data", "statistic", "measured", "verdict"], rows)


def write_readme(profile: str = "cpu") -> None:
    """Fill the blocks of README and docs/results.md from the ledger and Table 2."""
    ledger = collect(profile)
    messages = messages_markdown(ledger, f"figures/{profile}/ledger.md")
    write_block("messages", messages)
    table = pd.read_csv(figures_dir(profile) / "table2.csv")
    write_block("results", f"{counted(ledger)}\n\n{table2_markdown(table)}")
    write_block("beside", beside_markdown(ledger))


if __name__ == "__main__":
    ledger_page.write("cpu")
    write_readme()
