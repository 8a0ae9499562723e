"""Fig 6 and what it leaves open: lambda, clipping against penalty, the scale of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from remi_lib.experiments.image_results import best_weight, failed, mi_error, runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.plots import colour, panels, printed, reference_x, word
from remi_lib.experiments.published import FAILING
from remi_lib.images import load_images
from remi_lib.intervals import Estimate, interval
from remi_lib.losses import FAMILIES, split_name, title

TWINS = tuple("re" + family for family in FAMILIES)


def lambda_runs(weights: Sequence[float], **options) -> list[Run]:
    """Runs of the six regularised losses at every lambda; options of ``runs_of``."""
    return [run for weight in weights for run in runs_of(TWINS, weight=weight, **options)]


def two_by_two(weight: float, tau: float, **options) -> dict[str, list[Run]]:
    """Clip x penalty for the failing families, by cell; SMILE without clipping is MINE."""
    clipped = runs_of(["smile"], **options) + runs_of(["nwj", "tuba"], tau=tau, **options)
    free = runs_of(["remine"], weight=weight, **options)
    free += runs_of(["renwj", "retuba"], weight=weight, tau=np.inf, **options)
    return {
        "neither": runs_of(["mine", "nwj", "tuba"], **options),
        "clip": clipped,
        "penalty": free,
        "both": runs_of(["resmile", "renwj", "retuba"], weight=weight, **options),
    }


def scale_runs(settings: Mapping[str, Mapping], weight: float, **options) -> dict[str, list[Run]]:
    """Original and regularised runs of the failing families under each setting of the scores."""
    names = [name for loss in FAILING for name in (loss, "re" + loss)]
    return {
        key: runs_of(names, weight=weight, **{**options, **setting})
        for key, setting in settings.items()
    }


def family_of(runs: pd.DataFrame) -> pd.Series:
    """The family a 2 x 2 cell belongs to: SMILE's cells without clipping are MINE and ReMINE."""
    return runs["loss"].map(lambda name: split_name(name)[0]).replace("mine", "smile")


def outcomes(cells: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row per setting and loss: share of seeds that failed, and means over those that trained."""
    rows = []
    for setting, runs in cells.items():
        for loss, own in runs.groupby("loss", sort=False):
            gone = failed(own)
            reached = [own.loc[~gone, name].mean() for name in ("mi", "accuracy")]
            rows.append([setting, loss, gone.mean(), *reached, len(own)])
    columns = ["setting", "loss", "failed", "mi", "accuracy", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def outcome_grid(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`outcomes` for display: settings x losses, "1.63 (0.97)" or "fails 5/5"."""

    def text(row: pd.Series) -> str:
        if row["failed"] == 1:
            return f"fails {row['seeds']}/{row['seeds']}"
        lost = round(row["failed"] * row["seeds"])
        mi = f"{row['mi']:.2f}" if abs(row["mi"]) < 1000 else f"{row['mi']:.0e}"
        rest = f"{mi} ({row['accuracy']:.2f})"
        return rest + (f", fails {lost}/{row['seeds']}" if lost else "")

    shown = table.assign(text=table.apply(text, axis=1), name=table["loss"].map(title))
    order = list(dict.fromkeys(shown["name"]))
    grid = shown.pivot(index="setting", columns="name", values="text")
    grid = grid.loc[list(dict.fromkeys(shown["setting"])), order].fillna("")
    return printed(grid.rename_axis(""))


def lambda_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Fig 6's data: mean MI and accuracy with intervals, a row per loss and lambda.

    Without intervals where there are two seeds: theirs would be wider than the figure.
    """
    rows = []
    for (name, loss, weight), own in runs.groupby(["dataset", "loss", "weight"], sort=False):
        mi, accuracy = (
            interval(x) if len(x) > 2 else Estimate(x.mean(), np.nan, np.nan, "mean", 0.0, len(x))
            for x in (own["mi"], own["accuracy"])
        )
        rows.append(
            {
                "dataset": name,
                "loss": loss,
                "weight": weight,
                **{f"mi_{k}": v for k, v in mi._asdict().items()},
                **{f"accuracy_{k}": v for k, v in accuracy._asdict().items()},
                "test_mi": own["test_mi"].mean(),
            }
        )
    return pd.DataFrame(rows).rename(columns={"mi_value": "mi", "accuracy_value": "accuracy"})


def choices(runs: pd.DataFrame) -> pd.DataFrame:
    """Lambda by hindsight (training MI nearest H(Y), as the paper) and by held-out MI."""
    means = runs.groupby(["dataset", "loss", "weight"], sort=False)[["mi", "accuracy"]].mean()
    found = []
    for merit, names in (
        (-mi_error(runs), ["hindsight", "its MI", "its accuracy"]),
        (runs["test_mi"], ["held-out choice", "MI there", "accuracy there"]),
    ):
        chosen = best_weight(runs, merit).droplevel("benchmark").rename("weight")
        reached = chosen.to_frame().join(means, on=list(means.index.names))
        found.append(reached.set_axis(names, axis=1))
    return printed(pd.concat(found, axis=1))


def entropies(names: Sequence[str]) -> dict[str, float]:
    """H(Y) of each data set, nats."""
    return {name: load_images(name).entropy for name in names}


def trade_off(table: pd.DataFrame, truth: Mapping[str, float]) -> Figure:
    """Fig 6: MI against accuracy, a panel per data set, a line per loss through its lambdas."""
    names = list(table["dataset"].unique())
    sizes = {w: 15 * (k + 1) ** 1.4 for k, w in enumerate(sorted(table["weight"].unique()))}
    figure, axes = panels(len(names), height=3.2)
    for ax, name in zip(axes, names, strict=True):
        own = table[table["dataset"] == name]
        for loss, line in own.groupby("loss", sort=False):
            hue = colour(str(loss))
            line = line.sort_values("weight")
            ax.plot(line["mi"], line["accuracy"], color=hue, lw=1, alpha=0.7)
            bars: dict[str, Any] = {"color": hue, "lw": 0.7, "alpha": 0.5}
            ax.hlines(line["accuracy"], line["mi_low"], line["mi_high"], **bars)
            ax.vlines(line["mi"], line["accuracy_low"], line["accuracy_high"], **bars)
            area = line["weight"].map(sizes)
            marks: dict[str, Any] = {"facecolors": "none", "edgecolors": hue}
            ax.scatter(line["mi"], line["accuracy"], area, label=title(str(loss)), **marks)
        if own["mi_high"].max() > truth[name] / 2:
            reference_x(ax, truth[name])
            ax.text(truth[name], ax.get_ylim()[0], " H(Y)", va="bottom", fontsize="small")
        else:  # far away: the points would share a corner
            ax.text(0.99, 0.02, f"H(Y) = {truth[name]:.2f} →", ha="right", transform=ax.transAxes)
        ax.set(xlabel="MI of the training batches (nats)", ylabel="test accuracy")
        ax.set_title(word(name))
    handles, labels = axes[0].get_legend_handles_labels()
    for weight, size in sizes.items():
        handles.append(axes[0].scatter([], [], size, color="0.5"))
        labels.append(f"λ = {weight:g}")
    figure.legend(handles, labels, loc="outside right center")
    return figure
