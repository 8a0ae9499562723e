"""Which lambda a regularised loss is reported at: three protocols, each with what it may see.

"best MI": the paper's, chosen after the fact by the distance of the training MI to H(Y).
"held-out": the largest MI on held-out pairs.  "fixed": one lambda for all.  A choice among values
that reach towards 0 can hardly lose to the original; only "fixed" compares like with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from remi_lib.checks import one_of
from remi_lib.experiments.benchmark import table2
from remi_lib.experiments.image_results import (
    CELL,
    at_weights,
    best_weight,
    fate,
    mi_error,
    per_run,
)
from remi_lib.experiments.image_runs import Results, Run, load
from remi_lib.losses import split_name

PROTOCOLS = ("best MI", "held-out", "fixed")


def choices(runs: pd.DataFrame, protocol: str, fixed: float) -> pd.Series:
    """Lambda of each regularised cell, indexed by :data:`~.image_results.CELL`.

    A diverged run is infinitely far from H(Y) and holds out nothing, so a lambda at which a seed
    diverged is taken only if all have one.
    """
    one_of("protocol", protocol, PROTOCOLS)
    twins = runs[[split_name(name)[1] for name in runs["loss"]]]
    if protocol == "fixed":
        if not (twins["weight"] == fixed).any():
            raise ValueError(f"fixed: lambda {fixed} is not one of those that were run")
        return twins.groupby(CELL, sort=False)["weight"].agg(lambda _: fixed)
    merit = -mi_error(twins) if protocol == "best MI" else twins["test_mi"].fillna(-float("inf"))
    return best_weight(twins, merit)


def choose(runs: Sequence[Run], results: Results, protocol: str, fixed: float) -> list[Run]:
    """Every original run, and the regularised ones at the lambda that the protocol chooses."""
    weights = choices(per_run(results), protocol, fixed)
    return [
        run
        for run in runs
        if not split_name(run.member.loss)[1] or run.member.weight == weights[_cell(run)]
    ]


def _cell(run: Run) -> tuple[str, str, str]:
    return run.task.dataset, run.task.benchmark, run.member.loss


def of_the_same_lambda(others: Sequence[Run], among: Sequence[Run]) -> list[Run]:
    """Those of other runs whose lambda is the one chosen for their loss on their cell."""
    taken = {(_cell(run), run.member.weight) for run in among}
    return [run for run in others if (_cell(run), run.member.weight) in taken]


def control(runs: Sequence[Run], among: Sequence[Run]) -> pd.DataFrame:
    """Runs in another precision beside the same of Table 2 (``among``), and their difference."""
    precision = among[0].task.precision
    twins = [replace(run, task=replace(run.task, precision=precision)) for run in runs]
    own, usual = per_run(load(runs)), per_run(load(twins))
    table = own[[*CELL, "seed", "weight"]].assign(
        precision=[run.task.precision for run in runs], precision_usual=precision
    )
    for frame, suffix in ((own, ""), (usual, "_usual")):
        for column in ("mi", "accuracy"):
            table[column + suffix] = frame[column]
        table["fate" + suffix] = frame.apply(fate, axis=1)
    for column in ("mi", "accuracy"):
        table[column + "_difference"] = table[column] - table[column + "_usual"]
    return table.reset_index(drop=True)


def by_protocol(results: Results, fixed: float) -> pd.DataFrame:
    """Table 2 under each protocol, long, with the lambda of each cell (NaN for an original)."""
    runs = per_run(results)
    tables = []
    for protocol in PROTOCOLS:
        weights = choices(runs, protocol, fixed)
        table = table2(at_weights(runs, weights))
        taken = weights.reindex(pd.MultiIndex.from_frame(table[CELL])).to_numpy()
        tables.append(table.assign(protocol=protocol, weight=taken))
    return pd.concat(tables, ignore_index=True)
