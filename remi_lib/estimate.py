"""How much do two arrays say about each other?  :func:`estimate_mi` for your own data.

The estimate is cross-fitted.  The samples are split into folds; the critics that read a fold have
seen none of it, neither in training nor in deciding when to stop.  Every sample is read once, by
critics of several seeds whose scores are averaged: the Donsker-Varadhan bound is concave in T, so
the average critic's value is never below the average of the critics' values.

The defaults rest on :mod:`remi_lib.estimators.comparison`: on distributions of known MI no
regularised loss beats ReMINE beyond the interval of the difference, and columns need taming
against heavy tails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor
from torch.nn.functional import silu

from remi_lib.critics import ConcatCritic
from remi_lib.devices import denormals_flushed, resolve_device
from remi_lib.intervals import Estimate
from remi_lib.losses import BoundOf, Terms, dv, infonce, make_loss, split_name
from remi_lib.progress import progress
from remi_lib.scores import Scores

Margins = Literal["both", "ranks", "standard", "raw"]
MARGINS: dict[str, str] = {
    "both": "standardised by median and quartiles, beside the normal scores of its ranks",
    "ranks": "replaced by the normal scores of its ranks",
    "standard": "standardised",
    "raw": "as it is",
}
LOOK_EVERY, EARLY = 50, (10, 25)  # steps between two looks at the held-out pairs; first looks
TOLERANCE = 1e-3  # nats, less than which is no progress
FEWEST = 50  # samples
EDGE = 4.0  # of a column standardised by its quartiles
NEAR = 0.7  # of log K, from where on the estimate is suspected to be held down by it
PAIRS = 2**17  # of a fold that are read at most
CHUNK = 2**14  # pairs that pass through the critics at once: more would leave the CPU's cache
_WATCHED, _PARTNERS = 1000, 64  # samples and product partners of a look, at most


@dataclass(frozen=True)
class MutualInformation:
    """An estimate of I(X; Y) in nats; ``float()`` of it is the number.

    Attributes:
        value: the held-out estimate.  It may be slightly negative: then no dependence was found.
        interval: its 95% interval, from the spread of the samples (influence function of the
            bound) and of the seeds.  It is an interval of what these critics can see, which in
            expectation is at most the MI; where the critics have not learned all of the
            dependence the MI lies above it.
        history: a row per seed, fold and look: ``step``, and what the bound reads (nats) on
            ``training`` pairs and on the ``held_out`` ones that decide when to stop.  Both
            rest on few pairs and may be lucky; the estimate does not rest on them.
        warnings: what to know before using the number; empty if nothing was noticed.
        by_seed: the estimate of each seed alone.
        settings: what was done, by argument.
    """

    value: float
    interval: tuple[float, float]
    history: pd.DataFrame
    warnings: tuple[str, ...]
    by_seed: tuple[float, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.value

    @property
    def estimate(self) -> Estimate:
        """Value and interval as the ledger takes them."""
        return Estimate(self.value, *self.interval)

    def __repr__(self) -> str:
        s = self.settings
        lines = [
            f"I(X; Y) = {self.value:.3f} nats; what these critics see, 95% interval: "
            f"[{self.interval[0]:.3f}, {self.interval[1]:.3f}]",
            f"  held out: {s['samples']} samples in {s['folds']} folds, {s['seeds']} seeds, "
            f"{s['loss']}" + (f" (weight {s['weight']:g})" if s["weight"] is not None else ""),
            f"  x: {s['x']}",
            f"  y: {s['y']}",
        ]
        return "\n".join(lines + [f"  warning: {text}" for text in self.warnings])


def estimate_mi(
    x: Any,
    y: Any,
    seed: int = 0,
    *,
    loss: str = "remine",
    weight: float | None = None,
    tau: float | None = None,
    margins: Margins = "both",
    categories: int = 32,
    seeds: int = 3,
    folds: int = 5,
    steps: int = 1000,
    patience: int = 5,
    batch: int = 128,
    partners: int = 4,
    hidden: Sequence[int] = (64, 64),
    lr: float = 5e-3,
    device: str = "auto",
    label: str | None = "estimate_mi",
) -> MutualInformation:
    """Estimate I(X; Y) in nats from paired samples, held out, with an interval.

    Args:
        x, y: paired samples, a row each: a NumPy array, a tensor, a data frame or series, a list;
            (n,) or (n, d), the two of any width.  Text, categories, booleans and integers of few
            values are one-hot encoded.
        seed: of the folds, the critics and the batches; equal seeds give equal results.
        loss: what the critics are trained with, any of :func:`~remi_lib.losses.make_loss`.  The
            reading is the Donsker-Varadhan bound of the unclipped critic, for the InfoNCE losses
            InfoNCE itself, whose critics are known up to a function of x only.
        weight, tau: of the loss; its defaults if None.
        margins: what a numeric column becomes.  "both": standardised (by median and quartiles,
            ending at 4 of their standard deviations), and once more as the normal scores of its
            ranks.  "ranks": these alone.  "standard": mean 0 and standard deviation 1.  "raw": as
            it is.  MI does not change under an invertible map of x or y, what the critics can
            learn does.
        categories: an integer column of at most so many values is one-hot encoded; 0: none is.
        seeds, folds: critics that are averaged per fold, and folds of the cross-fit.
        steps: optimiser steps at most.  Every 50 steps each critic is read on held-out pairs of its
            own; it is taken at its best, and training ends when the best have not risen by a
            thousandth of a nat, on average, for ``patience`` looks.
        batch, partners: samples in a batch, and product pairs that each makes with others of it.
        hidden, lr: widths of the critic's SiLU layers, Adam's learning rate.
        device: "auto", "cuda", "mps" or "cpu".
        label: of the progress bar; no bar if None.

    Raises:
        ValueError: an argument that does not fit; the message begins with its name.
    """
    for name, given, least in (
        ("seeds", seeds, 1),
        ("folds", folds, 2),
        ("steps", steps, 1),
        ("patience", patience, 1),
        ("batch", batch, 2),
        ("partners", partners, 1),
    ):
        if given < least:
            raise ValueError(f"{name}: {given} is not allowed; must be at least {least}")
    if lr <= 0:
        raise ValueError(f"lr: {lr} is not allowed; must be positive")
    if not hidden:
        raise ValueError("hidden: needs at least one layer")
    if margins not in MARGINS:
        raise ValueError(f"margins: {margins!r} is not allowed; one of {', '.join(MARGINS)}")
    objective = make_loss(loss, weight, tau=tau)
    encoded_x, about_x = encode("x", x, margins, categories)
    encoded_y, about_y = encode("y", y, margins, categories)
    if len(encoded_x) != len(encoded_y):
        raise ValueError(
            f"y: has {len(encoded_y)} samples, x has {len(encoded_x)}; they must be paired"
        )
    n = len(encoded_x)
    if n < max(FEWEST, 4 * folds):
        raise ValueError(f"x: has {n} samples; needs at least {max(FEWEST, 4 * folds)}")
    where = resolve_device(device)
    data = [torch.as_tensor(a, dtype=torch.float32, device=where) for a in (encoded_x, encoded_y)]
    rows = split(n, folds, seeds, seed)
    critic = PairCritic(rows.streams, encoded_x.shape[1], encoded_y.shape[1], hidden).to(where)
    per_row = split_name(loss)[0] == "infonce"
    plan = Training(objective, per_row, steps, patience, batch, partners, lr)
    fitted = fit(critic, data, rows, plan, label)
    reading = read(critic, data, rows, per_row, fitted.alive)
    half = 1.96 * reading.error
    return MutualInformation(
        reading.value,
        (reading.value - half, reading.value + half),
        fitted.history,
        tuple(_warnings(reading, fitted, plan)),
        reading.by_seed,
        {
            "samples": n,
            "seed": seed,
            "seeds": seeds,
            "folds": folds,
            "loss": loss,
            "weight": None if objective.weight is None else float(objective.weight),
            "x": about_x,
            "y": about_y,
        },
    )


def _warnings(reading: Reading, fitted: Fitted, plan: Training) -> Iterator[str]:
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
            if plan.per_row
            else "beyond which the sample does not resolve the second term"
        )
        yield (
            f"near log K = {reading.ceiling:.2f} (K = {math.exp(reading.ceiling):.0f} pairs of a "
            f"held-out sample), {why}; more samples would tell"
        )
    gap = fitted.training - fitted.held_out
    if gap > 0.1 + 0.25 * max(fitted.held_out, 0.0):
        yield (
            f"over-fitting: the critics read {fitted.training:.2f} nats on their training pairs "
            f"and {fitted.held_out:.2f} on those that decide when to stop; the true MI is likely "
            "to be larger than the estimate, more samples or fewer columns would tell"
        )
    if fitted.unfinished:
        yield f"the critics were still improving at step {plan.steps}; raise steps"


# --- what the columns become


def encode(
    name: str, values: Any, margins: Margins = "both", categories: int = 32
) -> tuple[NDArray, str]:
    """Columns a critic can learn from (n, d), and in words what was done to them.

    Ranks, means and deviations are taken over all samples of one variable; the pairing, which is
    what is estimated, plays no part in them.
    """
    frame = _frame(name, values)
    parts, kinds = [], {"numeric": 0, "one-hot": 0}
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        few = pd.api.types.is_integer_dtype(column) and column.nunique() <= categories
        if numeric and not few:
            parts.append(_numeric(name, column, margins))
            kinds["numeric"] += 1
        else:
            parts.append(_one_hot(name, column))
            kinds["one-hot"] += 1
    done = []
    if kinds["numeric"]:
        done.append(f"{_columns(kinds['numeric'], 'numeric')}, each {MARGINS[margins]}")
    if kinds["one-hot"]:
        done.append(f"{_columns(kinds['one-hot'], 'discrete')}, one-hot")
    return np.concatenate(parts, axis=1), "; ".join(done)


def _columns(count: int, kind: str) -> str:
    return f"{count} {kind} column" + ("s" if count > 1 else "")


def _frame(name: str, values: Any) -> pd.DataFrame:
    if isinstance(values, pd.DataFrame | pd.Series):
        frame = pd.DataFrame(values)
    else:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.double() if values.dtype.is_floating_point else values).numpy()
        array = np.asarray(values)
        if array.ndim not in (1, 2):
            raise ValueError(f"{name}: has shape {array.shape}; must be (n,) or (n, d)")
        frame = pd.DataFrame(array)
        if array.dtype == object:
            frame = frame.infer_objects()
    if frame.shape[1] == 0:
        raise ValueError(f"{name}: has no column")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{name}: has two columns called {twice!r}; rename one")
    for column in frame:
        kind = np.dtype(frame[column].dtype).kind if _is_numpy(frame[column]) else "O"
        if kind in "cmM":
            raise ValueError(f"{name}: {frame[column].dtype} is neither real nor discrete")
    return frame


def _is_numpy(column: pd.Series) -> bool:
    return isinstance(column.dtype, np.dtype)


def _numeric(name: str, column: pd.Series, margins: Margins) -> NDArray:
    v = column.to_numpy(dtype=float, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(v))
    if len(bad):
        raise ValueError(
            f"{name}: {len(bad)} values are NaN or infinite, the first in row {bad[0]}"
        )
    if margins == "raw":
        return v[:, None]
    scores = ndtri((pd.Series(v).rank().to_numpy() - 0.5) / len(v))
    # A critic that has seen one outlier says anything of the next: they end at the edge, and ranks,
    # beside it, still see where they lie.
    plain = _robust(v)
    views = {
        "both": (plain.clip(-EDGE, EDGE), _standardized(scores)),
        "ranks": (_standardized(scores),),
        "standard": (_standardized(v),),
    }
    return np.stack(views[margins], axis=1)


def _robust(v: NDArray) -> NDArray:
    """Median 0 and the quartiles of a standard normal; the SD where the quartiles coincide."""
    low, middle, high = np.quantile(v, [0.25, 0.5, 0.75])
    return (v - middle) / ((high - low) / (2 * ndtri(0.75))) if high > low else _standardized(v)


def _standardized(v: NDArray) -> NDArray:
    deviation = v.std()
    return (v - v.mean()) / (deviation if deviation > 0 else 1.0)


def _one_hot(name: str, column: pd.Series) -> NDArray:
    codes, names = pd.factorize(column, sort=False)
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        raise ValueError(
            f"{name}: {len(missing)} values are missing, the first in row {missing[0]}"
        )
    if len(names) > len(codes) / 2:
        raise ValueError(
            f"{name}: a discrete column has {len(names)} values in {len(codes)} samples, too many"
        )
    # Scaled so that a column of K equally likely values has about the length of a standard one.
    return np.eye(len(names))[codes] * math.sqrt(len(names))


# --- critics, folds, training


class PairCritic(ConcatCritic):
    """T(x, y) = MLP([x, y]) with SiLU on chosen pairs of a batch; parameters as in ConcatCritic."""

    def forward(self, x: Tensor, y: Tensor, shifts: Tensor | None = None) -> Tensor:
        """Scores (M, n, S) of x_i with y_(i + shift mod n); shift 0 is the joint pair.

        ``x`` (M, n, x_dim), ``y`` (M, n, y_dim), ``shifts`` (S,), only 0 if None.
        """
        shifts = torch.zeros(1, dtype=torch.long) if shifts is None else shifts
        chunk = max(1, CHUNK // (len(self.weights[0]) * x.shape[1]))
        if len(shifts) > chunk and not torch.is_grad_enabled():
            return torch.cat([self(x, y, part) for part in shifts.split(chunk)], -1)
        n, first = x.shape[1], self.weights[0]
        others = partners_of(n, shifts.to(x.device)).flatten()
        h_x = x @ first[:, : self.x_dim] + self.biases[0].unsqueeze(1)
        h_y = (y @ first[:, self.x_dim :]).index_select(1, others)
        once = not torch.is_grad_enabled()
        h = silu(h_x.unsqueeze(2) + h_y.unflatten(1, (n, len(shifts))), once).flatten(1, 2)
        for layer in range(1, len(self.weights) - 1):
            h = silu(torch.baddbmm(self.biases[layer].unsqueeze(1), h, self.weights[layer]), once)
        return (h @ self.weights[-1]).view(-1, n, len(shifts))


def partners_of(n: int, shifts: Tensor) -> Tensor:
    """Which sample each of n samples meets at each shift, (n, S)."""
    return (torch.arange(n, device=shifts.device).unsqueeze(1) + shifts) % n


def shifted_pairs(values: Tensor, own_too: bool = False) -> Scores:
    """Scores of n samples with their own partner, first, and with others: (..., n, 1 + others).

    The first column is joint, the others are product; all are if ``own_too``, as InfoNCE has it.
    """
    n, k = values.shape[-2:]
    own = torch.arange(k, device=values.device) == 0
    even = values.new_zeros(k)
    joint = torch.where(own, even - math.log(n), -math.inf)
    if own_too:
        product = even - math.log(n * k)
    else:
        product = torch.where(own, -math.inf, even - math.log(n * (k - 1)))
    return Scores(values, joint.expand(n, k), product.expand(n, k))


def bound_of(per_row: bool) -> Callable[[Scores], Terms]:
    """What a table of :func:`shifted_pairs` is read by: DV, or InfoNCE for its own critics."""
    return infonce if per_row else dv


@dataclass(frozen=True)
class Rows:
    """The samples of each member, by role: (M, .) indices; members are seed by seed, fold by fold.

    ``streams`` seed the members' parameters and batches.
    """

    seeds: int
    folds: int
    train: Tensor
    watch: Tensor
    test: Tensor
    streams: list[int]


def split(n: int, folds: int, seeds: int, seed: int) -> Rows:
    """Folds shared by all seeds; a tenth of all samples (50, if that is more and there are enough)
    decides when to stop, another tenth for each member.

    ``n % folds`` samples are in no fold: they are trained on, not read.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator)
    size = n // folds
    train, watch, test = [], [], []
    for _ in range(seeds):
        for fold in range(folds):
            own = slice(fold * size, (fold + 1) * size)
            rest = torch.cat([order[: own.start], order[own.stop :]])
            rest = rest[torch.randperm(len(rest), generator=generator)]
            count = min(max(n // 10, 50), len(rest) // 4, _WATCHED)
            test.append(order[own])
            watch.append(rest[:count])
            train.append(rest[count:])
    streams = torch.randint(2**31, (len(test),), generator=generator).tolist()
    return Rows(seeds, folds, torch.stack(train), torch.stack(watch), torch.stack(test), streams)


@dataclass(frozen=True)
class Training:
    """What the critics are trained with and for how long, see :func:`estimate_mi`."""

    objective: BoundOf
    per_row: bool
    steps: int
    patience: int
    batch: int
    partners: int
    lr: float


@dataclass(frozen=True)
class Fitted:
    """How training went.

    ``alive`` (M,): members that ever read a finite value; ``diverged``: how many read a
    non-finite one at the end; ``training`` and ``held_out``: mean reading (nats) of training and
    of watched pairs where each member is taken; ``unfinished``: the last quarter of the steps
    still brought a hundredth of a nat.
    """

    history: pd.DataFrame
    alive: Tensor
    diverged: int
    training: float
    held_out: float
    unfinished: bool


@denormals_flushed()
def fit(
    critic: PairCritic, data: Sequence[Tensor], rows: Rows, plan: Training, label: str | None
) -> Fitted:
    """Train all members together; leaves each at the parameters that read its watched pairs best.

    A member that goes non-finite keeps what it had before.
    """
    members, available = rows.train.shape
    batch = min(plan.batch, available)
    shifts = torch.arange(min(plan.partners, batch - 1) + 1)
    update = torch.optim.Adam(critic.parameters(), lr=plan.lr, fused=data[0].device.type != "mps")
    batches = _batches(rows, batch)
    steps: list[int] = []
    looks: list[Tensor] = []  # (2, M) each: training, held out
    best = torch.full((2, members), -math.inf)
    risen = (-math.inf, 0)  # the mean of the best when it last rose, and the step
    kept = [p.detach().clone() for p in critic.parameters()]
    with progress(plan.steps, label) as bar:
        for step in range(1, plan.steps + 1):
            bound = plan.objective(_table(critic, data, next(batches), shifts, plan.per_row))
            update.zero_grad()
            (-bound.objective).sum().backward()
            update.step()
            if step % LOOK_EVERY and step not in (*EARLY, plan.steps):
                continue
            seen = _look(critic, data, rows, plan.per_row)
            steps.append(step)
            looks.append(seen)
            better = seen[1].isfinite() & (seen[1] > best[1])
            best[:, better] = seen[:, better]
            for old, new in zip(kept, critic.parameters(), strict=True):
                old[better.to(old.device)] = new.detach()[better.to(old.device)]
            bar.set_postfix_str(f"held out {best[1].mean():.3f} nats", refresh=False)
            bar.update(step - bar.n)
            if best[1].mean().item() > risen[0] + TOLERANCE:
                risen = best[1].mean().item(), step
            waited = step - risen[1]
            if waited >= plan.patience * LOOK_EVERY or not seen[1].isfinite().any():
                break
    with torch.no_grad():
        for parameter, value in zip(critic.parameters(), kept, strict=True):
            parameter.copy_(value)
    alive = best[1] > -math.inf
    training, held_out = best[:, alive].mean(1).tolist() if alive.any() else (math.nan, math.nan)
    lost = ~looks[-1][1].isfinite()
    return Fitted(
        _history(steps, looks, rows),
        alive,
        int(lost.sum()),
        training,
        held_out,
        step == plan.steps and _late_gain(steps, looks) > 0.01,
    )


def _late_gain(steps: Sequence[int], looks: Sequence[Tensor]) -> float:
    """By how much the mean of the members' best readings rose in the last quarter of the steps."""
    best = torch.stack([look[1].nan_to_num(nan=-math.inf) for look in looks]).cummax(0).values
    before = max(0, sum(step <= 0.75 * steps[-1] for step in steps) - 1)
    return float((best[-1] - best[before]).mean())


def _batches(rows: Rows, batch: int) -> Iterator[Tensor]:
    """Indices (M, batch), each member shuffling its own training samples anew every epoch."""
    streams = [torch.Generator().manual_seed(stream) for stream in rows.streams]
    count = rows.train.shape[1]
    while True:
        order = torch.stack([torch.randperm(count, generator=g) for g in streams])
        yield from rows.train.gather(1, order)[:, : count // batch * batch].split(batch, dim=1)


def _table(
    critic: PairCritic, data: Sequence[Tensor], index: Tensor, shifts: Tensor, own_too: bool
) -> Scores:
    x, y = (d[index.to(d.device)] for d in data)
    return shifted_pairs(critic(x, y, shifts), own_too)


@torch.no_grad()
def _look(critic: PairCritic, data: Sequence[Tensor], rows: Rows, per_row: bool) -> Tensor:
    """The bound (2, M) on as many training as watched pairs."""
    count = rows.watch.shape[1]
    shifts = torch.arange(min(_PARTNERS, count - 1) + 1)
    tables = (
        _table(critic, data, index[:, :count], shifts, per_row)
        for index in (rows.train, rows.watch)
    )
    return torch.stack([bound_of(per_row)(table).mi.cpu() for table in tables])


def _history(steps: Sequence[int], looks: Sequence[Tensor], rows: Rows) -> pd.DataFrame:
    """A row per member and look."""
    members = np.arange(rows.seeds * rows.folds)
    frame = pd.DataFrame(
        {
            "seed": np.tile(members // rows.folds, len(steps)),
            "fold": np.tile(members % rows.folds, len(steps)),
            "step": np.repeat(steps, len(members)),
        }
    )
    frame[["training", "held_out"]] = torch.cat([look.T for look in looks]).numpy()
    return frame.sort_values(["seed", "fold", "step"], ignore_index=True)


# --- reading


@dataclass(frozen=True)
class Reading:
    """The cross-fitted value and its standard error, each seed's own value, and log K."""

    value: float
    error: float
    by_seed: tuple[float, ...]
    ceiling: float


@torch.no_grad()
def read(
    critic: PairCritic, data: Sequence[Tensor], rows: Rows, per_row: bool, alive: Tensor
) -> Reading:
    """Read every fold by the critics that did not see it.

    A fold's scores are averaged over its usable seeds, the value is the mean over folds.
    """
    size = rows.test.shape[1]
    shifts = torch.arange(min(size - 1, max(PAIRS // size, 1)) + 1)
    values = _table(critic, data, rows.test, shifts, per_row).values
    usable = alive.to(values.device).view(rows.seeds, rows.folds)
    by_member = bound_of(per_row)(shifted_pairs(values, per_row)).mi.view(rows.seeds, rows.folds)
    by_member = by_member.where(usable, math.nan)  # a critic that never was finite says nothing
    values = values.view(rows.seeds, rows.folds, size, -1)
    weight = usable / usable.sum(0)  # NaN where a fold has no critic: then there is no estimate
    table = shifted_pairs(
        torch.where(usable[..., None, None], values, 0.0).mul(weight[..., None, None]).sum(0),
        per_row,
    )
    value = bound_of(per_row)(table).mi.mean().item()
    by_seed = by_member.nanmean(1)
    variance = influence(table, per_row).var().item() / (size * rows.folds)
    finite = by_seed[by_seed.isfinite()]
    if len(finite) > 1:
        variance += finite.var().item() / len(finite)
    return Reading(value, math.sqrt(variance), tuple(by_seed.tolist()), math.log(len(shifts)))


def influence(table: Scores, per_row: bool = False) -> Tensor:
    """What each sample adds to the bound of its table, mean 0: (..., n, 1 + others) -> (..., n).

    Its variance over n is that of the bound.  A sample enters DV once by its joint pair and
    twice by its product pairs, as x_i and as y_i: T_ii - E[T] - (w_i. + w_.i - 2) with w_i. and
    w_.i the means of e^T over its row and column, relative to the mean of all.  InfoNCE has
    log E[e^T] of the row in place of w_i., and w relative to the mean of the row.
    """
    own = table.values[..., 0]
    n, k = table.values.shape[-2:]
    met = partners_of(n, torch.arange(k, device=own.device))
    if per_row:
        share, gain = table.values.softmax(-1), own - torch.logsumexp(table.values, -1)
    else:
        share = (table.values[..., 1:] - table.log_mean_exp()[..., None, None]).exp() / (k - 1)
        met, gain = met[:, 1:], own - share.sum(-1)
    as_y = torch.zeros_like(own).index_add_(-1, met.flatten(), share.flatten(-2))
    return gain - gain.mean(-1, keepdim=True) - (as_y - 1)
