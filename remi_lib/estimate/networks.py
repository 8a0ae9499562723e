"""Critics of many columns: trained on other folds, stacked on held-out pairs, read on the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remi_lib.estimate.columns import EDGE, Column, encoded, standardized
from remi_lib.estimate.elliptical import WIDE, Base, fit_bases, views_of
from remi_lib.estimate.fit import Fitted, fit
from remi_lib.estimate.folds import Rows, split
from remi_lib.estimate.neighbours import K, contributions
from remi_lib.estimate.options import Options, undisturbed
from remi_lib.estimate.pairs import shifted_pairs
from remi_lib.estimate.pairwise import strongest
from remi_lib.estimate.reading import Reading, read
from remi_lib.estimate.tables import categories_of
from remi_lib.estimate.team import Team
from remi_lib.losses import dv, make_loss, per_row
from remi_lib.streams import generator

NEAR = 0.7  # of log K, from where on the estimate is suspected to be held down by it
CLOSE = 8  # columns on both sides, up to which neighbours are asked whether they see more
USED = 0.2  # mean weight in the stack, from which on a closed form's over-fitting is said
MOST = 20_000  # samples that they are asked about: trees of several columns are slow
MORE = 0.05  # nats, by which they must see more, beyond the error of both


@dataclass(frozen=True)
class Sample:
    """Paired columns, and which samples must stay together (n,), None if none."""

    x: list[Column]
    y: list[Column]
    groups: NDArray | None

    @property
    def sides(self) -> tuple[tuple[str, list[Column]], tuple[str, list[Column]]]:
        return ("x", self.x), ("y", self.y)

    def __len__(self) -> int:
        return len(self.x[0])


@dataclass(frozen=True)
class Networks:
    """How training went and what was read.

    ``kinds``: the critics that were stacked; ``normal``: what the closed forms of all columns
    read (nats) on training and on watched samples, zero where the stack does not use them.
    """

    reading: Reading
    fitted: Fitted
    rows: Rows
    kinds: tuple[str, ...]
    weight: float | None
    normal: tuple[str, float, float]

    @property
    def lost(self) -> float:
        """By how much (nats) what is read on training pairs exceeds what held-out ones read."""
        return max(self.fitted.training - self.fitted.held_out, self.normal[1] - self.normal[2])


def train_and_read(sample: Sample, options: Options) -> Networks:
    """Estimate by critics, see :func:`~remi_lib.estimate_mi`; folds depend on the seed alone."""
    with undisturbed(options.device):
        folds = generator(options.seed, "estimate: folds")
        rows = split(len(sample), options.folds, folds, sample.groups).to(options.device)
        closed, kinds = _closed_forms(sample, rows, options)
        team = _team(sample, rows, closed, options)
        objective = make_loss(options.name, options.weight, tau=options.tau)
        rows_apart = per_row(options.name)
        fitted = fit(team, options, objective, generator(options.seed, "estimate: batches"))
        permutations = generator(options.seed, "estimate: permutations")
        caps = _cap(sample.x, options.device), _cap(sample.y, options.device)
        reading = read(team, fitted.alive, rows_apart, permutations, closed, caps)
    weight = None if objective.weight is None else float(objective.weight)
    used = bool(closed) and float(reading.weights[:, -len(closed)].mean()) > USED
    normal = _readings(closed[0][0], rows) if used else (0.0, 0.0)
    return Networks(reading, fitted, rows, kinds, weight, ("closed forms", *normal))


def _cap(columns: list[Column], device: torch.device) -> Tensor | None:
    """log 1 / P of each sample's labels (n,) if there are no numbers beside them."""
    if not all(column.discrete for column in columns):
        return None
    codes = categories_of(columns).codes
    assert codes is not None
    share = np.bincount(codes)[codes] / len(codes)
    return torch.as_tensor(-np.log(share), dtype=torch.float32, device=device)


def _readings(base: Base, rows: Rows) -> tuple[float, float]:
    """Donsker-Varadhan of the closed form on as many training as watched samples."""
    count = min(rows.watch.shape[1], rows.train.shape[1])
    fits, shifts = torch.arange(rows.folds, device=rows.test.device), torch.arange(min(count, 64))
    tables = [base.pairs(fits, role[:, :count], shifts) for role in (rows.train, rows.watch)]
    training, held_out = (dv(shifted_pairs(table)).mi.mean().item() for table in tables)
    return training, held_out


def _closed_forms(
    sample: Sample, rows: Rows, options: Options
) -> tuple[list[tuple[Base, Base]], tuple[str, ...]]:
    """The normal of all columns, and of those that matter if they are many: under the networks."""
    if not options.base:
        return [], ("network",)
    views = views_of(sample.x, sample.y)
    closed = [fit_bases(views, rows, screen=False)]
    form = closed[0][0].form
    if sum(view.shape[1] for view in views.normal) <= WIDE:
        return closed, (f"{form} + network", form)
    closed.append(fit_bases(views, rows, screen=True))
    seen = "of screened columns"
    return closed, (f"normal + network {seen}", form, f"normal {seen}")


def _team(sample: Sample, rows: Rows, closed: list[tuple[Base, Base]], options: Options) -> Team:
    sides = [_inputs(name, columns, options) for name, columns in sample.sides]
    device = options.device
    data = [torch.as_tensor(side, dtype=torch.float32, device=device) for side, _ in sides]
    base = closed[-1][0] if closed else None
    masks = None
    if base is not None and len(closed) > 1:
        every = [torch.cat([m, torch.ones_like(m[:, :1])], 1) for m in (base.x, base.y)]
        masks = [m[:, torch.as_tensor(origin)] for m, (_, origin) in zip(every, sides, strict=True)]
    count = options.folds * options.seeds
    streams = generator(options.seed, "estimate: members")
    return Team(
        data,
        rows,
        base,
        masks,
        torch.randint(2**31, (count,), generator=streams).tolist(),
        options.hidden,
    )


def _inputs(name: str, columns: list[Column], options: Options) -> tuple[NDArray, NDArray]:
    """What the networks see (n, d), and the linear view that each of its columns comes from.

    Where several numbers stand side by side the log of the length of their normal scores comes
    last, from view -1: in heavy tails one length makes the other likely, whatever the directions.
    Before it each score comes once more, times how much the squared length exceeds its mean: what
    turns with the length (a spiral) is nearer to a sum of these than of the scores.
    """
    parts = [encoded(name, [column], options.margins) for column in columns]
    first = np.cumsum([0, *(1 if c.codes is None else c.values for c in columns)])
    origin = [
        np.full(part.shape[1], start) if c.codes is None else start + np.arange(part.shape[1])
        for part, c, start in zip(parts, columns, first, strict=False)
    ]
    numeric = [(c, start) for c, start in zip(columns, first, strict=False) if not c.discrete]
    if options.base and len(numeric) > 1:
        scores = _values([c for c, _ in numeric])
        square = (scores**2).mean(1)
        bent = np.apply_along_axis(standardized, 0, scores * (square[:, None] - 1))
        length = standardized(np.log(np.linalg.norm(scores, axis=1).clip(1e-3)))
        parts += [bent.clip(-EDGE, EDGE), length[:, None]]
        origin += [np.array([start for _, start in numeric]), np.array([-1])]
    return np.concatenate(parts, axis=1), np.concatenate(origin)


def warnings_of(found: Networks, options: Options) -> Iterator[str]:
    """What to know of critics before their number is used."""
    reading, fitted = found.reading, found.fitted
    members = len(fitted.alive)
    if fitted.diverged:
        yield (
            f"{fitted.diverged} of {members} critics diverged and were taken as they were before; "
            "a regularised loss or a smaller lr is steadier"
        )
    if not math.isfinite(reading.value):
        yield "no critic of some fold ever gave a finite value: there is no estimate"
        return
    if reading.value > NEAR * reading.ceiling:
        why = (
            "which InfoNCE cannot exceed"
            if per_row(options.name)
            else "beyond which the sample does not resolve the second term"
        )
        where = "above" if reading.value > reading.ceiling else "near"
        yield (
            f"{where} log K = {reading.ceiling:.2f} (K = {math.exp(reading.ceiling):.0f} pairs of "
            f"a held-out sample), {why}; more samples would tell"
        )
    # A closed form reads on training pairs about as much too much as too little on others.
    kinds = (("critics", fitted.training, fitted.held_out, 0.25), (*found.normal, 0.0))
    for who, training, held_out, share in kinds:
        if training - held_out > 0.1 + share * max(held_out, 0.0):
            yield (
                f"over-fitting: the {who} read {training:.2f} nats on their training pairs "
                f"and {held_out:.2f} on those that decide when to stop; the true MI is likely "
                "to be larger than the estimate, more samples or fewer columns would tell"
            )
    if fitted.unfinished:
        yield f"the critics were still improving at step {options.steps}; raise steps"


def asked(sample: Sample) -> list[tuple[list[Column], list[Column]]]:
    """The columns of either side whose neighbours may see more than the critics.

    All where they are few, and the two that depend most (:mod:`~remi_lib.estimate.pairwise`), last;
    none where there are groups.
    """
    if sample.groups is not None:
        return []
    few = len(sample.x) + len(sample.y) <= CLOSE
    pair = strongest(sample.x, sample.y)
    alone = [] if pair is None else [([pair[0]], [pair[1]])]
    return [(sample.x, sample.y), *alone] if few else alone


def local_of(x: list[Column], y: list[Column], k: int = K) -> NDArray | None:
    """Local contributions of numbers to numbers, or of labels to numbers; None of other sides.

    Of :data:`MOST` samples at most.
    """
    kinds = [{c.discrete for c in columns} for columns in (x, y)]
    if any(len(kind) > 1 for kind in kinds) or kinds == [{True}, {True}]:
        return None
    some = slice(None, None, -(-len(x[0]) // MOST))
    first, second = (_values(columns)[some] for columns in (x, y))
    local = contributions(first, second, (kinds[0] == {True}, kinds[1] == {True}), k)
    return local[np.isfinite(local)]


def _values(columns: list[Column]) -> NDArray:
    """The codes of labels (n,), or the scores of numbers (n, d)."""
    if columns[0].discrete:
        codes = categories_of(columns).codes
        assert codes is not None
        return codes
    return np.stack([c.scores() for c in columns], axis=1)
