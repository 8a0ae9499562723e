"""Which runs the image notebooks ask for, as a function of their parameters alone.

The notebooks train these lists, and the projection of GPU-hours counts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remi_lib.experiments.image_results import runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.lambda_sweep import TWINS, lambda_runs, scale_runs, two_by_two
from remi_lib.experiments.published import FAILING
from remi_lib.losses import FAMILIES, LOSSES

CONTROL = ("infonce", "nwj", "renwj")  # trains, fails, is rescued


def cells(
    datasets: Sequence[str], batches: Sequence[int], *epochs: Sequence[int]
) -> Iterator[tuple[dict[str, Any], tuple[int, ...]]]:
    """A data set with its batch size and its numbers of epochs, one after the other.

    Raises ValueError where the lists differ in length.
    """
    for name, batch, *counts in zip(datasets, batches, *epochs, strict=True):
        yield {"dataset": name, "batch": batch}, tuple(counts)


def table2_runs(
    *,
    datasets: Sequence[str],
    batches: Sequence[int],
    slb_epochs: Sequence[int],
    clb_epochs: Sequence[int],
    weights: Sequence[float],
    rejs_target: float | str,
    other_targets: Sequence[float | str] = (),
    **options: Any,
) -> dict[str, list[Run]]:
    """Table 2: "main", the twelve losses with every lambda of ``weights``, in both benchmarks;
    "variants", ReJS in SLB with other targets at every lambda.

    ``options``: seeds, lr and the fields of :class:`~remi_lib.tasks.ImageTask`.
    """
    main: list[Run] = []
    variants: list[Run] = []
    for cell, (slb, clb) in cells(datasets, batches, slb_epochs, clb_epochs):
        own = {**options, **cell, "epochs": {"slb": slb, "clb": clb}}
        for i, weight in enumerate(weights):
            losses = TWINS if i else LOSSES  # an original has no lambda
            main += runs_of(losses, weight=weight, rejs_target=rejs_target, **own)
            supervised = {**own, "epochs": {"slb": slb}, "weight": weight}
            for target in other_targets:
                variants += runs_of(["rejs"], rejs_target=target, **supervised)
    return {"main": main, "variants": variants}


def precision_control(runs: Sequence[Run], precision: str, weight: float) -> list[Run]:
    """CLB at seed 0 of :data:`CONTROL`'s losses in another precision, a column beside Table 2."""
    found = [
        run
        for run in runs
        if run.task.benchmark == "clb"
        and run.member.seed == 0
        and run.member.loss in CONTROL
        and run.member.weight in (None, weight)
        and precision not in ("", run.task.precision)
    ]
    return [replace(run, task=replace(run.task, precision=precision)) for run in found]


def fig6_runs(
    *,
    datasets: Sequence[str],
    batches: Sequence[int],
    clb_epochs: Sequence[int],
    weights: Sequence[float],
    **options: Any,
) -> list[Run]:
    """Fig 6: the six regularised losses in CLB at every lambda."""
    return [
        run
        for cell, (epochs,) in cells(datasets, batches, clb_epochs)
        for run in lambda_runs(weights, epochs={"clb": epochs}, **{**options, **cell})
    ]


def original_runs(
    *,
    datasets: Sequence[str],
    batches: Sequence[int],
    clb_epochs: Sequence[int],
    **options: Any,
) -> list[Run]:
    """The six losses without penalty in CLB, notebook 4's, to compare each lambda with."""
    return [
        run
        for cell, (epochs,) in cells(datasets, batches, clb_epochs)
        for run in runs_of(FAMILIES, epochs={"clb": epochs}, **{**options, **cell})
    ]


def square_runs(
    *,
    datasets: Sequence[str],
    batches: Sequence[int],
    square_epochs: Sequence[int],
    weight: float,
    tau: float,
    **options: Any,
) -> dict[str, list[Run]]:
    """Clip x penalty on every data set, see :func:`~.lambda_sweep.two_by_two`."""
    found: dict[str, list[Run]] = {}
    for cell, (epochs,) in cells(datasets, batches, square_epochs):
        square = two_by_two(weight, tau, epochs={"clb": epochs}, **{**options, **cell})
        for key, runs in square.items():
            found.setdefault(key, []).extend(runs)
    return found


def scaled_runs(
    *,
    datasets: Sequence[str],
    batches: Sequence[int],
    clb_epochs: Sequence[int],
    short_epochs: int,
    weight: float,
    shapes: Mapping[str, Mapping[str, Any]],
    losses: Sequence[str] = FAILING,
    **options: Any,
) -> dict[str, list[Run]]:
    """The failing families under each setting of the scores, for at most ``short_epochs``."""
    found: dict[str, list[Run]] = {}
    for cell, (epochs,) in cells(datasets, batches, clb_epochs):
        own = {**options, **cell, "epochs": {"clb": min(short_epochs, epochs)}}
        for key, runs in scale_runs(shapes, weight, losses, **own).items():
            found.setdefault(key, []).extend(runs)
    return found


def score_shapes(widths: Sequence[int], outputs: int) -> dict[str, dict[str, Any]]:
    """Notebook 5's settings of the scores: embeddings' widths, two scales, a linear head."""
    shapes: dict[str, dict[str, Any]] = {f"plain, width {w}": {"width": w} for w in widths}
    shapes |= {"divided by √d": {"scale": "sqrt"}, "cosine / 0.1": {"scale": "cosine"}}
    return shapes | {f"linear head, {outputs}": {"outputs": outputs}}


FIG8_LOSSES = ("infonce", "remine", "resmile", "reinfonce", "renwj", "retuba", "rejs")


def fig8_runs(*, dataset: str, epochs: int, **options: Any) -> list[Run]:
    """Fig 8: SLB trainings of InfoNCE and the regularised losses at one lambda, to be counted."""
    return runs_of(FIG8_LOSSES, dataset=dataset, epochs={"slb": epochs}, **options)


def together(groups: Mapping[str, Sequence[Run]]) -> list[Run]:
    """The runs of all groups, one after the other."""
    return [run for runs in groups.values() for run in runs]
