"""Fig 8: what the SLB critic says of images it was not trained for.

A regularised critic estimates log dP/dQ: for a balanced set of K classes it should be log K on a
true pair and far below 0 on a false one.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from remi_lib.experiments.plots import WIDTH, outer_labels, panels, printed, reference_x, word
from remi_lib.intervals import interval

EDGES = np.geomspace(0.01, 1000, 31)  # of the bins of e^T
# The pairs of a set: what the legend calls them, and their colour.
KINDS = {
    "false": ("false label", "0.6"),
    "true": ("true label", "#0072B2"),
    "any": ("foreign image", "#D55E00"),
}


def scores_of(outputs_of: pd.DataFrame) -> pd.DataFrame:
    """Per image: ``largest`` = max_y T(x, y), its ``softmax``, ``true`` = T(x, y) if labelled."""
    classes = [c for c in outputs_of if str(c).isdigit()]
    t = outputs_of[classes].to_numpy(dtype=float)
    label = outputs_of["label"].to_numpy()
    true = np.where(label >= 0, t[np.arange(len(t)), np.maximum(label, 0)], np.nan)
    largest = t.max(1)
    softmax = np.exp(largest - np.logaddexp.reduce(t, axis=1))
    keep = outputs_of[["loss", "seed", "set", "label"]]
    return keep.assign(largest=largest, softmax=softmax, true=true)


def summary(scores: pd.DataFrame, ideal: float) -> pd.DataFrame:
    """A row per loss, seed and image set, from :func:`scores_of`; ``ideal`` is K.

    ``median``: of e^T over true pairs.  ``near``: share of them within a factor 2 of K.  ``quiet``:
    share of images whose e^T, summed over the wrong labels, is below K / 10.  ``rejected``: share
    of images whose largest e^T is below K / 2.
    """
    ratio, largest = np.exp(scores["true"]), np.exp(scores["largest"])
    # softmax = largest / sum: the sum of e^T over the labels, less the true one's.
    wrong = largest / scores["softmax"] - ratio
    read = pd.DataFrame(
        {
            "ratio": ratio,
            "near": ratio.between(ideal / 2, 2 * ideal),
            "quiet": wrong < ideal / 10,
            "rejected": largest < ideal / 2,
        }
    )
    keys = [scores[key] for key in ("loss", "seed", "set")]
    groups = read.groupby(keys, sort=False)
    found = groups[["near", "quiet", "rejected"]].mean()
    found.insert(0, "median", groups["ratio"].median())
    found.loc[found["median"].isna(), ["near", "quiet"]] = np.nan
    return found.reset_index()


def pairs_of(outputs_of: pd.DataFrame) -> pd.DataFrame:
    """Every pair (x, y) of a frame of outputs: its set, whether y is x's label, and e^T."""
    classes = [c for c in outputs_of if str(c).isdigit()]
    t = outputs_of[classes].to_numpy(dtype=float)
    label = outputs_of["label"].to_numpy()[:, None]
    kind = np.where(label < 0, "any", np.where(label == np.arange(len(classes)), "true", "false"))
    frame = pd.DataFrame({"ratio": np.exp(t).ravel(), "pair": kind.ravel()})
    frame["set"] = np.repeat(outputs_of["set"].to_numpy(), len(classes))
    return frame


def pair_counts(pairs: pd.DataFrame) -> pd.DataFrame:
    """How many pairs of each kind and set have e^T within each bin; from :func:`pairs_of`."""
    ratio = pairs["ratio"].clip(lower=np.finfo(float).tiny)  # e^T may underflow: 0 is in no bin
    bins = pd.cut(ratio, np.r_[0, EDGES, np.inf])
    counts = pairs.groupby(["set", "pair", bins], observed=True, sort=False).size()
    return counts.rename("pairs").reset_index()


def auroc(scores: pd.DataFrame) -> pd.DataFrame:
    """Area under the ROC of test against each foreign set, per loss, seed and score."""
    rows = []
    for (loss, seed), own in scores.groupby(["loss", "seed"], sort=False):
        known = own[own["set"] == "test"]
        for name, other in own.groupby("set", sort=False):
            if name in ("train", "test"):
                continue
            truth = np.r_[np.ones(len(known)), np.zeros(len(other))]
            for score in ("largest", "softmax"):
                both = np.r_[known[score], other[score]]
                area = roc_auc_score(truth, both) if np.isfinite(both).all() else np.nan
                rows.append(
                    {"loss": loss, "seed": seed, "foreign": name, "score": score, "auroc": area}
                )
    return pd.DataFrame(rows)


def auroc_table(areas: pd.DataFrame) -> pd.DataFrame:
    """:func:`auroc` with 95% intervals over seeds: a row a loss, columns (foreign set, score)."""
    by = areas.groupby(["loss", "foreign", "score"], sort=False)["auroc"]
    found = by.apply(lambda area: str(interval(area))).unstack(["foreign", "score"])
    return printed(found, {"largest": "max T", "softmax": "max softmax"})


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


def ratio_histograms(counts: pd.DataFrame, ideal: float) -> Figure:
    """Fig 8 from :func:`pair_counts`: e^T of true, false and foreign pairs, a panel per image set.

    The first bar has all that is smaller.
    """
    names = list(counts["set"].unique())
    figure, axes = panels(len(names), columns=3, height=2.1, sharex=True, sharey=True)
    edges = counts["ratio"].astype(str).str.extract(r"\((.+), (.+)\]").astype(float)
    wide = EDGES[1] / EDGES[0]
    left, right = edges[0].clip(EDGES[0] / wide), edges[1].clip(upper=EDGES[-1] * wide)
    for ax, name in zip(axes, names, strict=True):
        inside = counts["set"] == name
        share = counts["pairs"] / counts.loc[inside, "pairs"].sum()
        for kind, (_, hue) in KINDS.items():
            own = inside & (counts["pair"] == kind)
            bars = (left[own], share[own], (right - left)[own])
            ax.bar(*bars, align="edge", color=hue, alpha=0.7, edgecolor="white", lw=0.4)
        reference_x(ax, ideal)
        ax.set(xscale="log", yscale="log", title=word(name), xlim=(left.min(), 1.2 * right.max()))
        ax.set(xlabel="$e^T$ (first bar: all below)", ylabel="share of pairs")
    handles: list[Artist] = [Patch(color=hue, alpha=0.7, label=x) for x, hue in KINDS.values()]
    handles.append(Line2D([], [], color="black", lw=0.9, ls=":", label="K, a true pair's ideal"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    outer_labels(axes, columns=3)
    return figure
