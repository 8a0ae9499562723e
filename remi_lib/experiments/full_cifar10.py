"""SLB on all 50,000 training images of CIFAR-10: are MI losses ahead of cross-entropy there, too?

And does the penalty gain them anything?  :mod:`.small_images` has a fifth of the images, few enough
for its networks to fit.  Network, batch and rate are the same here.  A difference of accuracies is
judged image by image (:mod:`.image_answers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from remi_lib.experiments import image_answers, published, small_images
from remi_lib.experiments.image_answers import packed, unpacked
from remi_lib.experiments.image_results import runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.published import AHEAD
from remi_lib.experiments.small_images import CROSS_ENTROPY, NOTEBOOK, REJS_TARGET
from remi_lib.experiments.verdicts import benchmark
from remi_lib.experiments.verdicts.common import at_complete_seeds, test_images
from remi_lib.experiments.verdicts.findings import pairs_that_train
from remi_lib.images import load_images
from remi_lib.intervals import Estimate
from remi_lib.losses import FAMILIES, title
from remi_lib.replication.cells import Cell, Tables
from remi_lib.replication.claims import Ledger

DATASET, EPOCHS, SEEDS = "cifar10", 10, 3
SIZES = {"10,000 images": small_images.DATASET, "50,000 images": DATASET}
LOSSES = (CROSS_ENTROPY, *AHEAD)
# Each regularised loss at the lambda whose MI on the 10,000 images is best: chosen on other runs.
WEIGHTS = {
    "remine": 0.1,
    "resmile": 0.001,
    "renwj": 0.1,
    "retuba": 0.001,
    "reinfonce": 0.1,
    "rejs": 0.1,
}
PAIRS = (*WEIGHTS, "js")  # what the penalty's claims need beside LOSSES
KEYS = ["loss", "seed"]  # what tells a row of the table from the others
COLUMNS = ["weight", "accuracy", "mi", "test_mi", "exact", "test_exact", "diverged_step", "frozen"]


def options(seeds: Sequence[int] | None = None) -> dict[str, Any]:
    """What all runs have in common, as ``runs_of`` takes it."""
    slb = {
        "dataset": DATASET,
        "epochs": {"slb": EPOCHS},
        "seeds": SEEDS if seeds is None else seeds,
    }
    return small_images.options("slb") | slb


def planned() -> list[Run]:
    """Cross-entropy and the losses that the paper finds ahead of it, then :data:`PAIRS`.

    Each half seed by seed.
    """
    originals = runs_of(LOSSES, **options())
    others = [
        run
        for seed in range(SEEDS)
        for loss in PAIRS
        for run in runs_of(
            [loss], weight=WEIGHTS.get(loss), rejs_target=REJS_TARGET, **options([seed])
        )
    ]
    return [*originals, *others]


def image_cells() -> Iterator[Cell]:
    """:func:`planned`, a cell a run."""
    for run in planned():
        name = f"{run.task.dataset} {run.member.loss} seed {run.member.seed}"
        compute = partial(image_answers.answered, run, f"all images, {name}")
        module = image_answers.__name__
        yield Cell("table2-full", name, "answers", run.config, module, run.epochs, compute)


def rows_of(found: Mapping[Run, Tables]) -> pd.DataFrame:
    """A row per finished run.

    ``right``: the test images that the network classifies correctly, a bit each, as
    :func:`packed` has them.
    """
    answers = [packed(tables["answers"]["right"].to_numpy()) for tables in found.values()]
    runs = {
        run: {name: table for name, table in tables.items() if name != "answers"}
        for run, tables in found.items()
    }
    rows = small_images.rows_of(runs)[[*KEYS, *COLUMNS, "epochs", "read"]]
    return rows.assign(right=answers)


def judge(rows: pd.DataFrame, profile: str) -> Ledger:
    """Judge what seeds at which a claim's losses all ran, two at least, decide of messages 8, 9.

    One of :data:`PAIRS` counts once all of its seeds ran.
    """
    ledger = Ledger(NOTEBOOK, profile, [DATASET])
    seeds = rows.groupby("loss")["seed"].nunique()
    others = [name for name in PAIRS if seeds.get(name, 0) >= SEEDS]
    for losses, judged in (
        (LOSSES, benchmark.judge_beats_ce),
        ((*LOSSES, *others), benchmark.judge_pairs),
    ):
        own = at_complete_seeds(rows, losses).assign(dataset=DATASET)
        if own["seed"].nunique() > 1:
            judged(ledger, DATASET, benchmark.prepared(own), answers(own))
    return ledger


def shown(entry: Mapping[str, Any]) -> str:
    """The value of a claim or of a part of it, with its 95% interval."""
    return str(Estimate(entry["value"], *entry["interval"]))


def ahead(entries: pd.DataFrame) -> pd.DataFrame:
    """Accuracy minus cross-entropy's as judged, with 95% intervals: a column per number of images.

    ``entries``: of the claims, by id.  A row per loss, and the mean of all, which is the claim.
    """
    return _by_size(entries, "table2.slb.beats-ce", AHEAD)


def penalised(entries: pd.DataFrame) -> pd.DataFrame:
    """What the penalty gains each family, in MI (nats closer) and accuracy, as :func:`ahead`.

    Beside it what the paper prints.  The last row's accuracy is no claim and has no interval.
    """
    pairs = pairs_that_train(published.table2())
    printed = pairs.query("task == 'slb' and dataset == 'cifar10'").set_index("loss")
    found = {}
    for name, (claim, column) in {
        "MI closer (nats)": ("table2.slb.closer", "closer"),
        "accuracy": ("table2.slb.accuracy", "better"),
    }.items():
        gain = printed[column]
        paper = {title(str(x)): f"{value:.3f}" for x, value in gain.items()}
        paper["their mean"] = f"{gain.mean():.3f}"
        paper["mean but for JS"] = f"{gain.drop('js').mean():.3f}"
        found[name] = _by_size(entries, claim, FAMILIES).assign(paper=pd.Series(paper))
    return pd.concat(found, axis=1)


def _by_size(entries: pd.DataFrame, claim: str, losses: Sequence[str]) -> pd.DataFrame:
    """A claim's parts and the claim."""
    found = {}
    for images, dataset in SIZES.items():
        entry = entries.loc[f"{claim}@{dataset}"]
        parts = {x: entry["parts"][x] for x in losses}
        rows = {title(x): own for x, own in parts.items()} | {"their mean": entry}
        found[images] = {x: shown(own) for x, own in rows.items()}
        if "js" in parts:
            found[images]["mean but for JS"] = _without_js(entries, claim, dataset, parts)
    return pd.DataFrame(found)


def _without_js(entries: pd.DataFrame, claim: str, dataset: str, parts: Mapping) -> str:
    """The mean of the other five, with its interval where it is a claim of its own."""
    own = f"{claim}-without-js@{dataset}"
    if own in entries.index:
        return shown(entries.loc[own])
    return f"{np.mean([own['value'] for loss, own in parts.items() if loss != 'js']):.3f}"


def answers(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per test image, a column per loss: the share of its seeds that get the image right.

    A run that diverged guesses, as its accuracy does.
    """
    images, guess = test_images(DATASET), 1 / load_images(DATASET).classes

    def bits(run: pd.Series) -> np.ndarray:
        lost = np.isfinite(run["diverged_step"])
        return np.full(images, guess) if lost else unpacked(run["right"], images)

    by_loss = rows.groupby("loss", sort=False)
    return pd.DataFrame(
        {loss: np.mean([bits(run) for _, run in own.iterrows()], 0) for loss, own in by_loss}
    )
