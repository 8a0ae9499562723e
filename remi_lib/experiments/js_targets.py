"""ReJS at the target 0 in SLB on CIFAR-10: does its gain over JS survive another target?

The paper names no target for ReJS.  :mod:`.small_images` and :mod:`.full_cifar10` take 1, as the
authors' code for images has it; their Gaussian code has 0.  But for the target the runs are the
same.  The 10,000 images have the paper's three lambdas, all images two: the one that ReJS has
there, and the one whose MI on the 10,000 is best at this target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from remi_lib.experiments import full_cifar10, small_images
from remi_lib.experiments.image_results import mi_error, runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.small_images import NOTEBOOK, cell_of, offered
from remi_lib.experiments.verdicts import benchmark
from remi_lib.experiments.verdicts.common import PAPER_WEIGHTS, at_best_weight, trained
from remi_lib.intervals import mean_interval
from remi_lib.replication.cells import Cell, Tables
from remi_lib.replication.claims import Ledger

TARGET = 0.0
ENTROPY = math.log(10)  # as many images of each class
WEIGHT = 0.01  # whose MI is best on the 10,000 images at this target
KEYS = ["dataset", "loss", "weight", "seed"]  # what tells a row of the table from the others
COLUMNS = ["target", "accuracy", "mi", "test_mi", "exact", "diverged_step", "frozen", "epochs"]


def planned() -> list[Run]:
    """The 10,000 images at every lambda, seed by seed; then all images at two."""
    slb = small_images.options("slb")
    ten_thousand = [
        run
        for weight in PAPER_WEIGHTS
        for run in runs_of(["rejs"], weight=weight, rejs_target=TARGET, **slb)
    ]
    all_images = [
        run
        for weight in (full_cifar10.WEIGHTS["rejs"], WEIGHT)
        for run in runs_of(["rejs"], weight=weight, rejs_target=TARGET, **full_cifar10.options())
    ]
    return [*sorted(ten_thousand, key=lambda run: run.member.seed), *all_images]


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        whole = run.task.dataset == full_cifar10.DATASET  # each has its own pace
        name = f"rejs target 0 lambda {run.member.weight:g} seed {run.member.seed}"
        yield cell_of(run, "target-0-full" if whole else "target-0", name)


def rows_of(found: Mapping[Run, Tables]) -> pd.DataFrame:
    """A row per finished run."""
    return small_images.rows_of(found)[[*KEYS, *COLUMNS, "read"]]


def beside(
    rows: pd.DataFrame, ten_thousand: pd.DataFrame, all_images: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame]]:
    """By data set the runs of JS and of ReJS at either target.

    ``ten_thousand``, ``all_images``: the tables that have JS, and ReJS at the other target.
    """
    for dataset, runs in {
        small_images.DATASET: ten_thousand[ten_thousand["benchmark"] == "slb"],
        full_cifar10.DATASET: all_images.assign(target=small_images.REJS_TARGET),
    }.items():
        own = pd.concat([runs, rows[rows["dataset"] == dataset]])
        own = own[own["loss"].isin(["js", "rejs"])].assign(dataset=dataset, benchmark="slb")
        yield dataset, own


def judge(
    rows: pd.DataFrame, ten_thousand: pd.DataFrame, all_images: pd.DataFrame, profile: str
) -> Ledger:
    """Judge on both data sets whether ReJS comes closer, from two seeds or more that all have.

    Tables as :func:`beside` takes them.
    """
    ledger = Ledger(NOTEBOOK, profile, [small_images.DATASET, full_cifar10.DATASET])
    for dataset, runs in beside(rows, ten_thousand, all_images):
        own = runs[(runs["loss"] == "js") | (runs["target"] == TARGET)].assign(tau=np.nan)
        own = offered(own, ("js", "rejs"))
        if own["seed"].nunique() > 1 and trained(at_best_weight(own), ["js"]):
            benchmark.judge_js_target(ledger, dataset, own)
    return ledger


def _gain(js: pd.Series, rejs: pd.Series) -> str:
    """The mean gain from errors by seed, with its 95% interval, which one seed does not have."""
    js, rejs = js.align(rejs, join="inner")
    if np.isinf([js, rejs]).any():
        return "diverged"
    gains = js - rejs
    return str(mean_interval(gains)) if len(gains) > 1 else f"{gains.mean():.3f}"


def gained(
    rows: pd.DataFrame, ten_thousand: pd.DataFrame, all_images: pd.DataFrame
) -> pd.DataFrame:
    """By how much ReJS comes closer to H(Y) than JS (nats): a row per target and lambda.

    Tables as :func:`beside` takes them; needs no images.
    """
    titles = {dataset: images for images, dataset in full_cifar10.SIZES.items()}
    found = {}
    for dataset, runs in beside(rows, ten_thousand, all_images):
        runs = runs.assign(error=mi_error(runs, ENTROPY)).set_index("seed")
        js, rejs = runs.loc[runs["loss"] == "js", "error"], runs[runs["loss"] == "rejs"]
        found[titles[dataset]] = {
            (target, weight): _gain(js, own["error"])
            for (target, weight), own in rejs.groupby(["target", "weight"])
        }
    table = pd.DataFrame(found).rename_axis(["target", "λ"]).fillna("–")
    return table.sort_index(ascending=[False, True])
