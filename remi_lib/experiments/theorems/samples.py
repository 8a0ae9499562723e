"""Theorems 2, 3 and 4: consistency, and how many samples are enough."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from remi_lib.experiments.theorems.finite import Problem, sample
from remi_lib.losses import Loss, make_loss, title
from remi_lib.scores import cells
from remi_lib.streams import generator


def best_critic(problem: Problem, loss: Loss, low: float, high: float) -> Tensor:
    """The table with values in [low, high] that maximises a loss of MINE's or NWJ's kind.

    The gradient in a cell is p - w q e^T with one w > 0 for all cells, so the optimum is log dP/dQ
    plus a constant, cut to [low, high].  One number is left to find, by a grid that narrows.
    """
    ratio = problem.log_ratio()
    reach = torch.where(ratio.isfinite(), ratio.abs(), 0.0).amax((-2, -1))
    centre = torch.full_like(reach, (low + high) / 2)
    half = reach + (high - low) / 2
    for points in (65, *[17] * 8):
        grid = torch.linspace(-1, 1, points, dtype=torch.float64).view(-1, *[1] * reach.dim())
        constants = centre + half * grid
        tried = (ratio + cells(constants)).clamp(low, high)
        best = loss(problem.scores(tried)).objective.argmax(0, keepdim=True)
        centre = constants.gather(0, best).squeeze(0)
        half = 2 * half / (points - 1)
    return (ratio + cells(centre)).clamp(low, high)


def supremum(problem: Problem, loss: Loss, low: float, high: float) -> Tensor:
    """Largest objective of a loss over the tables with values in [low, high] (...), in nats."""
    return loss(problem.scores(best_critic(problem, loss, low, high))).objective


def estimates(
    problem: Problem, loss: Loss, low: float, high: float, sizes: Iterable[int], draws: int
) -> pd.DataFrame:
    """The estimator of Theorem 2 on ``draws`` samples of each size: n, draw, estimate (nats)."""
    tables = []
    for n in sizes:
        found = supremum(sample(problem, n, draws, seed=0), loss, low, high)
        tables.append(pd.DataFrame({"n": n, "draw": range(draws), "estimate": found.numpy()}))
    return pd.concat(tables, ignore_index=True)


def quadratic_supremum(
    features_p: Tensor, features_q: Tensor, iterations: int = 30
) -> tuple[Tensor, Tensor]:
    """Supremum of DV over T = theta . phi (nats), and theta; phi at samples (..., n, f) of P, Q.

    DV is concave in theta: Newton's steps, each halved until it climbs.  The class that adds a free
    constant to T has the same supremum under ReMINE for every C and weight, since the constant
    takes the penalty to 0 and DV does not see it.
    """
    mean_p = features_p.mean(-2)
    log_n = math.log(features_q.shape[-2])

    def value(theta: Tensor) -> Tensor:
        t = (features_q @ theta.unsqueeze(-1)).squeeze(-1)
        return (mean_p * theta).sum(-1) - (torch.logsumexp(t, -1) - log_n)

    theta = torch.zeros_like(mean_p)
    ridge = 1e-9 * torch.eye(mean_p.shape[-1], dtype=mean_p.dtype)
    for _ in range(iterations):
        weight = torch.softmax((features_q @ theta.unsqueeze(-1)).squeeze(-1), -1).unsqueeze(-1)
        mean_q = (weight * features_q).sum(-2)
        centred = features_q - mean_q.unsqueeze(-2)
        covariance = (weight * centred).mT @ centred + ridge
        step = torch.linalg.solve(covariance, mean_p - mean_q)
        before = value(theta)
        for _ in range(30):
            worse = ~(value(theta + step) >= before)
            if not worse.any():
                break
            step = torch.where(worse.unsqueeze(-1), step / 2, step)
        theta = theta + step
    return value(theta), theta


def gaussian_mi(rho: float) -> float:
    """I(X; Y) of two standard Gaussians with correlation rho, in nats."""
    return -0.5 * math.log(1 - rho**2)


def bilinear_mi(rho: float) -> float:
    """Supremum of DV over T = theta x y on the same pair: theta rho + log(1 - theta^2) / 2."""
    theta = (math.sqrt(1 + 4 * rho**2) - 1) / (2 * rho)
    return theta * rho + 0.5 * math.log(1 - theta**2)


def gaussian_estimates(rho: float, sizes: Iterable[int], draws: int, seed: int) -> pd.DataFrame:
    """DV's supremum over quadratic critics (x y, x^2 + y^2), which hold log dP/dQ, and over
    bilinear ones (x y), which do not: critics, n, draw, estimate (nats)."""
    stream = generator(seed, "gaussian pairs")
    tables = []
    for n in sizes:
        x, noise, a, b = torch.randn(4, draws, n, generator=stream, dtype=torch.float64)
        y = rho * x + math.sqrt(1 - rho**2) * noise
        quadratic = [torch.stack([u * v, u**2 + v**2], -1) for u, v in ((x, y), (a, b))]
        for name, features in (("quadratic", 2), ("bilinear", 1)):
            phi_p, phi_q = (phi[..., :features] for phi in quadratic)
            found, _ = quadratic_supremum(phi_p, phi_q)
            columns = {"critics": name, "n": n, "draw": range(draws), "estimate": found.numpy()}
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def sample_bound(
    bound: float, parameters: int, radius: float, lipschitz: float, epsilon: float, delta: float
) -> int:
    """Samples that suffice for |estimate - supremum over the class| <= epsilon but for delta.

    ``n >= 2 M^2 (d log(16 K L sqrt(d) / epsilon) + 2 d M + log(2 / delta)) / epsilon^2`` with M
    bounding T and e^T, d parameters of norm at most K, T L-Lipschitz in them: Belghazi et al.
    (2018), Theorem 3, on whose proof Theorems 3 and 4 here build.
    """
    d = parameters
    cover = d * math.log(16 * radius * lipschitz * math.sqrt(d) / epsilon) + 2 * d * bound
    return math.ceil(2 * bound**2 * (cover + math.log(2 / delta)) / epsilon**2)


@dataclass(frozen=True)
class Class:
    """Tables on d cells with values in [low, high], |T| and e^T (for NWJ e^(T-1)) at most M.

    A table is its own parameter vector, so it is 1-Lipschitz in it, and its norm is at most the
    largest |value| times sqrt(d).
    """

    cells: int
    bound: float
    shift: float = 0.0

    @property
    def low(self) -> float:
        return -self.bound

    @property
    def high(self) -> float:
        return math.log(self.bound) + self.shift

    def samples(self, epsilon: float, delta: float) -> int:
        """How many samples the bound of Theorem 3 or 4 asks for."""
        radius = max(-self.low, self.high) * math.sqrt(self.cells)
        return sample_bound(self.bound, self.cells, radius, 1.0, epsilon, delta)


def failures(
    problem: Problem, loss: Loss, critics: Class, n: int, epsilon: float, draws: int
) -> np.ndarray:
    """For each sample of size n, whether the estimate misses the class's supremum by > epsilon."""
    limits = critics.low, critics.high
    truth = supremum(problem, loss, *limits)
    found = supremum(sample(problem, n, draws, seed=1), loss, *limits)
    return ((found - truth).abs() > epsilon).numpy()


def samples_needed(
    problem: Problem, loss: Loss, critics: Class, epsilon: float, delta: float, draws: int
) -> int:
    """Smallest n, to within 5%, at which at most a share delta of samples fails."""

    def fails(n: int) -> bool:
        return failures(problem, loss, critics, n, epsilon, draws).mean() > delta

    n = 2
    while fails(n):
        n *= 2
    low, high = n // 2, n
    while high > 1.05 * low and high - low > 1:
        middle = max(math.isqrt(low * high), low + 1)
        low, high = (middle, high) if fails(middle) else (low, middle)
    return high


def two_cells(bound: float, target: float) -> Problem:
    """P even on two cells, Q so lopsided that log dP/dQ + C reaches log M on the rare one."""
    rare = math.exp(target) / (2 * bound)
    return Problem(
        torch.full((1, 2), 0.5, dtype=torch.float64),
        torch.tensor([[rare, 1 - rare]], dtype=torch.float64),
    )


def channel_estimates(
    channel: Problem, classes: Iterable[tuple[str, float]], sizes: Sequence[int], draws: int
) -> pd.DataFrame:
    """Theorem 2 on a channel for pairs (loss, M): estimates over tables with |T| <= M (nats)."""
    tables = []
    for name, bound in classes:
        loss = make_loss(name, weight=0.1, tau=math.inf)
        found = estimates(channel, loss, -bound, bound, sizes, draws)
        limit = supremum(channel, loss, -bound, bound).item()
        tables.append(found.assign(critics=critics_name(name, bound), supremum=limit))
    return pd.concat(tables, ignore_index=True)


def critics_name(loss: str, bound: float) -> str:
    """The printed name of a class of tables: the loss and its bound on \\|T\\|."""
    return f"{title(loss)}, $|T|\\leq {bound:g}$"


def last_errors(frame: pd.DataFrame, critics: str, truth: float) -> np.ndarray:
    """Errors of a class's estimates at the largest sample size, a value per draw (nats)."""
    rows = frame[frame["critics"] == critics]
    return (rows.loc[rows["n"] == rows["n"].max(), "estimate"] - truth).to_numpy()


def needed_on_channel(
    channel: Problem, epsilons: Iterable[float], draws: int, delta: float = 0.05
) -> pd.DataFrame:
    """Samples needed and the bound's number, for ReMINE and ReNWJ over 8 x 8 tables with M = 8."""
    rows = []
    for name, shift in (("remine", 0.0), ("renwj", 1.0)):
        loss, critics = make_loss(name, tau=math.inf), Class(64, 8.0, shift)
        for epsilon in epsilons:
            n = samples_needed(channel, loss, critics, epsilon, delta, draws)
            rows.append([title(name), epsilon, n, critics.samples(epsilon, delta)])
    return pd.DataFrame(rows, columns=["loss", "epsilon", "needed", "bound"])


def needed_on_two_cells(
    bounds: Iterable[int], draws: int, epsilon: float = 0.3, delta: float = 0.05
) -> pd.DataFrame:
    """Samples needed, the bound's, and how often those miss, over M for ReMINE at two C."""
    rows = []
    for bound in bounds:
        for name, target in (("log 2 - M", math.log(2) - bound), ("0", 0.0)):
            critics, pair = Class(2, float(bound)), two_cells(bound, target)
            loss = make_loss("remine", weight=1.0, target=target)
            n = samples_needed(pair, loss, critics, epsilon, delta, draws)
            enough = critics.samples(epsilon, delta)
            failed = failures(pair, loss, critics, enough, epsilon, draws).mean()
            rows.append([bound, name, pair.kl().item(), n, enough, failed])
    return pd.DataFrame(rows, columns=["M", "C", "MI", "needed", "bound", "failed"])
