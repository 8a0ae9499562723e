"""The way from two arrays to an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from remi_lib.devices import resolve_device
from remi_lib.estimate.columns import MARGINS, Margins, encode
from remi_lib.estimate.fit import Fitted, Training, fit
from remi_lib.estimate.folds import split
from remi_lib.estimate.pairs import PairCritic
from remi_lib.estimate.reading import Reading, read
from remi_lib.estimate.result import MutualInformation
from remi_lib.losses import make_loss, split_name

FEWEST = 50  # samples
NEAR = 0.7  # of log K, from where on the estimate is suspected to be held down by it


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
