"""Tidy table -> figure.  Nothing here trains or computes a statistic that a claim rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from remi_lib.intervals import Estimate
from remi_lib.losses import FAMILIES, LOSSES, families_of, make_loss, split_name, title
from remi_lib.replication.claims import DATASETS

# One hue per family, colour-blind safe; the regularised twin shares it.
COLOURS: Mapping[str, str] = dict(
    zip(FAMILIES, ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"), strict=True)
)
WIDTH = 7.2  # inches, the width of a page


def use_style() -> None:
    """The look of every figure; call once per notebook."""
    sns.set_theme(style="ticks", context="paper")
    pd.set_option("display.max_colwidth", None)
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "legend.frameon": False,
            "legend.fontsize": "small",
            "pdf.fonttype": 42,
            "svg.hashsalt": "remi",
        }
    )


def colour(loss: str) -> str:
    """The hue of a loss's family; grey for a loss of one's own."""
    return COLOURS.get(split_name(loss)[0], "#555555")


def panels(
    count: int, columns: int | None = None, height: float = 2.4, **options
) -> tuple[Figure, list[Axes]]:
    """A page-wide row (or grid) of axes."""
    columns = columns or count
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, height * rows), squeeze=False, **options
    )
    return figure, list(axes.flat)


def lines(
    ax: Axes, frame: pd.DataFrame, columns: Mapping[str, str], smooth: int = 0, **options
) -> None:
    """Raw curves of one run over ``step``, faint, with a running median of ``smooth`` steps."""
    for i, (column, label) in enumerate(columns.items()):
        hue = f"C{i}"
        ax.plot(frame["step"], frame[column], color=hue, lw=0.5, alpha=0.35 if smooth else 1)
        if smooth:
            middle = frame[column].rolling(smooth, center=True, min_periods=1).median()
            ax.plot(frame["step"], middle, color=hue, lw=1.4, label=label)
        else:
            ax.lines[-1].set_label(label)
    ax.set(xlabel="step", **options)


def band(
    ax: Axes, frame: pd.DataFrame, column: str, colour: str, label: str, style: str = "-"
) -> None:
    """Median over members at each step with the 10-90% band."""
    quantiles = frame.groupby("step")[column].quantile([0.1, 0.5, 0.9]).unstack()
    ax.fill_between(quantiles.index, quantiles[0.1], quantiles[0.9], color=colour, alpha=0.2, lw=0)
    ax.plot(quantiles.index, quantiles[0.5], color=colour, lw=1.5, ls=style, label=label)


def reference(ax: Axes, value: float, label: str | None = None, **options) -> None:
    """A horizontal line for a known value."""
    ax.axhline(value, **{"color": "black", "lw": 0.9, "ls": ":", **options}, label=label)


def name_of(losses: Sequence[str]) -> list[str]:
    return [title(loss) for loss in losses]


def span(ax: Axes, frame: pd.DataFrame, prefix: str, colour: str, label: str) -> None:
    """``<prefix>_mean`` over step with the range from ``<prefix>_min`` to ``<prefix>_max``."""
    low, high = frame[f"{prefix}_min"], frame[f"{prefix}_max"]
    ax.fill_between(frame["step"], low, high, color=colour, alpha=0.25, lw=0)
    ax.plot(frame["step"], frame[f"{prefix}_mean"], color=colour, lw=1.4, label=label)


def terms_and_outputs(
    terms: pd.DataFrame, probes: pd.DataFrame, truth: float, steps: int
) -> Figure:
    """Figs 3 and 5: a column per name; the terms above, the critic's outputs below."""
    labels = {"joint_term": r"$E_P[T]$", "product_term": "second term", "mi": "MI estimate"}
    names = list(terms["name"].unique())
    figure, axes = panels(4, columns=2, sharex=True)
    for column, name in enumerate(names):
        above, below = axes[column], axes[2 + column]
        run = terms[terms["name"] == name]
        lines(above, run, labels, title=name, ylim=(-45, 45), xlim=(0, steps), ylabel="nats")
        reference(above, truth, "true MI")
        looked = probes[probes["name"] == name]
        span(below, looked, "on", "C0", "on the support of $P$")
        span(below, looked, "off", "C1", "off the support")
        below.set(xlabel="step", ylabel="critic output $T$ (nats)", ylim=(-300, 300))
        below.set_yscale("symlog", linthresh=10)
        for ax in (above, below):
            ax.label_outer()
    axes[1].legend(loc="lower left", ncols=2)
    axes[3].legend(loc="lower left")
    return figure


def summary(quantities: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Per-seed values indexed by (loss, seed) -> losses x quantities, "median [10%, 90%]"."""

    def describe(values: pd.Series) -> str:
        low, middle, high = values.quantile([0.1, 0.5, 0.9])
        return f"{middle:.2f} [{low:.2f}, {high:.2f}]"

    columns = {
        name: values.groupby(level=0, sort=False).agg(describe)
        for name, values in quantities.items()
    }
    named = pd.DataFrame(columns).rename(index=lambda k: title(k) if k in LOSSES else k)
    return named.rename_axis("median [10%, 90%] over seeds")


def table(columns: Mapping[str, pd.DataFrame], index: str) -> pd.DataFrame:
    """Intervals (rows value, low, high; a column per case) -> cases x quantities, formatted."""

    def describe(interval: pd.Series) -> str:
        value, low, high = interval
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"

    return pd.DataFrame({k: v.apply(describe) for k, v in columns.items()}).rename_axis(index)


def member_names(frame: pd.DataFrame) -> pd.Series:
    """The printed name of each row's member: "ReNWJ", "ReNWJ, official", "NWJ, clipped"."""
    names = frame["loss"].map(title)
    clipped = frame["loss"].map(lambda loss: make_loss(loss).tau is not None)
    for column, value, suffix in (
        ("variant", "official", "official"),
        ("clip", "product", "product term clipped"),
        ("tau", np.inf, "no clip"),
    ):
        if column in frame:
            names = names.where(frame[column] != value, names + f", {suffix}")
    if "tau" in frame:
        extra = np.isfinite(frame["tau"].astype(float)) & ~clipped
        names = names.where(~extra, names + ", clipped")
    return names


def survival(ax: Axes, diverged: pd.DataFrame, steps: int) -> None:
    """Share of members that are no longer finite, over steps; a line per name."""
    for name, runs in diverged.groupby("name", sort=False):
        at = runs["step"].dropna().sort_values().to_numpy()
        x = [0, *at.repeat(2), steps]
        y = [i / len(runs) for i in range(len(at) + 1) for _ in (0, 1)]
        regularized = split_name(runs["loss"].iloc[0])[1]
        style = ":" if "," in str(name) else "--" if regularized else "-"
        ax.plot(x, y, color=colour(runs["loss"].iloc[0]), ls=style, label=name)
    ax.set(xlabel="step", ylabel="share of seeds diverged", ylim=(-0.04, 1.04))
    ax.legend(fontsize="x-small")


def by_batch_size(shares: Axes, scatter: Axes, frame: pd.DataFrame) -> None:
    """Divergence and (15/16)^B on one axis, the scatter of the estimate on the other."""
    for loss, runs in frame.groupby("loss", sort=False):
        style = "--" if split_name(str(loss))[1] else "-"
        options: dict[str, Any] = {"color": colour(str(loss)), "ls": style, "marker": "o", "ms": 3}
        grouped = runs.groupby("batch")
        shares.plot(grouped["diverged"].mean(), label=title(str(loss)), **options)
        scatter.plot(grouped["sd"].median(), label=title(str(loss)), **options)
    rare = frame.groupby("batch")["no_joint_pair"].first()
    shares.plot(rare, color="black", lw=1, ls=":", label=r"$(15/16)^B$")
    shares.set(xlabel="batch size $B$", ylabel="share diverged", ylim=(-0.04, 1.04))
    scatter.set(xlabel="batch size $B$", ylabel="SD of the estimate (nats)", yscale="log")
    shares.legend(fontsize="x-small")


def shares(columns: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """Fractions of seeds with their intervals, formatted: names x quantities."""

    def describe(share: Estimate) -> str:
        return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"

    return pd.DataFrame({k: {n: describe(s) for n, s in v.items()} for k, v in columns.items()})


def training_curves(epochs: pd.DataFrame, truth: float, names: Sequence[str]) -> Figure:
    """MI of the training batches over epochs, a panel per family; median and range over seeds.

    A run that is not finite has no curve; a panel says so where no run of a loss has one.
    """
    figure, axes = panels(len(names), columns=3, height=2.0, sharex=True, sharey=True)
    for ax, family in zip(axes, names, strict=True):
        for loss, style in ((family, "-"), ("re" + family, "--")):
            grouped = epochs[epochs["loss"] == loss].groupby("epoch")["mi"]
            low, high = grouped.min(), grouped.max()
            ax.fill_between(low.index, low, high, color=colour(loss), alpha=0.2, lw=0)
            ax.plot(grouped.median(), style, color=colour(loss), lw=1.5)
            if not np.isfinite(grouped.median()).any():
                ax.text(0.97, 0.1, f"{title(loss)} diverged", transform=ax.transAxes, ha="right")
        reference(ax, truth)
        ax.set(ylim=(-0.2, 1.15 * truth), xlabel="epoch", ylabel="MI (nats)", title=title(family))
        ax.label_outer()
    _twin_legend(figure)
    return figure


def fig9(batches: pd.DataFrame, losses: Sequence[str], smooth: int) -> Figure:
    """Fig 9: the two terms of each loss and their difference over steps, SLB above, CLB below.

    CLB's axis is logarithmic beyond 1 nat, since untrained scores are in the hundreds.  A panel
    says so where a run is not finite.
    """
    labels = {"joint_term": r"$E_P[T]$", "product_term": "second term", "mi": "MI estimate"}
    benchmarks = list(batches["benchmark"].unique())
    figure, axes = panels(
        len(benchmarks) * len(losses), columns=len(losses), sharex=True, sharey="row"
    )
    for row, benchmark in enumerate(benchmarks):
        for column, loss in enumerate(losses):
            ax = axes[row * len(losses) + column]
            run = batches[(batches["benchmark"] == benchmark) & (batches["loss"] == loss)]
            run = run.assign(**run[list(labels)].where(np.isfinite(run[list(labels)])))
            lines(ax, run, labels, smooth=smooth, ylabel="nats")
            ax.set_title(f"{title(loss)}, {benchmark.upper()}")
            if benchmark == "clb":
                ax.set_yscale("symlog", linthresh=1)
            _say_if_lost(ax, run)
            reference(ax, 0, lw=0.6)
            ax.label_outer()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _say_if_lost(ax: Axes, run: pd.DataFrame) -> None:
    """The step from which a run has no finite MI, if there is one."""
    finite = run.loc[np.isfinite(run["mi"]), "step"]
    end = finite.max() + 1 if len(finite) else 0
    if end <= run["step"].max():
        where: dict[str, Any] = {"transform": ax.transAxes, "ha": "center"}
        ax.text(0.5, 0.6, f"diverged at step {end:.0f}", color="0.3", fontsize="small", **where)


def fig9_seeds(curves: pd.DataFrame, truth: float, names: Mapping[str, str]) -> Figure:
    """log E_Q[e^T] of MINE and ReMINE (left) and every loss's MI (right); a row per benchmark.

    Lines are medians over seeds, bands their whole range.
    """
    benchmarks = list(curves["benchmark"].unique())
    figure, axes = panels(2 * len(benchmarks), columns=2, height=2.5, sharex=True)
    lost = curves.groupby(["benchmark", "loss"])["mi"].apply(lambda x: not np.isfinite(x).any())
    for row, benchmark in enumerate(benchmarks):
        left, right = axes[2 * row : 2 * row + 2]
        own = curves[curves["benchmark"] == benchmark]
        for loss, label in names.items():
            runs = own[own["loss"] == loss]
            if loss in ("mine", "remine"):
                _range(left, runs, "log_partition", loss, label)
            _range(right, runs, "mi", loss, label)
        left.set(ylabel=r"$\log E_Q[e^T]$ (nats)", title=f"{benchmark.upper()}: drift")
        right.set(ylabel="MI (nats)", title=f"{benchmark.upper()}: estimate")
        right.set_ylim(min(-1.0, -0.1 * truth), 1.1 * truth)
        gone = [label for loss, label in names.items() if lost[benchmark, loss]]
        if gone:
            where: dict[str, Any] = {"transform": right.transAxes, "color": "0.3"}
            right.text(0.03, 0.6, f"diverged: {', '.join(gone)}", **where)
        reference(left, 0)
        reference(right, truth)
        left.legend()
    for ax in axes[-2:]:
        ax.set_xlabel("step")
    handles, shown = axes[1].get_legend_handles_labels()
    handles.append(mpl.lines.Line2D([], [], color="black", lw=0.9, ls=":"))
    figure.legend(handles, [*shown, "H(Y)"], loc="outside lower center", ncols=len(shown) + 1)
    return figure


def _range(ax: Axes, frame: pd.DataFrame, column: str, loss: str, label: str) -> None:
    """Median over seeds with the range, dashed for a regularised loss; nothing if not finite."""
    grouped = frame.groupby("step")[column]
    low, middle, high = grouped.min(), grouped.median(), grouped.max()
    style = "--" if split_name(loss)[1] else "-"
    ax.fill_between(low.index, low, high, color=colour(loss), alpha=0.2, lw=0)
    ax.plot(middle.where(np.isfinite(middle)), style, color=colour(loss), lw=1.5, label=label)


def gallery(rows: Mapping[str, Sequence[np.ndarray]], names: Sequence[str]) -> Figure:
    """Rows of pictures (H, W, 3), each row labelled, each column named."""
    columns = len(names)
    figure, axes = panels(len(rows) * columns, columns=columns, height=WIDTH / columns)
    for i, (label, pictures) in enumerate(rows.items()):
        for j, picture in enumerate(pictures):
            ax = axes[i * columns + j]
            ax.imshow(picture, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            sns.despine(ax=ax, left=True, bottom=True)
            if j == 0:
                ax.set_ylabel(label, fontsize="small")
            if i == 0:
                ax.set_title(names[j], fontsize="x-small", fontweight="normal")
    return figure


def _twin_legend(figure: Figure) -> None:
    """Below the panels: solid is the original, dashed the regularised, dotted the truth."""
    kinds = (("original", "-"), ("regularised", "--"), ("true MI", ":"))
    handles = [mpl.lines.Line2D([], [], color="0.2", ls=ls, label=label) for label, ls in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def table2_dots(table: pd.DataFrame, truth: float, standing_for: str) -> Figure:
    """Table 2 as a picture: MI and accuracy per family, original open, regularised filled.

    Bars are 95% intervals over seeds, ticks the optimum of the loss, grey diamonds the paper's
    numbers on its own data set.
    """
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
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
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


def reference_x(ax: Axes, value: float, label: str | None = None) -> None:
    """A vertical line for a known value."""
    ax.axvline(value, color="black", lw=0.9, ls=":", label=label)


def staircase(
    terms: pd.DataFrame, truth: pd.Series, caps: Mapping[str, pd.Series], log_batch: float
) -> Figure:
    """Fig 7: a panel per family; raw estimate faint, moving average bold, true MI in black.

    ``caps``: what a clipped loss can read at most, by family, indexed by step.
    """
    figure, axes = panels(len(FAMILIES), columns=3, height=2.2, sharex=True, sharey=True)
    top = truth.max()
    for ax, family in zip(axes, FAMILIES, strict=True):
        for loss, hue in ((family, "0.45"), ("re" + family, colour(family))):
            run = terms[terms["loss"] == loss]
            ax.plot(run["step"], run["mi"], color=hue, lw=0.4, alpha=0.3)
            ax.plot(run["step"], run["ema"], color=hue, lw=1.5, label=title(loss))
        ax.step(truth.index, truth, color="black", lw=1)
        if family == "infonce":
            reference(ax, log_batch, "log K")
        if family in caps:
            label = f"cap of clipped {title('re' + family)}"
            ax.step(
                caps[family].index, caps[family], color=colour(family), lw=1, ls=":", label=label
            )
        ax.set(
            ylim=(-0.25 * top, 1.5 * top), title=title(family), xlabel="step", ylabel="MI (nats)"
        )
        ax.legend(loc="upper left", fontsize="x-small")
        ax.label_outer()
    return figure


def level_errors(table: pd.DataFrame, quantity: str = "rmse") -> Figure:
    """An error against the true MI, a panel per family: original, regularised, and their oracles.

    Mean over seeds with its range; ``kind`` is "learned" or "oracle".
    """
    figure, axes = panels(len(FAMILIES), columns=3, height=2.0, sharex=True, sharey=True)
    for ax, family in zip(axes, FAMILIES, strict=True):
        for loss, ls in ((family, "-"), ("re" + family, "--")):
            for kind, hue in (("learned", colour(family)), ("oracle", "0.5")):
                own = table[(table["loss"] == loss) & (table["kind"] == kind)]
                grouped = own.groupby("true_mi")[quantity]
                low, high = grouped.min(), grouped.max()
                ax.fill_between(low.index, low, high, color=hue, alpha=0.15, lw=0)
                ax.plot(grouped.mean(), ls, color=hue, marker="o", ms=3)
        ax.set(title=title(family), xlabel="true MI (nats)", ylabel=f"{quantity.upper()} (nats)")
        ax.set_yscale("log")
        ax.label_outer()
    kinds = (("original", "0.2", "-"), ("regularised", "0.2", "--"), ("exact critic", "0.6", "-"))
    handles = [mpl.lines.Line2D([], [], color=c, ls=ls, label=name) for name, c, ls in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def trade_off(table: pd.DataFrame, truth: Mapping[str, float]) -> Figure:
    """Fig 6: MI against accuracy, a panel per data set, a line per loss through its lambdas."""
    names = list(table["dataset"].unique())
    figure, axes = panels(len(names), height=3.2)
    for ax, name in zip(axes, names, strict=True):
        own = table[table["dataset"] == name]
        sizes = dict(zip(sorted(own["weight"].unique()), (15, 35, 65, 105, 150), strict=False))
        for loss, line in own.groupby("loss", sort=False):
            hue = colour(str(loss))
            line = line.sort_values("weight")
            ax.plot(line["mi"], line["accuracy"], color=hue, lw=1, alpha=0.7)
            bars: dict[str, Any] = {"color": hue, "lw": 0.7, "alpha": 0.5}
            ax.hlines(line["accuracy"], line["mi_low"], line["mi_high"], **bars)
            ax.vlines(line["mi"], line["accuracy_low"], line["accuracy_high"], **bars)
            area = line["weight"].map(sizes)
            ax.scatter(line["mi"], line["accuracy"], area, color=hue, label=title(str(loss)))
        reference_x(ax, truth[name])
        ax.text(truth[name], ax.get_ylim()[0], " H(Y)", va="bottom", fontsize="small")
        ax.set(xlabel="MI of the training batches (nats)", ylabel="test accuracy", title=name)
    handles, labels = axes[0].get_legend_handles_labels()
    for weight, size in sizes.items():
        handles.append(axes[0].scatter([], [], size, color="0.5"))
        labels.append(f"λ = {weight:g}")
    figure.legend(handles, labels, loc="outside right center")
    return figure


def galleries(sets: Mapping[str, Tensor], count: int, peak: int) -> Figure:
    """The first images of each set, a row per set."""
    figure, axes = plt.subplots(len(sets), 1, figsize=(WIDTH, 0.7 * len(sets)), squeeze=False)
    for ax, (name, images) in zip(axes.flat, sets.items(), strict=True):
        row = images[:count].permute(2, 0, 3, 1).flatten(1, 2).numpy() / peak
        ax.imshow(row.squeeze(-1) if row.shape[-1] == 1 else row, cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[])
        ax.set_yticks([row.shape[0] / 2], [name])
        ax.tick_params(length=0)
        sns.despine(ax=ax, left=True, bottom=True)
    return figure


def ratio_histograms(pairs: pd.DataFrame, ideal: float) -> Figure:
    """Fig 8: e^T of true, false and foreign pairs, a panel per image set; K dotted."""
    names = list(pairs["set"].unique())
    figure, axes = panels(len(names), columns=3, height=2.1, sharex=True, sharey=True)
    bins = np.geomspace(0.01, 1000, 41).tolist()
    for ax, name in zip(axes, names, strict=False):
        own = pairs[pairs["set"] == name]
        for kind, hue in (("false", "0.6"), ("true", "#0072B2"), ("any", "#D55E00")):
            values = own.loc[own["pair"] == kind, "ratio"].clip(bins[0], bins[-1])
            if len(values):
                label = {"any": "foreign image"}.get(kind, f"{kind} label")
                weights = np.full(len(values), 1 / len(own))
                ax.hist(values, bins, weights=weights, color=hue, alpha=0.7, label=label)
        reference_x(ax, ideal)
        ax.set(xscale="log", yscale="log", title=name)
        ax.legend(loc="upper right", fontsize="x-small")
    for ax in axes[len(names) :]:
        ax.remove()
    for i, ax in enumerate(axes[: len(names)]):
        ax.set_ylabel("share of pairs" if i % 3 == 0 else "")
        last = i + 3 >= len(names)  # of its column
        ax.set_xlabel("$e^T$ (ends: all beyond)" if last else "")
        ax.tick_params(labelbottom=last)
    return figure


def scoreboard(counts: pd.DataFrame, hues: Mapping[str, str]) -> Figure:
    """Verdicts as stacked bars, a row per line of the counts, with their numbers."""
    figure, (ax,) = panels(1, height=0.3 * len(counts) + 0.9)
    left = np.zeros(len(counts))
    for verdict, hue in hues.items():
        width = counts[verdict].to_numpy()
        bars = ax.barh(counts.index, width, left=left, color=hue, label=verdict, height=0.7)
        texts = [str(n) if n else "" for n in width]
        ax.bar_label(bars, texts, label_type="center", color="white", fontsize="x-small")
        left += width
    ax.invert_yaxis()
    ax.set(xlabel="claims that were run")
    ax.legend(loc="lower right")
    return figure


def stops(table: pd.DataFrame, entropies: Mapping[str, float]) -> Figure:
    """Published MI (diamonds) beside the optimum of each loss (ticks), a panel per data set.

    ``table`` has columns ``dataset, loss, paper, predicted`` (nats); dotted: H(Y).
    """
    figure, axes = panels(len(entropies), height=2.4, sharey=True)
    for ax, (name, truth) in zip(axes, entropies.items(), strict=True):
        block = table[table["dataset"] == name].reset_index(drop=True)
        for i, row in block.iterrows():
            ax.plot([row["predicted"], row["paper"]], [i, i], color="0.75", lw=1, zorder=1)
        ax.scatter(
            block["predicted"], block.index, marker="|", s=140, color="black", label="optimum"
        )
        hues = [colour(loss) for loss in block["loss"]]
        ax.scatter(block["paper"], block.index, marker="D", s=30, color=hues, label="published")
        reference_x(ax, truth, "H(Y)")
        ax.set(xlabel="MI (nats)", title=DATASETS[name], ylim=(len(block) - 0.5, -0.5))
        ax.set_yticks(block.index, name_of(block["loss"]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
