"""The image runs that a table needs, and what finished ones say; nothing here trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch

from remi_lib.evaluation import micro
from remi_lib.experiments.image_runs import Results, Run
from remi_lib.images import load_images
from remi_lib.intervals import interval, missing
from remi_lib.losses import make_loss, per_row, split_name
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

    ``epochs``: of each benchmark.  ``rejs_target`` "consistent": E_Q[softplus T] at JS's optimum.
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

    ``mi`` is the paper's, the mean over the last epoch's batches; ``micro`` pools them, ``exact``
    takes all pairs of the split with the final network; ``test_``: of held-out pairs.  A diverged
    run reads NaN throughout: a network of NaNs classifies nothing.
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
    apart = per_row(run["loss"])
    second = row_term if apart else log_partition
    if apart:  # a mean over joint pairs, with no exponential to pool
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


def best_weight(runs: pd.DataFrame, merit: pd.Series) -> pd.Series:
    """The lambda of each cell at which the mean of ``merit`` over seeds is largest."""
    means = merit.groupby([*(runs[key] for key in CELL), runs["weight"]], sort=False).mean()
    return means.groupby(CELL, sort=False).idxmax().map(lambda cell: cell[-1])


def at_weights(runs: pd.DataFrame, weights: pd.Series) -> pd.DataFrame:
    """The original runs, and of each regularised cell those at its lambda in ``weights``."""
    at = weights.reindex(pd.MultiIndex.from_frame(runs[CELL])).to_numpy()
    return runs[(runs["weight"] == at) | pd.isna(at)]


def fate(run: pd.Series) -> str:
    """How a run ended if it did not train: "diverged at step 0", "frozen", ""."""
    if np.isfinite(run["diverged_step"]):
        return f"diverged at step {run['diverged_step']:.0f}"
    return "frozen" if run["frozen"] else ""


def failed(runs: pd.DataFrame) -> pd.Series:
    """Whether each run diverged or froze."""
    return runs["diverged_step"].notna() | runs["frozen"]


def mi_error(runs: pd.DataFrame, entropy: float | None = None) -> pd.Series:
    """|MI - H(Y)| of each run in nats; infinite for a run that diverged.

    ``entropy``: H(Y), where it is known without the images that it is counted on.
    """
    if entropy is None:
        entropy = runs["dataset"].map(lambda name: load_images(name).entropy)
    return (runs["mi"] - entropy).abs().fillna(np.inf)


def accuracy_or_guess(runs: pd.DataFrame) -> pd.Series:
    """The accuracy of each run; of a run that diverged that of a guess, 1/K."""
    guess = runs["dataset"].map(lambda name: 1 / load_images(name).classes)
    return runs["accuracy"].fillna(guess)


def number_text(value: float | None, form: str = ".3f") -> str:
    """A number as printed; nothing where there is none."""
    return "" if value is None or np.isnan(value) else format(value, form)


def plus_minus(value: float, half: float, form: str = ".3f") -> str:
    """A number with half the width of its interval, "1.927 ± 0.031"; nothing for NaN."""
    return "" if np.isnan(value) else f"{value:{form}} ± {half:{form}}"


def cell_text(row: Mapping, form: str = ".3f") -> str:
    """A cell of Table 2 as printed: "1.927 ± 0.031", or how its runs failed."""
    if row["failed"] == row["seeds"]:
        return row["fate"]
    lost = f"{row['failed']} of {row['seeds']} {row['fate']}" if row["failed"] else ""
    if np.isnan(row["value"]):  # a single run that trained has no interval
        return lost
    text = plus_minus(row["value"], (row["high"] - row["low"]) / 2, form)
    return f"{text}; {lost}" if lost else text


def outcome(runs: pd.DataFrame, quantity: str) -> dict[str, Any]:
    """A cell of a table: an interval over the runs that trained, and how the others ended."""
    ends = runs.apply(fate, axis=1)
    fine, lost = runs.loc[ends == "", quantity], ends[ends != ""]
    estimate = interval(fine) if len(fine) > 1 else missing()
    way = lost.mode().iloc[0] if len(lost) else ""
    return {**estimate._asdict(), "failed": len(lost), "seeds": len(runs), "fate": way}


def ended(runs: pd.DataFrame, quantities: Mapping[str, str]) -> pd.DataFrame:
    """A row per loss: its seeds, and each quantity, by its heading, as :func:`cell_text` has it."""
    rows = {}
    for loss, own in runs.groupby("loss"):
        found = {heading: outcome(own, key) for key, heading in quantities.items()}
        rows[loss] = {"seeds": len(own)} | {k: cell_text(row) for k, row in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index")
