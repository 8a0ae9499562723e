"""Notebook 12's pictures, tables and verdicts: views of what its studies returned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from remi_lib.experiments import plots
from remi_lib.experiments.verdicts.common import accuracy_gains, sayer, test_images, trained
from remi_lib.experiments.z_loss.classifier import REMEDIES, sensitivity
from remi_lib.images import load_images
from remi_lib.intervals import mean_interval
from remi_lib.losses import make_loss
from remi_lib.replication.claims import Ledger
from remi_lib.replication.evidence import exact, with_test_images
from remi_lib.scores import class_pairs
from remi_lib.streams import generator

LINES = {"err_style": "band", "errorbar": ("pi", 80), "estimator": "median"}
DOTS = {"errorbar": ("pi", 80), "estimator": "median", "dodge": 0.4, "linestyle": "none"}
OTHERS = {"vicreg": "VICReg"}  # losses of two views that estimate no mutual information

# The studies' columns as their tables print them; what is published keeps its names.
HEADINGS = {
    "z_loss": "z-loss",
    "pinned": "ReInfoNCE at C = −log K",
    "variance": "λ Var log Z",
    "error": "relative error",
    "sensitivity": "sensitivity (nats)",
    "best": "test loss at the best rate (nats)",
    "penalty": "penalty (nats)",
    "log_z": "log Z (nats)",
    "log_z_sd": "SD of log Z (nats)",
    "log_z_95": "95% of |log Z| below (nats)",
    "nll": "test loss (nats)",
    "nll_bare": "test loss without softmax (nats)",
    "ece": "calibration error",
    "level": "true MI (nats)",
    "pin": "pinned",
    "infonce": "InfoNCE (nats)",
    "plug_in": "E_P[T] (nats)",
    "train_mi": "MI (nats)",
    "test_mi": "held-out MI (nats)",
    "test_log_partition": "held-out log E_Q[e^T] (nats)",
}


def identity_errors(count: int, weight: float, rows: int = 16, classes: int = 10) -> pd.DataFrame:
    """Both sides of the identity on ``count`` random tables of growing scale, in double precision.

    ``z_loss`` (lambda mean (log sum e^T)^2) is ``pinned`` (ReInfoNCE's penalty at C = -log K) plus
    ``variance`` (lambda Var log Z), up to ``error``, relative.
    """
    scale = torch.logspace(-2, 3, count, dtype=torch.float64)
    stream = generator(0, "z_loss identity")
    t = torch.randn(count, rows, classes, generator=stream, dtype=torch.float64)
    t = t * scale[:, None, None]
    labels = torch.randint(classes, (count, rows), generator=stream)
    pinned = make_loss("reinfonce", weight, -math.log(classes))(class_pairs(t, labels)).penalty
    log_z = t.logsumexp(-1)
    variance = weight * log_z.var(-1, correction=0)
    z_loss = weight * log_z.square().mean(-1)
    error = (z_loss - pinned - variance).abs() / z_loss
    columns = {"scale": scale, "z_loss": z_loss, "pinned": pinned, "variance": variance}
    return pd.DataFrame({k: v.numpy() for k, v in {**columns, "error": error}.items()})


def rates_figure(final: pd.DataFrame, ceiling: float) -> Figure:
    """Test loss over the learning rate, a line per remedy, and each remedy's sensitivity."""
    figure, (left, right) = plots.panels(2, height=3.4, width_ratios=[3, 2])
    shown = final.assign(nll=final["nll"].fillna(math.inf).clip(upper=ceiling))
    options = {**LINES, "hue": "remedy", "style": "remedy"}
    sns.lineplot(shown, x="rate", y="nll", ax=left, **options)
    plots.reference(left, ceiling, "a guess")
    left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="test loss (nats)")
    handles, labels = left.get_legend_handles_labels()
    left.legend().remove()  # the lines leave it no room
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    table = sensitivity(final, ceiling)
    strip = {"hue": "remedy", "size": 4, "legend": False, "jitter": False}  # jitter is random
    sns.stripplot(table, x="sensitivity", y="remedy", ax=right, **strip)
    right.set(xlabel="sensitivity (nats)", ylabel="")
    return figure


def idle_figure(final: pd.DataFrame) -> Figure:
    """|log Z| and accuracy with and without the penalty, a column per setting."""
    shown = final.assign(
        setting=settings_of(final), penalty=np.where(final["weight"] > 0, "with", "without")
    )
    figure, (left, right) = plots.panels(2, height=2.6)
    options = {"x": "setting", "hue": "penalty", "hue_order": ["without", "with"], **DOTS}
    sns.pointplot(shown, y="log_z", ax=left, **options)
    sns.pointplot(shown, y="accuracy", ax=right, legend=False, **options)
    left.set(xlabel="", ylabel="mean |log Z| (nats)", yscale="log")
    right.set(xlabel="", ylabel="test accuracy")
    for ax in (left, right):
        ax.tick_params("x", labelrotation=20)
    return figure


def settings_of(final: pd.DataFrame) -> pd.Series:
    """ "cosine / 0.2" or "inner product" of each row."""
    cosine = "cosine / " + final["temperature"].map("{:g}".format)
    return cosine.where(final["normalised"], "inner product")


def scale_figure(course: pd.DataFrame, ceiling: float) -> Figure:
    """The learned scale and log Z over the steps, a column per precision, a line per guard."""
    names = list(course["precision"].unique())
    figure, axes = plots.panels(2 * len(names), columns=len(names), height=2.2, sharex=True)
    for i, name in enumerate(names):
        above, below = axes[i], axes[len(names) + i]
        own = course[course["precision"] == name]
        options = {"x": "step", "hue": "guard", "style": "guard", **LINES}
        sns.lineplot(own, y="scale", ax=above, legend=i == 0, **options)
        sns.lineplot(own, y="log_z", ax=below, legend=False, **options)
        plots.reference(above, ceiling)
        plots.reference(below, 0)
        above.set(yscale="log", title=name, ylabel="logit scale")
        below.set(ylabel=r"mean $\log Z_i$ (nats)")
    return figure


def calibration_figure(final: pd.DataFrame) -> Figure:
    """Self-normalisation, loss with and without the softmax, and calibration over the weight."""
    figure, axes = plots.panels(3, height=2.5)
    shown = final.assign(weight=final["weight"].map("{:g}".format))
    options = {"x": "weight", **DOTS, "dodge": False, "linestyle": "-"}
    sns.pointplot(shown, y="log_z_95", ax=axes[0], **options)
    losses = shown.melt(["weight", "seed"], ["nll", "nll_bare"], "softmax", "loss").replace(
        {"nll": "with softmax", "nll_bare": "without"}
    )
    sns.pointplot(losses, y="loss", hue="softmax", ax=axes[1], **options)
    sns.pointplot(shown, y="ece", ax=axes[2], **options)
    axes[0].set(yscale="log", ylabel="|log Z|, 95th pct. (nats)")
    axes[1].set(ylabel="test loss (nats)")
    axes[1].set_yscale("symlog", subs=[2, 5])
    axes[1].yaxis.set_major_formatter("{x:g}")
    axes[1].yaxis.set_minor_formatter("{x:g}")
    axes[1].legend(title=None)
    axes[2].set(ylabel="calibration error", ylim=(0, None))
    for ax in axes:
        ax.set(xlabel="λ of the z-loss")
        ax.tick_params("x", labelrotation=30)
    return figure


def plug_in_figure(final: pd.DataFrame, batch: int) -> Figure:
    """E_P[T] and the InfoNCE reading against the true MI, a column per reading."""
    figure, (left, right) = plots.panels(2, height=2.6, sharey=True)
    options = {**LINES, "hue": "pin", "style": "pin", "markers": True, "dashes": False}
    sns.lineplot(final, x="level", y="infonce", ax=left, **options)
    sns.lineplot(final, x="level", y="plug_in", ax=right, legend=False, **options)
    for ax in (left, right):
        ax.axline((2, 2), slope=1, color="black", lw=0.9, label="true MI")
        plots.reference(ax, math.log(batch), "log K")
        ax.set(xlabel="true MI (nats)", ylabel="reading (nats)")
    left.set(title="InfoNCE")
    right.set(title=r"$E_P[T]$")
    left.legend(title=None, loc="lower right", fontsize="x-small")
    return figure


def language_figure(course: pd.DataFrame) -> Figure:
    """Mean log Z over the steps, a panel per precision, a line per weight."""
    names = list(course["precision"].unique())
    figure, axes = plots.panels(len(names), height=2.5, sharey=True)
    shown = course.assign(weight=course["weight"].map("λ = {:g}".format))
    for ax, name in zip(axes, names, strict=True):
        own = shown[shown["precision"] == name]
        sns.lineplot(own, x="step", y="log_z", hue="weight", style="weight", ax=ax, **LINES)
        plots.reference(ax, 0)
        ax.set(title=name, ylabel="mean log Z (nats)")
        ax.legend(title=None)
    return figure


def means(frame: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    """Means over seeds, "0.012 ± 0.003" (95% interval), a row per setting in the order given.

    Under :data:`HEADINGS`.
    """

    def text(values: pd.Series) -> str:
        lost = int((~np.isfinite(values)).sum())
        if lost:
            return f"non-finite {lost}/{len(values)}"
        if len(values) == 1:  # the first seed of a long run: no interval yet
            return f"{values.iloc[0]:.3f}"
        found = mean_interval(values)
        return f"{found.value:.3f} ± {found.high - found.value:.3f}"

    found = frame.groupby(by, sort=False)[columns].agg(text)
    return plots.printed(found.rename(columns=HEADINGS).rename_axis(index=HEADINGS))


def real_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Cross-entropy, ReInfoNCE and the z-loss on real images: means over seeds by lambda."""
    names = {"infonce": "cross-entropy", "reinfonce": "ReInfoNCE", "reinfonce_rows": "z-loss"}
    shown = runs.assign(loss=runs["loss"].map(names), weight=runs["weight"].fillna(0.0))
    return means(shown, ["loss", "weight"], ["log_z", "accuracy", "test_mi"])


def views_names(runs: pd.DataFrame) -> dict[str, str]:
    """The printed name of each loss of a table, in its order."""
    return {loss: plots.word(loss, OTHERS) for loss in dict.fromkeys(runs["loss"])}


def views_figure(runs: pd.DataFrame) -> Figure:
    """Accuracy of the probe by loss, a point a seed; a run that became non-finite has none."""
    figure, (ax,) = plots.panels(1, height=2.6)
    names = views_names(runs)
    hues = ["#555555" if loss in OTHERS else plots.colour(loss) for loss in names]
    shown = runs.assign(loss=runs["loss"].map(names))
    order = list(names.values())
    options = {"order": order, "hue_order": order, "palette": hues, "hue": "loss"}
    sns.stripplot(shown, x="loss", y="accuracy", ax=ax, size=5, jitter=False, **options)
    ax.set(xlabel="", ylabel="test accuracy of a linear probe")
    return figure


def views_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by loss, in the table's order."""
    shown = runs.assign(loss=runs["loss"].map(views_names(runs)))
    return means(shown, ["loss"], ["accuracy", "train_mi", "test_mi", "test_log_partition"])


def _paired(
    frame: pd.DataFrame, column: str, value: str, first: object, second: object
) -> pd.Series:
    """first minus second of ``column``, by seed."""
    wide = frame.pivot(index="seed", columns=column, values=value)
    return wide[first] - wide[second]


def judge(ledger: Ledger, tables: Mapping[str, pd.DataFrame], ceiling: float, batch: int) -> None:
    """Judge every claim of notebook 12 from its tables alone."""
    say = ledger.judge
    say("z.identity", exact(float(tables["identity"]["error"].max())))

    gain = partial(_paired, sensitivity(tables["rates"], ceiling), "remedy", "sensitivity")
    for remedy in REMEDIES:
        if remedy not in ("none", "z-loss 1e-4"):
            say(f"z.rates.{remedy}", gain("none", remedy))
    say("z.rates.centering-beats", gain("z-loss", "mu-centering"))
    say("z.rates.small-weight", gain("none", "z-loss 1e-4"))
    say("z.rates.variance-adds", gain("ReInfoNCE", "z-loss"))

    final = tables["idle"]
    for setting, own in final.groupby(settings_of(final), sort=False):
        raw = setting == "inner product"
        name = "active.raw" if raw else f"idle.normalised-{str(setting).split(' / ')[1]}"
        say(f"z.{name}", _paired(own, "weight", "log_z", 0.0, own["weight"].max()))

    final = tables["scale"]
    full, bare = final[final["precision"] == "float32"], final[final["guard"] == "none"]
    scale = full.set_index("guard")["scale"]
    say("z.scale.grows", scale["none"])
    say("z.scale.penalty-holds", scale["penalty"])
    say("z.scale.recall", _paired(full, "guard", "recall", "penalty", "clamp"))
    say("z.scale.bfloat16", _paired(bare, "precision", "recall", "bfloat16", "float32"))

    final = tables["calibration"]
    chosen = final[final["weight"] == 0.1]
    say("z.calibration.normalised", chosen["log_z_95"])
    say("z.calibration.bare-loss", chosen["nll_bare"] - chosen["nll"])
    by = final.groupby("seed")[["log_z_95", "nll"]]
    trade = by.apply(lambda own: own["log_z_95"].corr(own["nll"], "spearman"))
    say("z.calibration.trade", trade)
    say("z.calibration.ece", _paired(final, "weight", "ece", 0.0, 0.1))

    final, truth = tables["plug_in"], tables["plug_in"]["level"].max()
    top = final[final["level"] == truth].set_index(["pin", "seed"])
    say("z.plug-in.capped", top.loc["rows", "plug_in"] - math.log(batch))
    errors = (top.loc["rows without the pair", ["infonce", "plug_in"]] - truth).abs()
    say("z.plug-in.apart", errors["infonce"] - errors["plug_in"])

    final = tables["language"]
    full, half = (final[final["precision"] == name] for name in ("float32", "bfloat16"))
    size = full.assign(log_z=full["log_z"].abs())
    say("z.language.pins", _paired(size, "weight", "log_z", 0.0, 1e-2))
    say("z.language.no-effect", _paired(full, "weight", "nll", 0.0, 1e-4))
    of_half, of_full = (_paired(own, "weight", "nll", 0.0, 1e-2) for own in (half, full))
    say("z.language.bfloat16", of_half - of_full)


def judge_real(ledger: Ledger, dataset: str, runs: pd.DataFrame) -> None:
    """Judge from supervised runs on real images: cross-entropy beside the z-loss at each lambda.

    ``runs``: a row per run with its ``log_z`` and accuracy (:func:`~.small_images.z_loss`).
    """
    size = runs.assign(log_z=runs["log_z"].abs()).set_index("seed")
    bare = size[size["loss"] == "infonce"]
    pinned = size[size["loss"] == "reinfonce_rows"]
    strong = pinned.loc[pinned["weight"] == 0.1, "log_z"]
    say = sayer(ledger, dataset)
    say("z.real.pins", bare["log_z"] - strong)
    gains = {f"{w:g}": own["accuracy"] - bare["accuracy"] for w, own in pinned.groupby("weight")}
    images, rates = test_images(dataset), [pinned["accuracy"], bare["accuracy"]]
    mean = with_test_images(pd.DataFrame(gains).mean(axis=1), rates, images)
    say("z.real.accuracy", mean, gains)


def judge_views(ledger: Ledger, dataset: str, families: Sequence[str], runs: pd.DataFrame) -> None:
    """Judge from runs on two views of an image: a row per loss and seed, all losses at each seed.

    A run that became non-finite has no accuracy; where one is needed, it counts as a guess.
    """
    say, images = sayer(ledger, dataset), test_images(dataset)
    runs = runs.assign(failed=runs["diverged_step"].notna())
    whole = trained(runs, families)
    if whole:
        say("views.accuracy", *accuracy_gains(runs, whole, images))
    guess = 1 / load_images(dataset).classes
    by_loss = runs.fillna({"accuracy": guess}).pivot(index="seed", columns="loss")["accuracy"]
    for claim, first, second in (
        ("views.nwj", "nwj", "renwj"),
        ("views.vicreg", "infonce", "vicreg"),
    ):
        one, other = by_loss[first], by_loss[second]
        say(claim, with_test_images(one - other, [one, other], images))
