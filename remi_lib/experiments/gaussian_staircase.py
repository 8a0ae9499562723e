"""Fig 7 beyond the picture: readings, errors per level, the exact critic on the same batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from remi_lib.experiments.plots import band, colour, outer_labels, panels, printed, reference
from remi_lib.intervals import difference
from remi_lib.losses import FAMILIES, optimal_shift, title
from remi_lib.streams import generator
from remi_lib.tasks import StaircaseTask
from remi_lib.training import divergence

# Each original beside its regularised form: two members are a chunk of the overnight run.
PAIRED = tuple(name for family in FAMILIES for name in (family, "re" + family))
READINGS = {"raw": "raw JS", "nwj": "NWJ of T", "shifted": "NWJ of T + 1"}


def js_readings(terms: pd.DataFrame) -> pd.DataFrame:
    """JS and ReJS rows of a history three times, ``reading`` saying how ``mi`` was read.

    "raw" is the JS bound itself, never above 0; "nwj" is NWJ of the same critic, as Table 1 has it,
    low by 1/e; "shifted" is NWJ of T + 1, unbiased at the optimum.
    """
    js = terms[terms["loss"].isin(["js", "rejs"])]
    joint, log_partition = js["joint"], js["log_partition"]
    values = {
        "raw": js["joint_term"] - js["product_term"],
        "nwj": joint - np.exp(log_partition - 1),
        "shifted": joint + 1 - np.exp(log_partition),
    }
    parts = [js.assign(mi=mi, reading=READINGS[key]) for key, mi in values.items()]
    return pd.concat(parts, ignore_index=True)


def errors(terms: pd.DataFrame, task: StaircaseTask, by: Sequence[str]) -> pd.DataFrame:
    """Bias, SD and RMSE of the estimate on each level, per run: rows (*by, seed, true_mi), nats.

    Over the last half of a level.  Where a run did not live through a level its RMSE is inf.
    """
    late = terms[terms["step"] % task.each >= task.each // 2]
    late = late.assign(true_mi=task.true_mi(late["step"]))
    late["error"] = late["mi"] - late["true_mi"]
    grouped = late.groupby([*by, "seed", "true_mi"], sort=False)["error"]
    table = pd.DataFrame({"bias": grouped.mean(), "sd": grouped.std(ddof=0)})
    whole = grouped.count() == grouped.size()
    table = table.where(whole)
    table["rmse"] = np.hypot(table["bias"], table["sd"]).where(whole, np.inf)
    return table.reset_index()


def lost(terms: pd.DataFrame) -> pd.DataFrame:
    """The members that diverged, with the step and the term."""
    found = divergence(terms)
    return found[found["step"].notna()].drop(columns="member")


def smoothed(terms: pd.DataFrame, span: int) -> pd.DataFrame:
    """One run's estimate with its exponential moving average (the paper's curve, span 200)."""
    return terms.assign(
        ema=terms.groupby("member")["mi"].transform(lambda x: x.ewm(span=span).mean())
    )


def level_summary(table: pd.DataFrame, by: str, quantity: str) -> pd.DataFrame:
    """Mean over seeds of bias, SD or RMSE: a row per ``by``, a column per true MI."""
    wide = table.pivot_table(index=by, columns="true_mi", values=quantity, sort=False)
    return printed(wide)


def clipped_cap(task: StaircaseTask, name: str, tau: float, samples: int = 100_000) -> pd.Series:
    """The most that NWJ or TUBA with T clipped to [-tau, tau] can read at each level, nats.

    The objective is concave in every cell, so the best clipped critic is the clipped optimum;
    E_Q[f(r)] = E_P[f(r) / r], so both terms are means over joint pairs.
    """
    stream = generator(0, "clipped cap")
    shift = optimal_shift(name)
    caps = {}
    for mi in task.levels:
        rho = torch.tensor([task.data.rho(mi)])
        x, y = task.data.sample(stream, rho, samples)
        ratio = task.data.log_ratio_of_pairs(x[0], y[0], rho).double()
        t = (ratio + shift).clamp(-tau, tau)
        caps[mi] = (t.mean() - (t - shift - ratio).exp().mean() + 1 - shift).item()
    return pd.Series(caps)


def differences(table: pd.DataFrame, quantity: str) -> dict[str, pd.Series]:
    """Original minus regularised of a quantity, by family: a value per seed, mean over levels."""
    by_seed = table.groupby(["loss", "seed"])[quantity].mean()
    return {
        family: pd.Series(
            difference(by_seed[family], by_seed["re" + family]), by_seed[family].index
        )
        for family in FAMILIES
    }


def staircase(
    terms: pd.DataFrame, truth: pd.Series, caps: Mapping[str, pd.Series], log_batch: float
) -> Figure:
    """Fig 7: a panel per family; raw faint, moving average bold, true MI in black, caps dotted.

    The original is dashed and above: where both agree, both are seen.
    """
    families = [family for family in FAMILIES if family in set(terms["loss"])]
    figure, axes = panels(len(families), columns=3, height=2.2, sharex=True, sharey=True)
    top = truth.max()
    for ax, family in zip(axes, families, strict=True):
        for loss, hue, ls in (("re" + family, colour(family), "-"), (family, "0.25", "--")):
            run = terms[terms["loss"] == loss]
            ax.plot(run["step"], run["mi"], color=hue, lw=0.4, alpha=0.3)
            ax.plot(run["step"], run["ema"], color=hue, ls=ls, lw=1.5, label=title(loss), zorder=3)
        ax.step(truth.index, truth, color="black", lw=1, label="true MI")
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
    outer_labels(axes, columns=3)
    return figure


def level_errors(table: pd.DataFrame) -> Figure:
    """RMSE against the true MI, a panel per family: original, regularised, and their oracles."""
    figure, axes = panels(len(FAMILIES), columns=3, height=2.0, sharex=True, sharey=True)
    for ax, family in zip(axes, FAMILIES, strict=True):
        for loss, ls in ((family, "-"), ("re" + family, "--")):
            for kind, hue in (("learned", colour(family)), ("oracle", "0.5")):
                own = table[(table["loss"] == loss) & (table["kind"] == kind)]
                looks: dict[str, Any] = {"x": "true_mi", "percent": 100, "estimator": "mean"}
                band(ax, own, "rmse", hue, "", ls, marker="o", ms=3, **looks)
        ax.set(title=title(family), xlabel="true MI (nats)", ylabel="RMSE (nats)")
        ax.set_yscale("log")
        ax.label_outer()
    kinds = (("original", "0.2", "-"), ("regularised", "0.2", "--"), ("exact critic", "0.6", "-"))
    handles = [mpl.lines.Line2D([], [], color=c, ls=ls, label=name) for name, c, ls in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
