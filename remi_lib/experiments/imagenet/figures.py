"""Figures of notebook 08: pictures of the files, and the course of the trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi_lib.experiments.plots import WIDTH, band, colour, lines, panels, reference
from remi_lib.losses import split_name, title


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


def fig9(batches: pd.DataFrame, losses: Sequence[str], smooth: int) -> Figure:
    """Fig 9: the two terms of each loss and their difference over steps, SLB above, CLB below.

    CLB's axis is logarithmic beyond 1 nat: untrained scores are in the hundreds.
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
    """The step from which a run has no finite MI, if there is one.

    A run of means over many steps says it itself, in ``diverged_step``.
    """
    finite = run.loc[np.isfinite(run["mi"]), "step"]
    end = finite.max() + 1 if len(finite) else 0
    if "diverged_step" in run:
        end = run["diverged_step"].min()
    if end <= run["step"].max():
        where: dict[str, Any] = {"transform": ax.transAxes, "ha": "center"}
        ax.text(0.5, 0.6, f"diverged at step {end:.0f}", color="0.3", fontsize="small", **where)


def fig9_seeds(curves: pd.DataFrame, truth: float, names: Mapping[str, str]) -> Figure:
    """log E_Q[e^T] of MINE and ReMINE (left), every MI (right); medians and ranges of seeds."""
    benchmarks = list(curves["benchmark"].unique())
    figure, axes = panels(2 * len(benchmarks), columns=2, height=2.5, sharex=True)
    lost = curves.groupby(["benchmark", "loss"])["mi"].apply(lambda x: not np.isfinite(x).any())
    for row, benchmark in enumerate(benchmarks):
        left, right = axes[2 * row : 2 * row + 2]
        own = curves[curves["benchmark"] == benchmark]
        for loss, label in names.items():
            runs = own[own["loss"] == loss]
            style = "--" if split_name(loss)[1] else "-"
            if loss in ("mine", "remine"):
                band(left, runs, "log_partition", colour(loss), label, style, percent=100)
            band(right, runs, "mi", colour(loss), label, style, percent=100)
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
