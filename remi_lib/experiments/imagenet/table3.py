"""Table 3 and Fig 9 from finished long runs: the runs they need and their readings.

CE of Table 3 is InfoNCE on SLB's table: they differ by the constant log K.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from remi_lib.experiments import published
from remi_lib.experiments.image_results import cell_text, number_text, outcome
from remi_lib.experiments.imagenet.longrun import Results
from remi_lib.experiments.imagenet.training import LongRun
from remi_lib.losses import split_name, title
from remi_lib.tasks import BENCHMARKS, ImageTask, Member

LOSSES3 = ("infonce", "mine", "remine", "nwj", "renwj")
PAPER_CLASSES = 1000


def runs_of(
    losses: Sequence[str],
    *,
    seeds: int | Iterable[int],
    batch: int,
    weights: Mapping[str, float],
    epochs: int,
    lr: float,
    augment: str = "resize",
    **task: Any,
) -> list[LongRun]:
    """The runs of Table 3: both benchmarks, every seed; ``weights``: lambda of each benchmark.

    The small network trains all losses of a seed as one run, a residual one one loss a run.
    """
    if set(weights) != set(BENCHMARKS):
        raise ValueError(f"weights: {dict(weights)} must name {' and '.join(BENCHMARKS)}")
    runs = []
    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        for benchmark in BENCHMARKS:
            members = [
                Member(loss, seed, batch, weights[benchmark] if split_name(loss)[1] else None)
                for loss in losses
            ]
            where = ImageTask(benchmark=benchmark, **task)
            groups = [members] if where.stacks else [[m] for m in members]
            runs += [LongRun(where, tuple(group), epochs, lr, augment) for group in groups]
    return runs


def name(loss: str, benchmark: str) -> str:
    """The printed name; InfoNCE is CE in SLB."""
    return "CE" if (loss, benchmark) == ("infonce", "slb") else title(loss)


def batches_of(results: Results) -> pd.DataFrame:
    """Every batch's row with its benchmark."""
    benchmark = results.summary.drop_duplicates("run").set_index("run")["benchmark"]
    return results.batches.assign(benchmark=results.batches["run"].map(benchmark))


def middle(last: int) -> int:
    """The epoch from which on drift is counted, of those from 0 to ``last``."""
    return last // 2


def per_run(results: Results) -> pd.DataFrame:
    """A row per run and member: MI, accuracy, drift, and how it ended.

    ``drift`` and ``settling``: log E_Q[e^T] and MI, last epoch minus the middle one (nats).
    """
    keys = ["run", "loss"]
    batches = results.batches
    runs = results.summary.set_index(keys)
    last = batches["epoch"] == batches["epoch"].max()
    half_way = batches["epoch"] == middle(batches["epoch"].max())
    paired = batches["pairs"] > 0
    late, early = (batches[paired & when].groupby(keys) for when in (last, half_way))
    runs["mi"], runs["mi_sd"] = late["mi"].mean(), late["mi"].std()
    runs["settling"] = late["mi"].mean() - early["mi"].mean()
    second = [batches[when].groupby(keys)["log_partition"].mean() for when in (last, half_way)]
    runs["drift"] = second[0] - second[1]
    lost = runs["diverged_step"].notna()
    runs.loc[lost, ["mi", "mi_sd", "settling", "drift", "accuracy"]] = np.nan
    return runs.reset_index()


def table3(runs: pd.DataFrame, entropy: float) -> pd.DataFrame:
    """Table 3, long: a row per benchmark, loss and quantity, ours and the paper's.

    ``share``: MI over H(Y), the only scale on which two data sets compare; log 1000 for ImageNet.
    """
    published = _published()
    rows = []
    for benchmark, loss in product(BENCHMARKS, LOSSES3):
        own = runs[(runs["benchmark"] == benchmark) & (runs["loss"] == loss)]
        if own.empty:
            continue
        for quantity in ("mi", "accuracy"):
            cell = outcome(own, quantity)
            printed = published.get((benchmark, loss, quantity), np.nan)
            scale = (entropy, math.log(PAPER_CLASSES)) if quantity == "mi" else (np.nan, np.nan)
            rows.append(
                {
                    "benchmark": benchmark,
                    "loss": loss,
                    "quantity": quantity,
                    **cell,
                    "paper": printed,
                    "share": cell["value"] / scale[0],
                    "paper_share": printed / scale[1],
                }
            )
    return pd.DataFrame(rows)


def _published() -> dict[tuple[str, str, str], float]:
    """The paper's Table 3 by (benchmark, loss, quantity); CE is called infonce."""
    rows = published.table3_long().set_index(["benchmark", "loss"])[["mi", "accuracy"]]
    return rows.stack().to_dict()


def printed_table3(table: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Table 3 for display: ours beside the paper's."""
    rows = {}
    for (benchmark, loss), block in table.groupby(["benchmark", "loss"], sort=False):
        mi, accuracy = (
            block[block["quantity"] == quantity].iloc[0] for quantity in ("mi", "accuracy")
        )
        rows[benchmark.upper(), name(loss, benchmark)] = {
            ("MI (nats)", ours): cell_text(mi),
            ("MI (nats)", "paper, ImageNet"): number_text(mi["paper"]),
            ("MI / H(Y)", ours): number_text(mi["share"]),
            ("MI / H(Y)", "paper, ImageNet"): number_text(mi["paper_share"]),
            ("accuracy", ours): cell_text(accuracy, ".4f"),
            ("accuracy", "paper, ImageNet"): number_text(accuracy["paper"], ".4f"),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def curves(batches: pd.DataFrame, columns: Sequence[str], points: int) -> pd.DataFrame:
    """Means of a history over ``points`` equal stretches of steps, per benchmark, loss and seed."""
    width = max((batches["step"].max() + 1) // points, 1)
    stretch = (batches["step"] // width * width + (width - 1) / 2).rename("step")
    groups = [batches[k] for k in ("benchmark", "loss", "seed")]
    return batches.groupby([*groups, stretch], sort=False)[list(columns)].mean().reset_index()
