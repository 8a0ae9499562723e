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

from remi_lib.intervals import Estimate
from remi_lib.losses import FAMILIES, make_loss, split_name, title
from remi_lib.replication.claims import DATASETS

# One hue per family, colour-blind safe; the regularised twin shares it.
COLOURS: Mapping[str, str] = dict(
    zip(FAMILIES, ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"), strict=True)
)
WIDTH = 7.2  # inches, the width of a page
# Names of stored columns and of cases, as tables and pictures print them; losses have titles.
WORDS: Mapping[str, str] = {
    **DATASETS,
    "slb": "SLB",
    "clb": "CLB",
    "dataset": "data",
    "name": "loss",
    "I_alpha": r"$I_\alpha$",
    "weight": "λ",
    "mi": "MI (nats)",
    "true_mi": "true MI (nats)",
    "bias": "bias (nats)",
    "sd": "SD (nats)",
    "rmse": "RMSE (nats)",
}


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
    """``count`` axes in a page-wide row, or in a grid of at most ``columns`` columns."""
    columns = min(columns or count, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, height * rows), squeeze=False, **options
    )
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def outer_labels(axes: Sequence[Axes], columns: int) -> None:
    """Keep the labels at the left and below the lowest panel of each column, full row or not."""
    for i, ax in enumerate(axes):
        label = ax.get_xlabel()
        ax.label_outer()
        if i + columns >= len(axes):
            ax.set_xlabel(label)
            ax.tick_params(labelbottom=True)


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
    ax: Axes,
    frame: pd.DataFrame,
    column: str,
    colour: str,
    label: str,
    style: str = "-",
    *,
    x: str = "step",
    percent: float = 80,
    estimator: str = "median",
    **options: Any,
) -> None:
    """Median (or mean) over runs at each ``x`` with the middle ``percent`` (100: the range).

    Where a run has no finite number the curve would be one of the others: nothing is drawn.
    """
    whole = np.isfinite(frame[column].astype(float)).groupby(frame[x]).transform("all")
    looks: dict[str, Any] = {"color": colour, "ls": style, "lw": 1.5, **options, "label": label}
    if not whole.any():
        ax.plot([], [], **looks)  # the legend names it all the same
        return
    middle: dict[str, Any] = {"estimator": estimator, "errorbar": ("pi", percent)}
    middle["err_kws"] = {"alpha": 0.2, "lw": 0}
    sns.lineplot(frame[whole], x=x, y=column, ax=ax, legend=False, **middle, **looks)


def reference(ax: Axes, value: float, label: str | None = None, **options) -> None:
    """A horizontal line for a known value."""
    ax.axhline(value, **{"color": "black", "lw": 0.9, "ls": ":", **options}, label=label)


def name_of(losses: Sequence[str]) -> list[str]:
    return [title(loss) for loss in losses]


def word(label: Any, words: Mapping[str, str] = WORDS) -> Any:
    """A label as it is printed, by the part between commas: "SLB JS, cifar10" has "CIFAR-10"."""
    if not isinstance(label, str):
        return label
    if label in words:
        return words[label]
    if ", " in label:
        return ", ".join(word(part, words) for part in label.split(", "))
    try:
        known = title(label)
    except ValueError:  # no loss: a word already
        return label
    return words.get(known, known)


def printed(frame: pd.DataFrame, words: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A table for display: :func:`word` of the labels of rows and columns, and of their headings.

    ``words``: a table's own, before :data:`WORDS`.  What is published keeps its names.
    """
    known = {**WORDS, **(words or {})}

    def of(label: Any) -> Any:
        return word(label, known)

    return frame.rename(index=of, columns=of).rename_axis(index=of, columns=of)


def span(ax: Axes, frame: pd.DataFrame, prefix: str, colour: str, label: str) -> None:
    """``<prefix>_mean`` over step with the range from ``<prefix>_min`` to ``<prefix>_max``."""
    low, high = frame[f"{prefix}_min"], frame[f"{prefix}_max"]
    ax.fill_between(frame["step"], low, high, color=colour, alpha=0.25, lw=0)
    ax.plot(frame["step"], frame[f"{prefix}_mean"], color=colour, lw=1.4, label=label)


def summary(quantities: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Per-seed values indexed by (loss, seed) -> losses x quantities, "median [10%, 90%]".

    Of fewer than ten seeds the lowest and the highest.
    """
    few = max(values.index.droplevel(0).nunique() for values in quantities.values()) < 10

    def describe(values: pd.Series) -> str:
        low, middle, high = values.quantile([0.0, 0.5, 1.0] if few else [0.1, 0.5, 0.9])
        return f"{middle:.2f} [{low:.2f}, {high:.2f}]"

    columns = {
        name: values.groupby(level=0, sort=False).agg(describe)
        for name, values in quantities.items()
    }
    ends = "[lowest, highest]" if few else "[10%, 90%]"
    return printed(pd.DataFrame(columns)).rename_axis(f"median {ends} over seeds")


def table(columns: Mapping[str, pd.DataFrame], index: str) -> pd.DataFrame:
    """Intervals (rows value, low, high; a column per case) -> cases x quantities, formatted."""
    text = "{:.3f} [{:.3f}, {:.3f}]".format
    shown = {name: intervals.apply(lambda x: text(*x)) for name, intervals in columns.items()}
    return pd.DataFrame(shown).rename_axis(index)


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


def shares(columns: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """Fractions of seeds with their intervals, formatted: names x quantities."""
    text = "{:.0%} [{:.0%}, {:.0%}]".format
    return pd.DataFrame({k: {n: text(*s) for n, s in v.items()} for k, v in columns.items()})


def original_and_regularised(figure: Figure) -> None:
    """Below the panels: solid is the original, dashed the regularised, dotted the truth."""
    kinds = (("original", "-"), ("regularised", "--"), ("true MI", ":"))
    handles = [mpl.lines.Line2D([], [], color="0.2", ls=ls, label=label) for label, ls in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)


def reference_x(ax: Axes, value: float, label: str | None = None, **options: Any) -> None:
    """A vertical line for a known value."""
    ax.axvline(value, **{"color": "black", "lw": 0.9, "ls": ":", **options}, label=label)
