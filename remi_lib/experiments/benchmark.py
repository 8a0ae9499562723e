"""The benchmark's tables: the runs they need, and what is printed of the finished ones.

Every printed number is computed from stored statistics; nothing here trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remi_lib.evaluation import micro
from remi_lib.experiments import published
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.plots import (
    band,
    colour,
    name_of,
    original_and_regularised,
    panels,
    reference,
    reference_x,
)
from remi_lib.experiments.sweep import Results
from remi_lib.images import load_images
from remi_lib.intervals import difference, interval, missing
from remi_lib.losses import Loss, families_of, make_loss, split_name, title
from remi_lib.optimum import Law, contrastive_law, optimum, supervised_law
from remi_lib.tasks import ImageTask, Member

CELL = ["dataset", "benchmark", "loss"]


def runs_of(
    losses: Sequence[str],
    *,
    dataset: str,
    batch: int,
    epochs: Mapping[str, int],
    seeds: int | Iterable[int],
    weight: float | None = None,
    rejs_target: float | str = 0.0,
    lr: float = 1e-3,
    tau: float | None = None,
    **task,
) -> list[Run]:
    """The runs of some losses over benchmarks and seeds.

    ``epochs``: of each benchmark, {"slb": 40, "clb": 100}.  ``rejs_target``: what E_Q[softplus T]
    of ReJS is drawn to; "consistent" takes its value at the optimum of JS itself.  ``task``:
    further fields of :class:`~remi_lib.tasks.ImageTask`.
    """
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    runs = []
    for benchmark, seed in product(epochs, seeds):
        for loss in losses:
            own_weight = weight if split_name(loss)[1] else None
            target = _target(rejs_target, dataset, benchmark, batch) if loss == "rejs" else None
            member = Member(loss, seed, batch, own_weight, target, tau)
            where = ImageTask(dataset, benchmark, **task)
            runs.append(Run(where, member, epochs[benchmark], lr))
    return runs


def _target(target: float | str, dataset: str, benchmark: str, batch: int) -> float:
    if isinstance(target, str):
        if target != "consistent":
            raise ValueError(f"rejs_target: {target!r} is neither a number nor 'consistent'")
        return consistent_target(dataset, benchmark, batch)
    return target


@cache
def law_of(dataset: str, benchmark: str, batch: int) -> Law:
    """The law of a benchmark's score tables on a data set."""
    data = load_images(dataset)
    if benchmark == "slb":
        return supervised_law(data.classes)
    return contrastive_law(torch.bincount(data.train_y).numpy(), batch)


@cache
def consistent_target(dataset: str, benchmark: str, batch: int) -> float:
    """E_Q[softplus T] at the optimum of JS: the target at which ReJS's penalty vanishes there."""
    law = law_of(dataset, benchmark, batch)
    return round(optimum(make_loss("js"), law, benchmark == "clb").product_term, 6)


def per_run(results: Results) -> pd.DataFrame:
    """One row a run: every reading of its MI (nats), its accuracies, and how it ended.

    ``mi`` is the paper's reading, the mean over the batches of the last epoch (macro-average);
    ``mi_sd`` its standard deviation over these batches.  ``micro`` pools the batches, ``exact``
    takes all pairs of the split at once with the final network.  ``test_`` says the same of
    held-out pairs.  Batches without a joint pair are left out.  A diverged run reads NaN
    throughout, also its accuracies: a network of NaNs classifies nothing.
    """
    runs = results.summary.set_index("run").drop(columns="seconds")
    batches = results.batches[results.batches["pairs"] > 0]
    for split, prefix in (("train", ""), ("test", "test_")):
        part = batches[batches["split"] == split].groupby("run")
        runs[f"{prefix}mi"] = part["mi"].mean()
        runs[f"{prefix}mi_sd"] = part["mi"].std()
        pooled = {i: _pooled(runs.loc[i], frame) for i, frame in part}
        runs[f"{prefix}micro"] = pd.Series(pooled)
        runs[f"{prefix}exact"] = [_exact(row, split) for _, row in runs.iterrows()]
    readings = [f"{p}{x}" for p in ("", "test_") for x in ("mi", "mi_sd", "micro", "exact")]
    diverged = runs["diverged_step"].notna()
    runs.loc[diverged, [*readings, "accuracy", "accuracy_batch_norm"]] = np.nan
    return runs


def _reading(run: pd.Series, joint, log_partition, row_term, pairs=None) -> float:
    """The MI a run's bound reads in pooled statistics."""
    family, _ = split_name(run["loss"])
    second = row_term if family == "infonce" else log_partition
    if family == "infonce":  # a mean over joint pairs, with no exponential to pool
        weight = np.ones_like(joint) if pairs is None else pairs
        return float(np.average(joint - second, weights=weight))
    bound = make_loss(family, mi_shift=run["mi_shift"]).bound
    first, second = (torch.tensor(np.atleast_1d(x)) for x in (joint, second))
    return micro(bound, first, second, None if pairs is None else torch.as_tensor(pairs)).item()


def _pooled(run: pd.Series, batches: pd.DataFrame) -> float:
    columns = ("joint", "log_partition", "row_term", "pairs")
    values = [batches[c].to_numpy(dtype=float) for c in columns]
    return _reading(run, *values) if np.isfinite(values).all() else np.nan


def _exact(run: pd.Series, split: str) -> float:
    values = [float(run[f"{split}_{c}"]) for c in ("joint", "log_partition", "row_term")]
    return _reading(run, *values) if np.isfinite(values).all() else np.nan


def fate(run: pd.Series) -> str:
    """How a run ended if it did not train: "diverged at step 0", "frozen", ""."""
    if np.isfinite(run["diverged_step"]):
        return f"diverged at step {run['diverged_step']:.0f}"
    return "frozen" if run["frozen"] else ""


def failed(runs: pd.DataFrame) -> pd.Series:
    """Whether each run diverged or froze."""
    return runs["diverged_step"].notna() | runs["frozen"]


def theory(runs: pd.DataFrame, nonnegative: bool = True) -> pd.Series:
    """The MI that each cell's loss reads at its optimum, indexed by :data:`CELL`.

    SLB: balanced classes, a free critic.  CLB: the data set's in-batch law and, as its features
    are ReLU outputs, a critic that cannot fall below 0.
    """
    cells = runs.drop_duplicates(CELL).set_index(CELL, drop=False)
    return cells.apply(
        lambda cell: (
            optimum(
                _loss_of(cell),
                law_of(cell["dataset"], cell["benchmark"], int(cell["batch"])),
                nonnegative=cell["benchmark"] == "clb" and nonnegative,
            ).mi
        ),
        axis=1,
    )


def _loss_of(run: pd.Series) -> Loss:
    weight, target, tau = (
        None if pd.isna(run[k]) else float(run[k]) for k in ("weight", "target", "tau")
    )
    options: dict[str, Any] = {"variant": run["variant"], "mi_shift": run["mi_shift"]}
    return make_loss(run["loss"], weight, target, tau, **options)


def paired(runs: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Regularised minus original, per seed: rows (dataset, benchmark, family), columns seeds."""
    wide = runs.assign(
        family=[split_name(x)[0] for x in runs["loss"]],
        kind=["re" if split_name(x)[1] else "original" for x in runs["loss"]],
    ).pivot_table(
        index=["dataset", "benchmark", "family", "seed"],
        columns="kind",
        values=quantity,
        dropna=False,
    )
    gain = pd.Series(difference(wide["re"], wide["original"]), wide.index)
    return gain.unstack("seed").dropna(how="all")


def original_failed(runs: pd.DataFrame) -> pd.Series:
    """Per row of :func:`paired`: whether the original diverged or froze in any seed."""
    original = runs[[not split_name(name)[1] for name in runs["loss"]]]
    family = original["loss"].rename("family")
    return failed(original).groupby([original["dataset"], original["benchmark"], family]).any()


def shifted_js(results: Results) -> pd.Series:
    """The MI of each JS and ReJS run read at T + 1 (macro-average, nats), by run number."""
    batches = results.batches[results.batches["loss"].isin(["js", "rejs"])]
    batches = batches[(batches["split"] == "train") & (batches["pairs"] > 0)]
    reading = batches["joint"] + 1 - np.exp(batches["log_partition"])
    return reading.groupby(batches["run"]).mean()


def mi_error(runs: pd.DataFrame) -> pd.Series:
    """|MI - H(Y)| of each run in nats; infinite for a run that diverged."""
    entropy = runs["dataset"].map(lambda name: load_images(name).entropy)
    return (runs["mi"] - entropy).abs().fillna(np.inf)


def accuracy_or_guess(runs: pd.DataFrame) -> pd.Series:
    """The accuracy of each run; of a run that diverged that of a guess, 1/K."""
    guess = runs["dataset"].map(lambda name: 1 / load_images(name).classes)
    return runs["accuracy"].fillna(guess)


def table2(runs: pd.DataFrame, optima: pd.Series | None = None) -> pd.DataFrame:
    """Table 2 of these runs, long: a row per dataset, benchmark, loss and quantity.

    Columns ``value, low, high`` (95% interval over seeds), ``fate`` of the runs that failed,
    ``theory`` (MI only), ``paper``, ``paper_ci`` and ``paper_dataset``.
    """
    printed = published.table2_long().set_index(CELL)
    rows = []
    for cell, own in runs.groupby(CELL, sort=False):
        shown = "cifar10" if cell[0] == "digits" else cell[0]
        # A loss of one's own has no published numbers.
        source = printed.reindex([(shown, *cell[1:])]).iloc[0]
        ends = own.apply(fate, axis=1)
        end = ends[ends != ""].mode()
        for quantity in ("mi", "accuracy"):
            fine = own.loc[ends == "", quantity]
            estimate = interval(fine) if len(fine) > 1 else missing()
            rows.append(
                {
                    **dict(zip(CELL, cell, strict=True)),
                    "quantity": quantity,
                    **estimate._asdict(),
                    "failed": int((ends != "").sum()),
                    "seeds": len(own),
                    "fate": end.iloc[0] if len(end) else "",
                    "theory": optima.get(cell) if optima is not None and quantity == "mi" else None,
                    "paper": source[quantity],
                    "paper_ci": source[f"{quantity}_ci"],
                    "paper_dataset": shown,
                }
            )
    return pd.DataFrame(rows)


def cell_text(row: Mapping) -> str:
    """A cell of Table 2 as printed: "1.927 ± 0.031", or how its runs failed."""
    if row["failed"] == row["seeds"]:
        return row["fate"]
    lost = f"{row['failed']} of {row['seeds']} {row['fate']}" if row["failed"] else ""
    if np.isnan(row["value"]):  # a single run that trained has no interval
        return lost
    text = f"{row['value']:.3f} ± {(row['high'] - row['low']) / 2:.3f}"
    return f"{text}; {lost}" if lost else text


def styled_table2(table: pd.DataFrame, dataset: str, benchmark: str):
    """One block of Table 2 for display: ours | theory | paper | difference from the paper.

    Bold marks the better of an original and its regularised twin; colour where their intervals
    do not overlap, as in the paper.
    """
    block = table[(table["dataset"] == dataset) & (table["benchmark"] == benchmark)]
    block = block.set_index(["quantity", "loss"])
    paper_name = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[block["paper_dataset"].iloc[0]]
    text: dict[tuple, dict[str, str]] = {}
    css: dict[tuple, dict[str, str]] = {}
    truth = load_images(dataset).entropy
    for family in families_of(table["loss"]):
        pair = (family, "re" + family)
        for quantity, heading in (("mi", "MI (nats)"), ("accuracy", "accuracy")):
            rows = [block.loc[(quantity, loss)] for loss in pair]
            better = _better(rows, quantity, truth)
            for i, (row, kind) in enumerate(zip(rows, ("original", "regularised"), strict=True)):
                ours = (heading, f"ours, {dataset}", kind)
                text.setdefault(ours, {})[title(family)] = cell_text(row)
                css.setdefault(ours, {})[title(family)] = better[i]
                if quantity == "mi":
                    optimum_text = "" if row["theory"] is None else f"{row['theory']:.3f}"
                    text.setdefault((heading, "theory", kind), {})[title(family)] = optimum_text
                cell = f"{row['paper']:.3f} ± {row['paper_ci']:.3f}"
                cell = "" if np.isnan(row["paper"]) else cell
                text.setdefault((heading, f"paper, {paper_name}", kind), {})[title(family)] = cell
                ahead = row["value"] - row["paper"]
                shown = "" if np.isnan(ahead) else f"{ahead:+.3f}"
                text.setdefault((heading, "difference", kind), {})[title(family)] = shown
    frame = pd.DataFrame(text)
    marks = pd.DataFrame(css).reindex_like(frame).astype(object).fillna("")
    return frame.style.apply(lambda _: marks, axis=None).set_caption(
        f"{benchmark.upper()}, H(Y) = {truth:.3f} nats; mean ± 95% interval over seeds"
    )


def _better(rows, quantity: str, truth: float) -> list[str]:
    """CSS of an original and its twin: bold the better one, coloured if beyond the intervals."""
    failures = [np.isnan(row["value"]) for row in rows]
    distance = [
        np.inf if bad else (abs(row["value"] - truth) if quantity == "mi" else -row["value"])
        for row, bad in zip(rows, failures, strict=True)
    ]
    best = int(distance[1] < distance[0])
    apart = any(failures) or rows[0]["high"] < rows[1]["low"] or rows[1]["high"] < rows[0]["low"]
    css = ["", ""]
    css[best] = "font-weight: bold" + ("; color: #D55E00" if apart else "")
    return css


def training_curves(epochs: pd.DataFrame, truth: float, names: Sequence[str]) -> Figure:
    """MI of the training batches over epochs, a panel per family; median and range over seeds.

    A run that is not finite has no curve; a panel says so where no run of a loss has one.
    """
    figure, axes = panels(len(names), columns=3, height=2.0, sharex=True, sharey=True)
    for ax, family in zip(axes, names, strict=True):
        for loss, style in ((family, "-"), ("re" + family, "--")):
            runs = epochs[epochs["loss"] == loss]
            band(ax, runs, "mi", colour(loss), title(loss), style, x="epoch", percent=100)
            if not np.isfinite(runs["mi"]).any():
                ax.text(0.97, 0.1, f"{title(loss)} diverged", transform=ax.transAxes, ha="right")
        reference(ax, truth)
        ax.set(ylim=(-0.2, 1.15 * truth), xlabel="epoch", ylabel="MI (nats)", title=title(family))
        ax.label_outer()
    original_and_regularised(figure)
    return figure


def table2_dots(table: pd.DataFrame, truth: float, standing_for: str) -> Figure:
    """Table 2 as a picture: MI and accuracy per family, original open, regularised filled.

    Bars are 95% intervals over seeds, ticks the optimum of the loss, grey diamonds the paper's
    numbers on its own data set.
    """
    benchmarks, families = list(table["benchmark"].unique()), families_of(table["loss"])
    figure, axes = panels(2 * len(benchmarks), columns=2, height=2.7, sharey=True)
    for row, benchmark in enumerate(benchmarks):
        for ax, quantity in zip(axes[2 * row : 2 * row + 2], ("mi", "accuracy"), strict=True):
            block = table[(table["benchmark"] == benchmark) & (table["quantity"] == quantity)]
            for i, family in enumerate(families):
                for loss, dy in ((family, -0.18), ("re" + family, 0.18)):
                    _dot(ax, block[block["loss"] == loss].iloc[0], i + dy, colour(loss), dy > 0)
            name = "MI (nats)" if quantity == "mi" else "test accuracy"
            ax.set(
                xlabel=name, title=f"{benchmark.upper()}: {name}", ylim=(len(families) - 0.4, -0.6)
            )
            ax.set_yticks(range(len(families)), name_of(families))
            if quantity == "mi":
                reference_x(ax, truth, "H(Y)")
    handles = [
        mpl.lines.Line2D([], [], color="0.3", marker="o", ls="", mfc="white", label="original"),
        mpl.lines.Line2D([], [], color="0.3", marker="o", ls="", label="regularised"),
        mpl.lines.Line2D([], [], color="0.3", marker="|", ms=9, ls="", label="optimum of the loss"),
        mpl.lines.Line2D([], [], color="0.6", marker="D", ms=4, ls="", label=standing_for),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _dot(ax: Axes, row: pd.Series, y: float, hue: str, filled: bool) -> None:
    ax.plot(row["paper"], y, "D", color="0.6", ms=4)
    if row["theory"] is not None and np.isfinite(row["theory"]):
        ax.plot(row["theory"], y, "|", color="0.3", ms=9)
    if not np.isfinite(row["value"]):
        options: dict[str, Any] = {"color": hue, "fontsize": "xx-small", "va": "center"}
        ax.text(0.12, y, row["fate"], transform=ax.get_yaxis_transform(), **options)
        return
    ax.plot([row["low"], row["high"]], [y, y], color=hue, lw=1.2)
    ax.plot(row["value"], y, "o", color=hue, ms=5, mfc=hue if filled else "white")
