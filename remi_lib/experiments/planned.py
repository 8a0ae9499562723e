"""Which runs the image notebooks train, and the GPU-hours count, from their parameters alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remi_lib.experiments.image_results import runs_of
from remi_lib.experiments.image_runs import Run
from remi_lib.experiments.lambda_sweep import TWINS, lambda_runs, scale_runs, two_by_two
from remi_lib.losses import FAMILIES, LOSSES

CONTROL = ("infonce", "nwj", "renwj")  # trains, fails, is rescued


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
    """
    main: list[Run] = []
    variants: list[Run] = []
    for name, batch, slb, clb in zip(datasets, batches, slb_epochs, clb_epochs, strict=True):
        own = {**options, "dataset": name, "batch": batch, "epochs": {"slb": slb, "clb": clb}}
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


def _in_clb(
    epochs: Sequence[int], *, datasets: Sequence[str], batches: Sequence[int], **options: Any
) -> Iterator[dict[str, Any]]:
    """Options of CLB's runs, a data set after the other."""
    for name, batch, count in zip(datasets, batches, epochs, strict=True):
        yield {**options, "dataset": name, "batch": batch, "epochs": {"clb": count}}


def fig6_runs(*, clb_epochs: Sequence[int], weights: Sequence[float], **options: Any) -> list[Run]:
    """Fig 6: the six regularised losses in CLB at every lambda."""
    return [run for own in _in_clb(clb_epochs, **options) for run in lambda_runs(weights, **own)]


def original_runs(*, clb_epochs: Sequence[int], **options: Any) -> list[Run]:
    """The six losses without penalty in CLB, notebook 4's, to compare each lambda with."""
    return [run for own in _in_clb(clb_epochs, **options) for run in runs_of(FAMILIES, **own)]


def square_runs(
    *, square_epochs: Sequence[int], weight: float, tau: float, **options: Any
) -> dict[str, list[Run]]:
    """Clip x penalty on every data set, see :func:`~.lambda_sweep.two_by_two`."""
    return _joined(two_by_two(weight, tau, **own) for own in _in_clb(square_epochs, **options))


def scaled_runs(
    *,
    clb_epochs: Sequence[int],
    short_epochs: int,
    weight: float,
    shapes: Mapping[str, Mapping[str, Any]],
    **options: Any,
) -> dict[str, list[Run]]:
    """The failing families under each setting of the scores, for at most ``short_epochs``."""
    short = [min(short_epochs, epochs) for epochs in clb_epochs]
    return _joined(scale_runs(shapes, weight, **own) for own in _in_clb(short, **options))


def _joined(parts: Iterable[Mapping[str, list[Run]]]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for part in parts:
        for key, runs in part.items():
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
