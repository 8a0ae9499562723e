"""Figures of the one-hot controls, and the table of the drift's causes."""

from __future__ import annotations

import math

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from remi_lib.experiments.plots import colour, panels, reference
from remi_lib.intervals import median_interval
from remi_lib.losses import title

FLOOR = -0.5  # nats, where a lost run is drawn
MEASURES = {
    "none": "both sampled",
    "joint": "P exact, Q sampled",
    "product": "Q exact, P sampled",
    "both": "both exact",
}


def draw_grid(rows: pd.DataFrame) -> Figure:
    """Exact MI of the last critic (median, 10-90%), share of lost runs; a column per rate."""
    grid_rows = rows[rows["study"] == "grid"].copy()
    clipped = grid_rows["clipped"].astype(bool)
    grid_rows["loss clipped"] = grid_rows["loss"].map(title) + clipped.map(
        {True: ", gradient clipped", False: ""}
    )
    grid_rows["batch size"] = grid_rows["batch"].astype(int).astype(str).replace("0", "exact")
    lost = grid_rows["diverged_step"].notna()
    grid_rows["reads"] = grid_rows["exact_mi"].mask(lost, FLOOR).clip(lower=FLOOR)
    grid_rows["lost"] = lost.astype(float)
    names = list(grid_rows["loss clipped"].unique())
    losses = grid_rows.groupby("loss clipped")["loss"].first()
    palette = {n: colour(losses[n]) for n in names}
    styles = {n: "--" if "Re" in n else ":" if "clipped" in n or "EMA" in n else "-" for n in names}
    order = [*map(str, sorted(set(grid_rows["batch"].astype(int)) - {0})), "exact"]
    lrs = sorted(grid_rows["lr"].unique(), reverse=True)
    figure, axes = panels(2 * len(lrs), columns=len(lrs), height=2.6, sharex=True, sharey="row")
    for ax, (lr, what) in zip(axes, [(x, y) for y in ("reads", "lost") for x in lrs], strict=True):
        sns.pointplot(
            grid_rows[grid_rows["lr"] == lr],
            x="batch size",
            y=what,
            hue="loss clipped",
            order=order,
            hue_order=names,
            palette=palette,
            linestyles=[styles[n] for n in names],
            estimator="median" if what == "reads" else "mean",
            errorbar=("pi", 80) if what == "reads" else None,
            dodge=0.5,
            markersize=3,
            linewidth=1,
            legend=False,
            ax=ax,
        )
    for ax, lr in zip(axes, lrs, strict=False):
        reference(ax, math.log(16))
        ax.set(title=f"learning rate {lr:g}", ylabel="exact MI (nats)")
    ticks = [FLOOR, *range(3)]
    axes[0].set_yticks(ticks, [f"lost, or\n≤ {FLOOR:g}", *map(str, ticks[1:])])  # of all three
    for ax in axes[len(lrs) :]:
        ax.set(ylim=(-0.05, 1.05), ylabel="share of seeds lost", xlabel="batch")
    handles = [
        mpl.lines.Line2D([], [], color=palette[n], ls=styles[n], marker="o", ms=3, label=n)
        for n in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize="x-small")
    return figure


def drift_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Drift of MINE's exact terms over seeds, by what is sampled and by batch: median, interval."""
    found = []
    for (exact, batch), own in rows[rows["study"] == "drift"].groupby(["exact", "batch"]):
        for quantity in ("log_partition_drift", "on_mean_drift", "exact_mi_drift"):
            value, low, high = median_interval(own[quantity])[:3]
            found.append([MEASURES[str(exact)], batch, quantity, len(own), value, low, high])
    columns = ["sampling", "batch", "quantity", "seeds", "median", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def draw_drift(rows: pd.DataFrame) -> Figure:
    """Drift of MINE's exact log E_Q[e^T] by batch, for each choice of what is sampled."""
    own = rows[rows["study"] == "drift"].copy()
    exact = own.loc[own["exact"] == "both", "log_partition_drift"]
    sampled = own[own["exact"] != "both"].assign(sampling=own["exact"].map(MEASURES))
    sampled["batch size"] = sampled["batch"].astype(int)
    figure, (ax,) = panels(1, height=2.8)
    sns.pointplot(
        sampled,
        x="batch size",
        y="log_partition_drift",
        hue="sampling",
        estimator="median",
        errorbar=("pi", 80),
        dodge=0.3,
        linestyle="none",
        markersize=5,
        ax=ax,
    )
    if len(exact):
        ax.axhspan(*exact.quantile([0.1, 0.9]), color="0.6", alpha=0.3, lw=0)
        reference(ax, exact.median(), MEASURES["both"], color="0.3", ls="-")
    reference(ax, 0.0)
    ax.set(xlabel="batch", ylabel="drift of $\\log E_Q[e^T]$ (nats)")
    ax.legend(title=None)
    return figure
