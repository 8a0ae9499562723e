"""The printed tables and pictures of the benchmark, from stored statistics; nothing here trains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi_lib.experiments import published
from remi_lib.experiments.image_results import (
    CELL,
    accuracy_or_guess,
    cell_text,
    failed,
    fate,
    law_of,
    mi_error,
    number_text,
    outcome,
    plus_minus,
)
from remi_lib.experiments.plots import (
    band,
    colour,
    name_of,
    original_and_regularised,
    outer_labels,
    panels,
    printed,
    reference,
    reference_x,
)
from remi_lib.images import load_images
from remi_lib.intervals import Estimate, difference, interval
from remi_lib.losses import Loss, families_of, make_loss, split_name, title
from remi_lib.optimum import optimum


def theory(runs: pd.DataFrame, nonnegative: bool = True) -> pd.Series:
    """The MI that each cell's loss reads at its optimum, indexed by :data:`CELL`.

    In CLB features are ReLU outputs, so that a critic cannot fall below 0.
    """
    cells = runs.drop_duplicates(CELL).set_index(CELL, drop=False)
    return cells.apply(
        lambda cell: (
            optimum(
                _loss_of(cell),
                law_of(cell["dataset"], cell["benchmark"], int(cell["batch"])),
                nonnegative=cell["benchmark"] == "clb" and nonnegative,
            ).mi
        ),
        axis=1,
    )


def _loss_of(run: pd.Series) -> Loss:
    weight, target, tau = (
        None if pd.isna(run[k]) else float(run[k]) for k in ("weight", "target", "tau")
    )
    options: dict[str, Any] = {"variant": run["variant"], "mi_shift": run["mi_shift"]}
    return make_loss(run["loss"], weight, target, tau, **options)


def paired(runs: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Regularised minus original, per seed: rows (dataset, benchmark, family), columns seeds."""
    wide = runs.assign(
        family=[split_name(x)[0] for x in runs["loss"]],
        kind=["re" if split_name(x)[1] else "original" for x in runs["loss"]],
    ).pivot_table(
        index=["dataset", "benchmark", "family", "seed"],
        columns="kind",
        values=quantity,
        dropna=False,
    )
    gain = pd.Series(difference(wide["re"], wide["original"]), wide.index)
    return gain.unstack("seed").dropna(how="all")


def original_failed(runs: pd.DataFrame) -> pd.Series:
    """Per row of :func:`paired`: whether the original diverged or froze in any seed."""
    original = runs[[not split_name(name)[1] for name in runs["loss"]]]
    family = original["loss"].rename("family")
    return failed(original).groupby([original["dataset"], original["benchmark"], family]).any()


def penalty_gains(runs: pd.DataFrame) -> pd.DataFrame:
    """What the penalty gains: a row per pair, mean and 95% interval over the seeds of both losses.

    ``closer``: to H(Y) (nats), NaN where an original failed; a diverged run counts as a guess.
    """
    runs = runs.assign(error=mi_error(runs), accuracy=accuracy_or_guess(runs))
    better, nearer = paired(runs, "accuracy"), -paired(runs, "error")
    better, lost = better[better.count(axis=1) > 1], original_failed(runs)
    found = [better.count(axis=1).rename("seeds")]
    for name, gain in (("closer", nearer), ("accuracy", better)):
        each = [interval(gain.loc[pair].dropna()) for pair in better.index]
        numbers = pd.DataFrame(each, better.index, ["value", "low", "high"], dtype=float)
        found.append(numbers.set_axis(_columns(name), axis=1))
    table = pd.concat(found, axis=1)
    table.loc[lost[table.index], _columns("closer")] = np.nan
    return table


def _columns(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def printed_protocols(table: pd.DataFrame) -> pd.DataFrame:
    """What each protocol of choosing lambda gains, with intervals, a row per benchmark."""
    words = {"closer": "closer to H(Y) (nats)", "accuracy": "gain in accuracy"}
    shown = table[["benchmark", "protocol", "families", "seeds"]].copy()
    for name, heading in words.items():
        shown[heading] = _intervals(table, name)
    return printed(shown.set_index(["benchmark", "protocol"]).sort_index())


def printed_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """:func:`penalty_gains` as printed: "0.015 [0.003, 0.027]", or "original failed"."""
    headings = {"closer": "closer to H(Y) by (nats)", "accuracy": "more accurate by"}
    columns = {"seeds": gains["seeds"]}
    for name, heading in headings.items():
        columns[heading] = _intervals(gains, name)
    return printed(pd.DataFrame(columns, gains.index))


def _intervals(table: pd.DataFrame, name: str) -> list[str]:
    """The rows of a quantity's three columns as printed."""
    numbers = table[_columns(name)].to_numpy()
    return ["original failed" if np.isnan(own[0]) else str(Estimate(*own)) for own in numbers]


def printed_failures(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that diverged or froze: a row per loss and way, with its seeds and mean accuracy.

    "went first": the term of the loss that overflowed.
    """
    terms = {"joint_term": "first", "product_term": "second", "penalty": "penalty"}
    first = runs["first_term"].map(terms).fillna("–")
    own = runs.assign(**{"how it ended": runs.apply(fate, axis=1), "went first": first})
    keys = ["dataset", "benchmark", "loss", "how it ended", "went first"]
    ways = own[failed(own)].groupby(keys)["accuracy"]
    found = pd.DataFrame({"seeds": ways.size(), "accuracy": ways.mean().round(3)})
    return printed(found.astype({"accuracy": object}).fillna("none"))


def table2(runs: pd.DataFrame, optima: pd.Series | None = None) -> pd.DataFrame:
    """Table 2 of these runs, long, beside the optimum and what the paper printed."""
    paper = published.table2_long().set_index(CELL)
    rows = []
    for cell, own in runs.groupby(CELL, sort=False):
        shown = published.counterpart(cell[0])
        # A loss of one's own has no published numbers.
        source = paper.reindex([(shown, *cell[1:])]).iloc[0]
        for quantity in ("mi", "accuracy"):
            rows.append(
                {
                    **dict(zip(CELL, cell, strict=True)),
                    "quantity": quantity,
                    **outcome(own, quantity),
                    "theory": optima.get(cell) if optima is not None and quantity == "mi" else None,
                    "paper": source[quantity],
                    "paper_ci": source[f"{quantity}_ci"],
                    "paper_dataset": shown,
                    "authors_way": _authors_way(own, quantity),
                }
            )
    return pd.DataFrame(rows)


def _authors_way(runs: pd.DataFrame, quantity: str) -> float:
    """What compares with the paper: accuracies with batch norm in training mode, as there."""
    column = "accuracy_batch_norm" if quantity == "accuracy" else quantity
    return float(runs.loc[~failed(runs), column].mean())


def styled_table2(table: pd.DataFrame, dataset: str, benchmark: str):
    """One block of Table 2 for display: ours | theory | paper | difference from the paper.

    A difference is taken on the paper's own data set only, of accuracies read in the authors' way.
    Bold: the better of a pair; coloured where their intervals do not overlap, as in the paper.
    """
    block = table[(table["dataset"] == dataset) & (table["benchmark"] == benchmark)]
    truth = load_images(dataset).entropy
    paper = f"paper, {published.PRINTED[block['paper_dataset'].iloc[0]]}"
    cells = block.assign(
        family=[title(split_name(name)[0]) for name in block["loss"]],
        heading=block["quantity"].map({"mi": "MI (nats)", "accuracy": "accuracy"}),
        kind=["regularised" if split_name(x)[1] else "original" for x in block["loss"]],
        difference=block["authors_way"] - block["paper"],
    )
    texts = {
        f"ours, {dataset}": cells.apply(cell_text, axis=1),
        "theory": cells["theory"].map(number_text),
        paper: cells.apply(lambda row: plus_minus(row["paper"], row["paper_ci"]), axis=1),
    }
    if dataset == block["paper_dataset"].iloc[0]:
        texts["authors' way"] = cells["authors_way"].map(number_text)
        texts["difference"] = cells["difference"].map(lambda x: number_text(x, "+.3f"))
    keys = ["heading", "source", "kind"]
    long = cells.assign(**texts).melt(["family", *keys[::2]], list(texts), "source", "text")
    wide = long.pivot(index="family", columns=keys, values="text")
    columns = product(("MI (nats)", "accuracy"), texts, ("original", "regularised"))
    frame = wide.loc[
        [title(family) for family in families_of(table["loss"])],
        [
            column
            for column in columns
            if column[:2] not in (("accuracy", "theory"), ("MI (nats)", "authors' way"))
        ],
    ]
    marks = _marks(cells, truth, f"ours, {dataset}").reindex_like(frame).astype(object).fillna("")
    frame = frame.rename_axis(columns=[None] * 3)
    return frame.style.apply(lambda _: marks, axis=None).set_caption(
        f"{benchmark.upper()}, H(Y) = {truth:.3f} nats; mean ± 95% interval over seeds"
    )


def _marks(cells: pd.DataFrame, truth: float, ours: str) -> pd.DataFrame:
    """CSS of every cell of ours, see :func:`_better`: families x (heading, source, kind)."""
    css: dict[tuple[str, str, str], dict[str, str]] = {}
    for (family, quantity), pair in cells.groupby(["family", "quantity"], sort=False):
        pair = pair.sort_values("kind")  # the original first
        styles = _better([row for _, row in pair.iterrows()], str(quantity), truth)
        for heading, kind, style in zip(pair["heading"], pair["kind"], styles, strict=True):
            css.setdefault((heading, ours, kind), {})[family] = style
    return pd.DataFrame(css).astype(object)


def _better(rows, quantity: str, truth: float) -> list[str]:
    """CSS of an original and its twin: bold the better one, coloured if beyond the intervals."""
    failures = [np.isnan(row["value"]) for row in rows]
    distance = [
        np.inf if bad else (abs(row["value"] - truth) if quantity == "mi" else -row["value"])
        for row, bad in zip(rows, failures, strict=True)
    ]
    best = int(distance[1] < distance[0])
    apart = any(failures) or rows[0]["high"] < rows[1]["low"] or rows[1]["high"] < rows[0]["low"]
    css = ["", ""]
    css[best] = "font-weight: bold" + ("; color: #D55E00" if apart else "")
    return css


def training_curves(epochs: pd.DataFrame, truth: float, names: Sequence[str]) -> Figure:
    """MI of the training batches over epochs, a panel per family; median and range over seeds."""
    figure, axes = panels(len(names), columns=3, height=2.0, sharex=True, sharey=True)
    for ax, family in zip(axes, names, strict=True):
        for loss, style in ((family, "-"), ("re" + family, "--")):
            runs = epochs[epochs["loss"] == loss]
            band(ax, runs, "mi", colour(loss), title(loss), style, x="epoch", percent=100)
            if not np.isfinite(runs["mi"]).any():
                # Above the twin, which has begun to learn, and below the truth.
                own: dict[str, Any] = {"transform": ax.transAxes, "va": "top", "color": "0.3"}
                ax.text(0.03, 0.8, f"{title(loss)} diverged", fontsize="small", **own)
        reference(ax, truth)
        ax.set(ylim=(-0.2, 1.15 * truth), xlabel="epoch", ylabel="MI (nats)", title=title(family))
    outer_labels(axes, columns=3)
    original_and_regularised(figure)
    return figure


def table2_dots(table: pd.DataFrame, truth: float, standing_for: str) -> Figure:
    """Table 2 as a picture: MI and accuracy per family, 95% intervals, optima and the paper's."""
    benchmarks, families = list(table["benchmark"].unique()), families_of(table["loss"])
    figure, axes = panels(2 * len(benchmarks), columns=2, height=2.7, sharey=True)
    for row, benchmark in enumerate(benchmarks):
        for ax, quantity in zip(axes[2 * row : 2 * row + 2], ("mi", "accuracy"), strict=True):
            block = table[(table["benchmark"] == benchmark) & (table["quantity"] == quantity)]
            for i, family in enumerate(families):
                for loss, dy in ((family, -0.18), ("re" + family, 0.18)):
                    _dot(ax, block[block["loss"] == loss].iloc[0], i + dy, colour(loss), dy > 0)
            name = "MI (nats)" if quantity == "mi" else "test accuracy"
            ax.set(
                xlabel=name, title=f"{benchmark.upper()}: {name}", ylim=(len(families) - 0.4, -0.6)
            )
            ax.set_yticks(range(len(families)), name_of(families))
            if quantity == "mi":
                reference_x(ax, truth, "H(Y)")
    handles = [
        mpl.lines.Line2D([], [], color="0.3", marker="o", ls="", mfc="white", label="original"),
        mpl.lines.Line2D([], [], color="0.3", marker="o", ls="", label="regularised"),
        mpl.lines.Line2D([], [], color="0.3", marker="|", ms=9, ls="", label="optimum of the loss"),
        mpl.lines.Line2D([], [], color="0.6", marker="D", ms=4, ls="", label=standing_for),
        mpl.lines.Line2D([], [], color="black", lw=0.9, ls=":", label="H(Y)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def _dot(ax: Axes, row: pd.Series, y: float, hue: str, filled: bool) -> None:
    ax.plot(row["paper"], y, "D", color="0.6", ms=4)
    if row["theory"] is not None and np.isfinite(row["theory"]):
        ax.plot(row["theory"], y, "|", color="0.3", ms=9)
    if not np.isfinite(row["value"]):
        options: dict[str, Any] = {"color": hue, "fontsize": "xx-small", "va": "center"}
        ax.text(0.12, y, row["fate"], transform=ax.get_yaxis_transform(), **options)
        return
    ax.plot([row["low"], row["high"]], [y, y], color=hue, lw=1.2)
    ax.plot(row["value"], y, "o", color=hue, ms=5, mfc=hue if filled else "white")
