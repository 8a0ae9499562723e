"""Theorem 1: ReDV and ReNWJ are duals of KL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from remi_lib.experiments.theorems.finite import Problem, one_hot_problem
from remi_lib.losses import Terms, dv, nwj
from remi_lib.scores import Scores
from remi_lib.streams import generator

Number = float | Tensor

Distance = Callable[[Tensor, Number], Tensor]

DISTANCES: Mapping[str, Distance] = {
    "squared": lambda x, target: (x - target).square(),
    "absolute": lambda x, target: (x - target).abs(),
    "discrete": lambda x, target: ((x - target).abs() > 1e-9).to(x.dtype),
}

# The distance of Eq. 15 needs positive numbers.
POSITIVE_DISTANCES: Mapping[str, Distance] = {
    **DISTANCES,
    "log": lambda x, target: (x.log() - torch.as_tensor(target).log()).square(),
}


@dataclass(frozen=True)
class Dual:
    """ReDV (Eq. 10) or ReNWJ (Eq. 11): a bound minus a distance of its second term from a target.

    The second term is log E_Q[e^T] of DV and E_Q[e^(T-1)] of NWJ, whose target is 1.
    """

    name: str
    bound: Callable[[Scores], Terms]
    distance_name: str
    distance: Distance
    weight: Number
    target: Number

    def __call__(self, scores: Scores) -> Tensor:
        found = self.bound(scores)
        return found.mi - self.weight * self.distance(found.product_term, self.target)

    def optimum(self, problem: Problem) -> Tensor:
        """The critic at which Theorem 1 says that the supremum is reached."""
        return problem.log_ratio() + self.target


def duals(weights: Iterable[float], targets: Iterable[float]) -> list[Dual]:
    """Every combination of distance, weight and, for ReDV, C."""
    found = [
        Dual("ReDV", dv, name, distance, weight, target)
        for (name, distance), weight, target in product(DISTANCES.items(), weights, targets)
    ]
    found += [
        Dual("ReNWJ", nwj, name, distance, weight, 1.0)
        for (name, distance), weight in product(POSITIVE_DISTANCES.items(), weights)
    ]
    return found


SETTINGS = ["dual", "distance", "weight", "target"]


def _settings(dual: Dual) -> list:
    return [dual.name, dual.distance_name, dual.weight, dual.target]


def check_duals(problems: Problem, found: Sequence[Dual], critics: int, seed: int) -> pd.DataFrame:
    """Theorem 1 in numbers, a row per dual.

    ``gap``: largest |value at the optimum - KL| over problems.  ``excess``: largest value - KL over
    problems and random critics, half of them near the optimum, at scales from 0.01 to 10.
    """
    kl = problems.kl()
    stream = generator(seed, "random critics")
    scale = torch.logspace(-2, 1, critics, dtype=torch.float64).view(-1, 1, 1, 1)
    noise = scale * torch.randn(critics, *problems.p.shape, generator=stream).double()
    noise = noise + 3 * torch.randn(critics, 1, 1, 1, generator=stream).double()
    rows = []
    for dual in found:
        best = dual.optimum(problems)
        tried = torch.cat([noise, best + noise])
        gap = (dual(problems.scores(best)) - kl).abs().max()
        excess = (dual(problems.scores(tried)) - kl).max()
        rows.append([*_settings(dual), gap.item(), excess.item()])
    return pd.DataFrame(rows, columns=[*SETTINGS, "gap", "excess"])


def ascend(
    objective: Callable[[Scores], Tensor],
    problem: Problem,
    steps: int,
    lr: float = 1.0,
    optimizer: str = "adam",
    every: int = 0,
) -> tuple[Tensor, pd.DataFrame]:
    """Gradient ascent on a table of scores, from T = 0, under the exact measures.

    Adam forgets its first, large gradients within ten steps and its steps shrink to lr/100000, so
    that an objective with a kink is reached too; "sgd" is plain ascent at a constant rate.  Returns
    the critic (..., R, K) and its course, every ``every`` steps (0: never), of the first problem.
    """
    t = torch.zeros(problem.p.shape, dtype=problem.p.dtype, requires_grad=True)
    update: torch.optim.Optimizer
    if optimizer == "adam":
        update = torch.optim.Adam([t], lr=lr, betas=(0.5, 0.9))
        schedule = torch.optim.lr_scheduler.ExponentialLR(update, 1e-5 ** (1 / steps))
    else:
        update = torch.optim.SGD([t], lr=lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(update, 1.0)
    off = problem.p == 0
    rows = []
    for step in range(steps + 1):
        value = objective(problem.scores(t))
        if every and step % every == 0:
            with torch.no_grad():
                second = problem.scores(t).log_mean_exp()
            first = [x.flatten()[0].item() for x in (value, second)]
            rows.append([step, *first, t[off].max().item() if off.any() else math.nan])
        if step < steps:
            update.zero_grad()
            (-value.sum()).backward()
            update.step()
            schedule.step()
    return t.detach(), pd.DataFrame(rows, columns=["step", "value", "log_partition", "off_max"])


def ascend_duals(problems: Problem, found: Sequence[Dual], steps: int = 2000) -> pd.DataFrame:
    """Largest gap to KL and, for ReDV, to C after :func:`ascend`, a row per dual.

    The discrete distance is left out: it has no gradient.
    """
    kinds: dict[tuple[str, str], list[Dual]] = {}
    for dual in found:
        if dual.distance_name != "discrete":
            kinds.setdefault((dual.name, dual.distance_name), []).append(dual)
    rows = []
    for (name, _), group in kinds.items():
        weights, targets = (
            torch.tensor([x], dtype=torch.float64).T
            for x in ([d.weight for d in group], [d.target for d in group])
        )
        together = replace(group[0], weight=weights, target=targets)
        repeated = Problem(*(x.expand(len(group), *x.shape) for x in problems))
        t, _ = ascend(together, repeated, steps)
        scores = repeated.scores(t)
        gaps = (problems.kl() - together(scores)).amax(-1)
        off = (scores.log_mean_exp() - targets).abs().amax(-1)
        for dual, gap, miss in zip(group, gaps.tolist(), off.tolist(), strict=True):
            rows.append([*_settings(dual), gap, miss if name == "ReDV" else math.nan])
    return pd.DataFrame(rows, columns=[*SETTINGS, "gap", "off_target"])


def shift_family(problem: Problem, found: Sequence[Dual], shifts: Sequence[float]) -> pd.DataFrame:
    """Value of DV and of each dual at log dP/dQ + c, over the shifts c (Lemma 9)."""
    t = problem.log_ratio() + torch.tensor(shifts, dtype=torch.float64).view(-1, 1, 1)
    scores = problem.scores(t)
    curves = {("DV", "none", 0.0, math.nan): dv(scores).mi}
    curves |= {tuple(_settings(dual)): dual(scores) for dual in found}
    rows = [
        [*key, shift, value]
        for key, values in curves.items()
        for shift, value in zip(shifts, values.tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=[*SETTINGS, "shift", "value"])


def shift_gap(problems: Problem, shifts: Sequence[float]) -> float:
    """Largest |DV at log dP/dQ + c - KL| over problems and shifts c (Lemma 9), in nats."""
    constants = torch.as_tensor(shifts, dtype=torch.float64).view(-1, 1, 1, 1)
    value = dv(problems.scores(problems.log_ratio() + constants)).mi
    return (value - problems.kl()).abs().max().item()


def one_hot_ascent(dual: Dual, steps: int, symbols: int = 16) -> pd.DataFrame:
    """Plain gradient ascent on the one-hot problem, where nothing attains KL; every 5 steps."""
    problem = one_hot_problem(symbols)
    _, climb = ascend(dual, problem, steps, lr=1.0, optimizer="sgd", every=5)
    return climb.assign(gap=problem.kl().item() - climb["value"])
