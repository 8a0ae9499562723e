"""Figures of notebook 02: divergence of the original losses, and of the regularised ones."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi_lib.experiments.plots import colour, lines, panels, reference, span
from remi_lib.losses import split_name, title


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
        above.lines[0].set_zorder(3)  # the calmest curve, which the others would hide
        reference(above, truth, "true MI")
        looked = probes[probes["name"] == name]
        span(below, looked, "on", "C0", "on the support of $P$")
        span(below, looked, "off", "C1", "off the support")
        below.set(xlabel="step", ylabel="critic output $T$ (nats)", ylim=(-300, 300))
        below.set_yscale("symlog", linthresh=10)
        for ax in (above, below):
            ax.label_outer()
    axes[1].legend(loc="lower right")
    axes[3].legend(loc="lower right")
    return figure


def survival(ax: Axes, diverged: pd.DataFrame, steps: int) -> None:
    """Share of members that are no longer finite, over steps; a line per name."""
    for name, runs in diverged.groupby("name", sort=False):
        at = runs["step"].dropna().sort_values().to_numpy()
        x = [0, *at.repeat(2), steps]
        y = [i / len(runs) for i in range(len(at) + 1) for _ in (0, 1)]
        regularized = split_name(runs["loss"].iloc[0])[1]
        style = ":" if "," in str(name) else "--" if regularized else "-"
        style = "-." if "official" in str(name) else style
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
