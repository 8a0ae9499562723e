"""Tidy table -> figure.  Nothing here trains or computes a statistic that a claim rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi_lib.losses import FAMILIES, split_name, title

# One hue per family, colour-blind safe; the regularised twin shares it.
COLOURS: Mapping[str, str] = dict(
    zip(FAMILIES, ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"), strict=True)
)
WIDTH = 7.2  # inches, the width of a page


def use_style() -> None:
    """The look of every figure; call once per notebook."""
    sns.set_theme(style="ticks", context="paper")
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
    return COLOURS[split_name(loss)[0]]


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
