"""Figures of the theorems' two notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi_lib.experiments.plots import band, colour, panels, reference, reference_x
from remi_lib.losses import title


def duality(family: pd.DataFrame, truth: float, climb: pd.DataFrame) -> Figure:
    """Theorem 1: DV and the duals along log dP/dQ + c (left), ascent on the one-hot problem."""
    figure, (left, right) = panels(2, height=2.7)
    keys = ["dual", "distance", "target"]
    for (dual, distance, target), line in family.groupby(keys, dropna=False):
        label = dual if dual == "DV" else f"{dual}, {distance}, $C={target:.0f}$"
        style = "--" if distance == "absolute" else "-"
        left.plot(line["shift"], line["value"] - truth, style, label=label)
    left.set(xlabel=r"$c$ in $T=\log\,dP/dQ+c$", ylabel="value − KL (nats)", ylim=(-1.3, 1.3))
    left.set_title(r"Lemma 9, $\lambda=0.1$")
    left.legend(loc="upper center")
    right.plot(climb["step"], climb["off_max"], color="C1", label="largest $T$ off the support")
    right.plot(climb["step"], climb["gap"], color="C0", label="KL − value")
    last = climb["step"].max()
    right.set(xscale="log", xlabel="step of gradient ascent", ylabel="nats", xlim=(5, last))
    right.set_title("one-hot, exact ReDV, $C=0$")
    right.legend(loc="lower left")
    return figure


def consistency(channel: pd.DataFrame, gaussian: pd.DataFrame) -> tuple[Figure, list[Axes]]:
    """Theorem 2: estimates over n on the channel and on the Gaussian, median and 10-90% band."""
    figure, axes = panels(2, height=2.8)
    for ax, frame in zip(axes, (channel, gaussian), strict=True):
        for i, (name, rows) in enumerate(frame.groupby("critics", sort=False)):
            band(ax, rows, "estimate", f"C{i}", str(name), x="n")
        ax.set(xscale="log", xlabel="samples $n$", ylabel="estimate (nats)")
        ax.legend()
    axes[0].set(ylim=(0.5, 3), title="noisy channel")
    axes[1].set(ylim=(0, 1.1), title="Gaussian")
    return figure, axes


def sample_sizes(needed: pd.DataFrame, two_cells: pd.DataFrame) -> Figure:
    """Theorems 3 and 4: samples needed and the bound, over epsilon and over M."""
    figure, (left, right) = panels(2, height=2.8)
    for (loss, rows), style in zip(needed.groupby("loss"), ("o-", "s--"), strict=True):
        left.plot(rows["epsilon"], rows["bound"], style, color="C3", label=f"bound, {loss}")
        left.plot(rows["epsilon"], rows["needed"], style, color="C0", label=f"needed, {loss}")
    left.set(xscale="log", yscale="log", xlabel=r"accuracy $\epsilon$ (nats)")
    left.set(ylabel="samples $n$", title="noisy channel, $M=8$, $d=64$")
    _named_ticks(left, needed["epsilon"].unique())
    for (constant, rows), style in zip(two_cells.groupby("C"), ("s--", "o-"), strict=True):
        label = "needed, $C=" + str(constant).replace("log 2", r"\log\,2") + "$"
        right.plot(rows["M"], rows["needed"], style, color="C0", label=label)
    bound = two_cells.drop_duplicates("M")
    right.plot(bound["M"], bound["bound"], "^-", color="C3", label="bound")
    right.set(yscale="log", xlabel="$M$", ylabel="samples $n$", title=r"two cells, $\epsilon=0.3$")
    left.legend()
    right.legend()
    return figure


def second_term_variance(variances: pd.DataFrame, scatter: pd.DataFrame, batch: int) -> Figure:
    """Theorem 5: variances over C, each 1 at C = 0 (left); SD of MINE's and ReMINE's estimate."""
    figure, (left, right) = panels(2, height=2.7)
    at_zero = variances[variances["C"] == 0].set_index("problem")
    scaled = variances.set_index(["problem", "C"]).div(at_zero.drop(columns="C"), level="problem")
    for column, label, hue in (
        ("mean", "$E_{Q_n}[e^T]$", "C1"),
        ("log", r"$\log E_{Q_n}[e^T]$", "C0"),
    ):
        band(left, scaled.reset_index(), column, hue, f"Var of {label}, sampled", x="C")
    constants = np.sort(variances["C"].unique())
    left.plot(constants, np.exp(2 * constants), "k:", label="$e^{2C}$")
    left.set(yscale="log", xlabel="$C$", ylabel="variance, 1 at $C=0$")
    left.set_title("random $P$, $Q$ ($n=50$)")
    left.legend()
    for _, seed in scatter.iterrows():
        right.plot([0, 1], seed[["mine", "remine"]], "o-", color="0.5", lw=0.8, ms=4)
    right.set_xticks([0, 1], ["MINE", "ReMINE"])
    right.set(xlim=(-0.4, 1.4), ylabel="SD of the estimate (nats)")
    right.set_title(f"one-hot, batch {batch}, a line per seed")
    return figure


def averaging(terms: pd.DataFrame, readings: pd.DataFrame) -> Figure:
    """Theorem 6: the constant of one seed over steps, and the bias by the window pooled."""
    figure, (left, right) = panels(2, height=2.9)
    for i, (name, part) in enumerate(readings.groupby("name", sort=False)):
        hue = f"C{i}"
        run = terms[(terms["member"] == part["member"].iloc[0]) & (terms["step"] % 5 == 0)]
        left.plot(run["step"], run["log_partition"], lw=0.6, color=hue, label=name)
        band(right, part, "bias", hue, str(name), x="window")
        predicted = (part["drift"] + part["jensen"]).groupby(part["window"]).mean()
        right.plot(predicted, "x", ms=5, color=hue)
    right.plot([], [], "x", color="0.3", ms=5, label="closed form, drift + Jensen")
    left.set(xlabel="step", ylabel=r"$C_i=\log E_Q[e^{T_i}]$ (nats)", title="one seed")
    right.set(xscale="log", xlabel="window (batches pooled)")
    right.set(ylabel="estimate − exact MI (nats)")
    reference(right, 0)
    left.legend()
    right.legend()
    return figure


LOWEST = 1.5  # nats, from where on trained critics are drawn


def batch_size_limit(errors: pd.DataFrame, trained: pd.DataFrame, truth: float) -> Figure:
    """What pooling sidesteps: the error of a perfect critic (left); and not: trained critics."""
    figure, (left, right) = panels(2, height=2.7)
    for i, (symbols, part) in enumerate(errors.groupby("symbols")):
        left.plot(part["n"], part["rms"], color=f"C{i}", label=f"$I=\\log {symbols}$")
        reference_x(left, float(str(symbols)), color=f"C{i}", lw=0.8)
    left.set(xscale="log", yscale="log", xlabel="product pairs, window × batch")
    left.set(ylabel="RMS error (nats)", title="a perfect critic (dotted: $e^I$ pairs)")
    left.legend()
    for loss, part in trained.groupby("loss"):
        style = "-" if loss == "mine" else "--"
        hue, name = colour(str(loss)), title(str(loss))
        middle = part.groupby("batch")["exact_mi"].transform("median")
        band(right, part[middle > LOWEST], "exact_mi", hue, name, style, x="batch", marker="o")
        for batch, mi in middle[middle <= LOWEST].groupby(part["batch"]).first().items():
            where: dict[str, Any] = {"xy": (batch, LOWEST), "xytext": (0, 20), "color": hue}
            where |= {"textcoords": "offset points", "arrowprops": {"arrowstyle": "->"}}
            right.annotate(f"{name}: {mi:.0f}", **where)
    reference(right, truth, "true MI")
    right.set(xscale="log", xlabel="batch size in training", ylabel="exact MI (nats)")
    right.set(ylim=(LOWEST, 3), title="trained critics")
    _named_ticks(right, trained["batch"].unique())
    right.legend(loc="lower right")
    return figure


def entropies(labelled: pd.DataFrame, law: pd.DataFrame, mean: float) -> Figure:
    """Theorems 7 and 8: KL against H(Y) (left); a perfect critic's value over batches of 10."""
    figure, (left, right) = panels(2, height=2.9)
    for column, marker in zip(labelled.columns[1:], ("o", "x", "s", "^"), strict=True):
        fill: dict[str, Any] = {"mfc": "none"} if marker in "os" else {}
        left.plot(labelled["entropy"], labelled[column], marker, ms=5, label=column, **fill)
    left.axline((0, 0), slope=1, color="black", lw=0.9, ls=":")
    left.set(xlabel="$H(Y)$ (nats)", ylabel="KL of the pairs (nats)")
    left.set_title(f"{len(labelled)} labelled sets")
    left.legend()
    law = law.query("pairs > 0")
    right.vlines(law["reading"], 0, law["probability"], lw=4, color="C0")
    reference_x(right, labelled["entropy"].iloc[-1], "$H(Y)$")
    reference_x(right, mean, "mean over batches", color="C3", ls="-")
    right.set(xlabel=r"$\log\,B(B-1)/J$ (nats)", ylabel="probability", xlim=(1, 4), ylim=(0, 0.28))
    right.set_title("digits: a perfect critic in batches of 10")
    right.legend(loc="upper right")
    return figure


def _named_ticks(ax: Axes, values: Sequence[float] | np.ndarray) -> None:
    """Ticks of a logarithmic axis at these values alone, written out."""
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.set_xticks([], minor=True)
