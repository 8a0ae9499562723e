"""The way from two arrays to an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from remi_lib.estimate.columns import MARGINS, Column, Margins, columns_of, described
from remi_lib.estimate.columnwise import columnwise, once
from remi_lib.estimate.folds import copies
from remi_lib.estimate.independence import MOST, permutation_p
from remi_lib.estimate.inputs import enough, paired, together
from remi_lib.estimate.neighbours import MANY, K, error_of, mean_and_interval
from remi_lib.estimate.networks import (
    MORE,
    Networks,
    Sample,
    asked,
    local_of,
    train_and_read,
    warnings_of,
)
from remi_lib.estimate.options import Options
from remi_lib.estimate.reading import Reading
from remi_lib.estimate.result import MutualInformation, interval_of
from remi_lib.estimate.tables import categories_of
from remi_lib.streams import numpy_generator

CHOSEN = 4.0  # errors, by which the strongest of many pairs must see more
PER_VALUE = 5  # samples on average of each combination of labels, for several to be one column


def estimate_mi(
    x: Any,
    y: Any,
    seed: int = 0,
    *,
    method: str = "auto",
    loss: str | None = None,
    weight: float | None = None,
    tau: float | None = None,
    margins: Margins = "both",
    categories: int = 32,
    groups: ArrayLike | None = None,
    drop_missing: bool = False,
    bits: bool = False,
    base: bool = True,
    seeds: int = 1,
    folds: int = 5,
    steps: int = 1000,
    patience: int = 3,
    batch: int = 128,
    partners: int = 4,
    hidden: Sequence[int] = (64, 64),
    lr: float = 5e-3,
    device: str | torch.device = "auto",
    label: str | None = "estimate_mi",
) -> MutualInformation:
    """Estimate I(X; Y) from paired samples, with a lower confidence bound and warnings.

    Args:
        x, y: paired samples, a row each: an array, a tensor, a data frame or series, a list, a
            sparse matrix; (n,) or (n, d), the two of any width.  Text, categories, booleans and
            numbers of few values are labels.  Two pandas objects must have the same index.
        seed: of the folds, the critics, the batches and the permutations; equal seeds give equal
            results.
        method: "auto": neighbours or a table of counts where each side is one column, critics
            elsewhere, or if an argument that only they know is given (``loss``, ``weight``,
            ``tau``, ``margins``, ``base``, ``groups``).  "critics", "neighbours", "table": that
            one.
        loss: what the critics are trained with, any of :func:`~remi_lib.losses.make_loss`;
            "remine" if None.  The reading is the Donsker-Varadhan bound of the unclipped critic,
            for the InfoNCE losses InfoNCE itself, whose critics are known up to a function of x
            only.
        weight, tau: of the loss; its defaults if None.
        margins: what the networks see of a numeric column.  "both": standardised (by median and
            quartiles, ending at 4 of their standard deviations), and once more as the normal
            scores of its ranks.  "ranks": these alone.  "standard": mean 0 and standard deviation
            1.  "raw": as it is.  MI does not change under an invertible map of x or y, what the
            critics can learn does.
        categories: numbers of at most so many values, and of a third as many as samples, are
            labels; 0: none are.
        groups: (n,) labels of samples that belong together (repeated measurements of one thing):
            a group is in one fold (critics alone know groups).  If None, rows that look like copies
            of each other are.
        drop_missing: leave out rows with a missing or infinite value, in place of an error.
        bits: the unit is the bit, log 2 nats.
        base: stack the networks with a critic in closed form, of a normal or a Student t copula
            (and lay it under them).  False: networks alone.
        seeds, folds: networks of a kind that are averaged per fold, and folds of the cross-fit.
        steps: optimiser steps at most.  Every 50 steps each critic is read on held-out pairs of
            its own; it is taken at its best, and training ends when the best have not risen by a
            thousandth of a nat, on average, for ``patience`` looks.
        batch, partners: samples in a batch, and product pairs that each makes with others of it.
        hidden, lr: widths of the critic's SiLU layers, Adam's learning rate.
        device: "auto", "cuda", "mps", "cpu", or a device of torch.
        label: of the progress bar; no bar if None.

    Raises:
        ValueError: an argument that does not fit; the message begins with its name.
    """
    given = {k: v for k, v in locals().items() if k not in ("x", "y", "groups", "drop_missing")}
    options = Options(**given)
    if groups is not None and options.method in ("neighbours", "table"):
        raise ValueError(f"groups: method={options.method!r} takes none; method='critics' does")
    sample, notes = sampled(x, y, options.categories, groups, drop_missing, 4 * options.folds)
    grouped = groups is not None and options.method == "auto"
    pair = None if grouped else one_pair(sample, options)
    if pair is None:
        return _by_critics(sample, options, notes)
    pair = once(*pair, sample.groups)
    settings: dict[str, Any] = {"samples": len(pair[0]), "seed": options.seed}
    settings |= {n: described(c, "by its ranks", "by its labels") for n, c in sample.sides}
    return columnwise(*pair, options.seed, notes=notes, settings=settings, bits=options.bits)


def sampled(
    x: Any,
    y: Any,
    categories: int,
    groups: ArrayLike | None = None,
    drop_missing: bool = False,
    least: int = 0,
    second: str = "y",
) -> tuple[Sample, list[str]]:
    """The pairs as columns, and what there is to be said of them; ``second``: what y is called.

    Raises ValueError as :func:`estimate_mi` does.
    """
    frame_x, frame_y, kept = paired(x, y, drop_missing, second)
    n, notes = len(frame_x), []
    enough("x", n, least)
    if n < len(kept):
        notes.append(f"{len(kept) - n} of {len(kept)} rows have missing values and were left out")
    columns = columns_of("x", frame_x, categories), columns_of(second, frame_y, categories)
    if groups is not None:
        return Sample(*columns, together(groups, x, len(kept))[kept]), notes
    labels = [all(c.discrete for c in side) for side in columns]
    same = copies(*(None if d else f for f, d in zip((frame_x, frame_y), labels, strict=True)))
    if same is not None:
        notes.append(
            f"{n - len(np.unique(same))} of {n} rows are copies of others; copies stay in one fold "
            "(one column against one: each row counts once)"
        )
    return Sample(*columns, same), notes


def one_pair(sample: Sample, options: Options) -> tuple[Column, Column] | None:
    """The two columns that are enough, or None if critics are to be trained.

    Several discrete columns are one if their combinations are few.

    Raises ValueError where ``method`` does not take such columns.
    """
    if options.method == "critics" or (options.method == "auto" and options.given()):
        return None
    limit = len(sample) // PER_VALUE
    sides = [_single(columns, limit) for _, columns in sample.sides]
    if sides[0] is None or sides[1] is None:
        if options.method == "auto":
            return None
        raise ValueError(f"method: {options.method!r} takes one column of x and of y")
    both = sides[0].discrete and sides[1].discrete
    if options.method == "neighbours" and both:
        raise ValueError("method: 'neighbours' needs a column of numbers")
    if options.method == "table" and not both:
        raise ValueError("method: 'table' needs labels on both sides")
    return sides[0], sides[1]


def _single(columns: list[Column], limit: int) -> Column | None:
    if len(columns) == 1:
        return columns[0]
    if not all(c.discrete for c in columns):
        return None
    joined = categories_of(columns)
    return joined if joined.values <= limit else None


def _by_critics(sample: Sample, options: Options, notes: list[str]) -> MutualInformation:
    found = train_and_read(sample, options)
    reading = found.reading
    value, interval = reading.value, interval_of(reading.value, 1.96 * reading.error, found.lost)
    method = _stack_of(found)
    warnings = [*notes, *warnings_of(found, options)]
    near = _nearer(sample, reading) if options.method == "auto" else None
    if near is not None:
        who, why, local, more = near
        warnings.append(
            f"nearest neighbours{who} see more than the critics do ({value:.3f} nats), and are "
            f"followed; the dependence {why}"
        )
        value, interval = mean_and_interval(local, more)
        method = f"nearest neighbours{who}; lower bound and p-value by {method}"
    return MutualInformation(
        value,
        lower=max(0.0, reading.value - 1.96 * reading.error),
        interval=interval,
        p_value=_either(reading.p_value, sample, options.seed),
        method=method,
        history=found.fitted.history,
        warnings=warnings,
        by_seed=reading.by_seed,
        settings=_settings(sample, options, found),
        bits=options.bits,
    )


def _nearer(sample: Sample, reading: Reading) -> tuple[str, str, NDArray, NDArray] | None:
    """Neighbours that see clearly more than the critics: of which columns, what may be the reason,
    and their local contributions at :data:`~.neighbours.K` and at :data:`~.neighbours.MANY`."""
    best, found = -math.inf, None
    for x, y in asked(sample):
        local, more = (local_of(x, y, k) for k in (K, MANY))
        if local is None or more is None:
            continue
        who, why, errors = "", "has many turns, or is near to deterministic", 1.96
        if x is not sample.x:
            who = f" of {_named('x', x[0], sample.x)} and {_named('y', y[0], sample.y)}"
            why, errors = "turns often, and what the others add is not in the value", CHOSEN
        clear = MORE + errors * math.hypot(error_of(local), reading.error)
        if local.mean() > max(best, reading.value + clear):
            best, found = local.mean(), (who, why, local, more)
    return found


def _named(name: str, column: Column, side: list[Column]) -> str:
    if len(side) == 1:
        return name
    label = column.label if column is not side[0] else "the first column"
    return f"{label} of {name}"


def _either(p: float, sample: Sample, seed: int) -> float:
    """The critics' p-value, or that of ranks alone if it says more: twice the smaller.

    Twice the smaller of two p-values is one, however they depend on each other (Bonferroni).
    Without critics the ranks have the word.  Rows of one group are no independent pairs: one of
    each group is permuted.
    """
    stream = numpy_generator(seed, "estimate: ranks")
    groups = np.arange(len(sample)) if sample.groups is None else sample.groups
    rows = stream.permutation(np.unique(groups, return_index=True)[1])[:MOST]
    x, y = ([column.take(rows) for column in columns] for _, columns in sample.sides)
    ranked = permutation_p(x, y, stream)
    return ranked if math.isnan(p) else min(1.0, 2 * min(p, ranked))


def _stack_of(found: Networks) -> str:
    """The critics by the share of their mean weight in the stack."""
    weights = found.reading.weights.mean(0).tolist()
    parts = [f"{w:.2f} x {kind}" for w, kind in zip(weights, found.kinds, strict=True)]
    return "Donsker-Varadhan of " + " + ".join(parts) if len(parts) > 1 else parts[0][7:]


def _settings(sample: Sample, options: Options, found: Networks) -> dict[str, Any]:
    return {
        "samples": len(sample),
        "seed": options.seed,
        "seeds": options.seeds,
        "folds": options.folds,
        "loss": options.name,
        "weight": found.weight,
        **{name: described(columns, MARGINS[options.margins]) for name, columns in sample.sides},
    }
