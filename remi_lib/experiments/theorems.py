"""The theorems of the paper's appendix as small experiments, exact wherever that is possible.

On a finite set a critic is a table, P and Q are tables, and every expectation is a sum.  There a
supremum over critics is a number to compute and a bound on the number of samples one to check.
Each section below is one theorem; the functions return numbers or tidy tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import gammaln
from scipy.stats import binom
from torch import Tensor

from remi_lib.evaluation import windowed
from remi_lib.intervals import Estimate
from remi_lib.losses import Bound, Loss, Terms, dv, nwj
from remi_lib.replication.store import cached
from remi_lib.scores import Scores, cells, logsumexp, support_counts
from remi_lib.streams import generator, numpy_generator
from remi_lib.tasks import BLOCK, Member, OneHotTask, Recorder, Task, member_config, terms
from remi_lib.training import History, train


def exact(value: float | Tensor) -> Estimate:
    """An exact number as evidence: its interval is itself."""
    number = float(value)
    return Estimate(number, number, number)


# --- Finite problems --------------------------------------------------------------------------


class Problem(NamedTuple):
    """P and Q on the cells of a table: probabilities (..., R, K) in float64."""

    p: Tensor
    q: Tensor

    def kl(self) -> Tensor:
        """KL(P || Q) (...) in nats; infinite where P has mass that Q has not."""
        return (torch.xlogy(self.p, self.p) - torch.xlogy(self.p, self.q)).sum((-2, -1))

    def log_ratio(self) -> Tensor:
        """log dP/dQ (..., R, K); -inf off P's support, +inf off Q's, 0 where neither has mass."""
        ratio = self.p.log() - self.q.log()
        return torch.where((self.p > 0) | (self.q > 0), ratio, 0.0)

    def scores(self, t: Tensor) -> Scores:
        """The critic ``t`` (..., R, K) under the two exact measures."""
        return support_counts(t, self.p, self.q)


def of_joint(joint: Tensor) -> Problem:
    """P a joint law (..., R, K), Q the product of its marginals: KL is the mutual information."""
    return Problem(joint, joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True))


def random_problems(count: int, rows: int, columns: int, seed: int) -> Problem:
    """``count`` pairs of independent laws, uniform on the simplex (Dirichlet of ones)."""
    drawn = numpy_generator(seed, "problems").dirichlet(np.ones(rows * columns), size=(2, count))
    p, q = torch.from_numpy(drawn.reshape(2, count, rows, columns))
    return Problem(p, q)


def noisy_channel(symbols: int, noise: float) -> Problem:
    """X uniform; Y = X, or with probability ``noise`` another uniform draw."""
    eye = torch.eye(symbols, dtype=torch.float64)
    return of_joint((1 - noise) * eye / symbols + noise / symbols**2)


def one_hot_problem(symbols: int) -> Problem:
    """Section 3's X = Y: P sits on the diagonal, so that log dP/dQ is -inf off it."""
    return noisy_channel(symbols, 0.0)


def sample(problem: Problem, n: int, draws: int, seed: int) -> Problem:
    """``draws`` pairs of empirical laws of n samples of P and n, independent, of Q."""
    stream = numpy_generator(seed, "samples", n)
    shape = (draws, *problem.p.shape[-2:])
    counts = [stream.multinomial(n, law.flatten().numpy(), size=draws) for law in problem]
    return Problem(*(torch.from_numpy(c / n).reshape(shape) for c in counts))


# --- Theorem 1: ReDV and ReNWJ are duals of KL --------------------------------------------------

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

    ``value = bound - weight * distance(second term, target)``; the second term is log E_Q[e^T] of
    DV and E_Q[e^(T-1)] of NWJ, whose target is 1.
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


def check_duals(problems: Problem, found: Sequence[Dual], critics: int, seed: int) -> pd.DataFrame:
    """Theorem 1 in numbers, a row per dual.

    ``gap``: largest |value at the optimum - KL| over problems.  ``excess``: largest value - KL
    over problems and random critics, half of them near the optimum, at scales from 0.01 to 10.
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


SETTINGS = ["dual", "distance", "weight", "target"]


def _settings(dual: Dual) -> list:
    return [dual.name, dual.distance_name, dual.weight, dual.target]


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
    that an objective with a kink is reached too; "sgd" is plain ascent at a constant rate.

    Returns:
        The critic (..., R, K) and, every ``every`` steps (0: never), the objective and
        log E_Q[e^T] of the first problem, and the largest output off the support of P.
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
    """:func:`ascend` for each dual: largest gap to KL and, for ReDV, to C, over the problems.

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


# --- Theorem 2: consistency -------------------------------------------------------------------


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
    """Supremum of DV over T = theta . phi, given phi at the samples (..., n, f) of P and of Q.

    DV is concave in theta: Newton's steps, each halved until it climbs.  The class that adds a
    free constant to T has the same supremum under ReMINE for every C and weight, since the
    constant takes the penalty to 0 and DV does not see it.

    Returns:
        The supremum (...) in nats, and theta (..., f).
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


@dataclass(frozen=True)
class FixedSampleTask(OneHotTask):
    """A noisy channel seen through one sample of ``Member.batch`` pairs, the same at every step.

    What training reads at its end is the estimator of Theorem 2 with a network for a critic.
    """

    symbols: int = 8
    noise: float = 0.2

    def batches(self, members: Sequence[Member], steps: int, device: torch.device) -> Any:
        problem = noisy_channel(self.symbols, self.noise)
        drawn = [sample(problem, m.batch, 1, seed=m.seed) for m in members]
        whole = tuple(torch.cat(laws).float().to(device) for laws in zip(*drawn, strict=True))
        for start in range(0, steps, BLOCK):
            yield [whole] * min(BLOCK, steps - start)

    def exact(self, critic: torch.nn.Module) -> Scores:
        table = self.table(critic)
        problem = noisy_channel(self.symbols, self.noise)
        return support_counts(table, *(x.float().to(table.device) for x in problem))


# --- Theorems 3 and 4: sample complexity --------------------------------------------------------


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


# --- Theorem 5: variance of the second term -----------------------------------------------------


def second_term_variance(
    problems: Problem, shifts: Sequence[float], n: int, draws: int, seed: int
) -> pd.DataFrame:
    """Var over samples of Q of E_Qn[e^T] and of log E_Qn[e^T], at T = log dP/dQ + C.

    A row per problem and C, from fresh samples; ``mean_exact`` is e^(2C) Var_Q(dP/dQ) / n.
    """
    stream = numpy_generator(seed, "samples of Q")
    rows = []
    for index, (p, q) in enumerate(zip(*problems, strict=True)):
        law, ratio = q.flatten().numpy(), (p / q).flatten().numpy()
        chi_square = float((law * (ratio - 1) ** 2).sum())
        for shift in shifts:
            means = stream.multinomial(n, law, size=draws) @ ratio / n * math.exp(shift)
            variances = (means.var(), np.log(means).var(), math.exp(2 * shift) * chi_square / n)
            rows.append([index, shift, *variances])
    return pd.DataFrame(rows, columns=["problem", "C", "mean", "log", "mean_exact"])


def log_slopes(table: pd.DataFrame, column: str) -> np.ndarray:
    """Slope of log ``column`` against C for each problem."""
    return np.array(
        [np.polyfit(rows["C"], np.log(rows[column]), 1)[0] for _, rows in table.groupby("problem")]
    )


class Moments(NamedTuple):
    """Exact mean and variance of log E_Qn[e^T], beside the limit log E_Q[e^T] of large n."""

    mean: float
    variance: float
    limit: float


def two_valued(on: float, off: float, share: float, n: int) -> Moments:
    """Moments of log E_Qn[e^T] where T is ``on`` on a cell of Q-mass ``share`` and ``off`` else.

    The number of samples in the cell is binomial, so the sums are exact.
    """
    hits = np.arange(n + 1)
    if n > 5000:  # beyond 12 SDs the binomial's mass is below the rounding of the sum
        spread = 12 * math.sqrt(n * share * (1 - share)) + 12
        hits = hits[(hits > n * share - spread) & (hits < n * share + spread)]
    mass = binom.pmf(hits, n, share)
    value = np.log(hits / n * math.exp(on - off) + (n - hits) / n) + off
    mean = float(mass @ value)
    limit = math.log(share * math.exp(on - off) + 1 - share) + off
    return Moments(mean, float(mass @ (value - mean) ** 2), limit)


# --- Theorem 6: averaging over batches ----------------------------------------------------------


@dataclass(frozen=True)
class DriftTask(OneHotTask):
    """The one-hot problem that records at every step, beside the batch's terms, the exact ones.

    ``batch_partition`` is log E_Qn[e^T]; ``exact_joint`` and ``log_partition`` are E_P[T] and
    log E_Q[e^T] of the same critic; ``gap`` is its log-mean-exp on the support less that off it.
    """

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        off = ~torch.eye(self.symbols, dtype=torch.bool, device=device)

        def record(scores: Scores, bound: Bound) -> Mapping[str, Tensor]:
            t = scores.values
            on = t.diagonal(dim1=-2, dim2=-1)
            return {
                **terms(bound),
                "batch_partition": scores.log_mean_exp(),
                "exact_joint": on.mean(-1),
                "log_partition": logsumexp(t, (-2, -1)) - 2 * math.log(self.symbols),
                "gap": logsumexp(on, -1) - logsumexp(t[..., off], -1) + math.log(self.symbols - 1),
            }

        return record

    def probe(self, critic: torch.nn.Module, loss: Any) -> Mapping[str, Tensor]:
        return {}


def remembered(
    name: str, task: Task, members: Sequence[Member], steps: int, **settings: Any
) -> History:
    """:func:`~remi_lib.training.train`, cached by this module's code as well as training's."""
    config = {
        "task": {type(task).__name__: asdict(task)},  # type: ignore[call-overload]
        "members": [member_config(m) for m in members],
        "steps": steps,
        **settings,
    }

    def compute() -> dict[str, pd.DataFrame]:
        history = train(task, members, steps, label=name, **settings).history
        return {"terms": history.terms, "probes": history.probes}

    return History(**cached(name, config, __name__, compute))


def drift_bias(log_partition: Tensor) -> Tensor:
    """What drift alone does to a micro-average: mean C - log mean e^C <= 0, (..., n) -> (...).

    C is each batch's exact log E_Q[e^T].  By Jensen's inequality it is zero only without drift.
    """
    pooled = logsumexp(log_partition, -1) - math.log(log_partition.shape[-1])
    return log_partition.mean(-1) - pooled


def _wide(terms: pd.DataFrame, column: str) -> Tensor:
    """A column of a tidy history as (members, steps)."""
    values = terms[column].to_numpy(dtype=float).reshape(terms["member"].nunique(), -1)
    return torch.from_numpy(values.copy())


def averages(terms: pd.DataFrame, windows: Iterable[int], symbols: int, batch: int) -> pd.DataFrame:
    """Readings of :class:`DriftTask` runs of one batch size: a row per member and window (nats).

    ``bias``: the windowed estimate minus the mean exact MI of the same critics (window 1 is
    macro-averaging, all batches micro-averaging).  ``bias_centred``: the same with every batch
    freed of drift, T - log E_Q[e^T].  In closed form, ``drift``: :func:`drift_bias` of the
    windows, and ``jensen``: log E_Q[e^T] - E[log E_Qn[e^T]] with n = window * batch product pairs,
    of a critic that has the run's mean gap on and off the support.
    """
    joint, second, constant, exact_joint, gap = (
        _wide(terms, column)
        for column in ("joint_term", "batch_partition", "log_partition", "exact_joint", "gap")
    )
    members = terms[["member", "loss", "seed"]].drop_duplicates("member")
    truth = (exact_joint - constant).mean(-1)
    tables = []
    for window in windows:
        cut = constant[:, : constant.shape[1] // window * window].unflatten(-1, (-1, window))
        jensen = [
            (moments := two_valued(g, 0.0, 1 / symbols, window * batch)).limit - moments.mean
            for g in gap.mean(-1).tolist()
        ]
        columns = {
            "window": window,
            "bias": windowed(dv, joint, second, window) - truth,
            "bias_centred": windowed(dv, joint - constant, second - constant, window) - truth,
            "drift": drift_bias(cut).mean(-1),
            "jensen": jensen,
        }
        arrays = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in columns.items()}
        tables.append(members.assign(**arrays))
    return pd.concat(tables, ignore_index=True)


def sharpness(terms: pd.DataFrame, symbols: int, batch: int) -> pd.DataFrame:
    """Why one estimate scatters more than another: a row per loss and seed of DriftTask runs.

    ``exact MI``; ``gap`` between T on the support and off it; the ``SD`` of the estimate over
    batches, and the ``SD of the gap``, exact for a critic that has that gap and is flat elsewhere.
    """
    grouped = terms.assign(exact=terms["exact_joint"] - terms["log_partition"])
    grouped = grouped.groupby(["loss", "seed"], sort=False)
    gap = grouped["gap"].mean()
    predicted = [math.sqrt(two_valued(g, 0.0, 1 / symbols, batch).variance) for g in gap]
    columns = {"exact MI": grouped["exact"].mean(), "gap": gap, "SD": grouped["mi"].std()}
    return pd.DataFrame(columns).assign(**{"SD of the gap": predicted})


def reading_error(symbols: int, sizes: Iterable[int], floor: float = 0.01) -> pd.DataFrame:
    """Error of log E_Qn[e^T] for a perfect one-hot critic, by the number n of product pairs.

    e^T is N on the diagonal and ``floor`` off it.  ``bias`` and ``rms`` are exact (nats).
    Pooling W batches of B pairs is one draw of n = W B.
    """
    rows = []
    for n in sizes:
        found = two_valued(math.log(symbols), math.log(floor), 1 / symbols, n)
        bias = found.mean - found.limit
        rows.append([symbols, n, bias, math.sqrt(found.variance + bias**2)])
    return pd.DataFrame(rows, columns=["symbols", "n", "bias", "rms"])


# --- Theorems 7 and 8: I = H(Y) -----------------------------------------------------------------


def entropy(labels: Tensor) -> float:
    """H(Y) of the empirical label distribution, in nats."""
    p = torch.bincount(labels).double() / len(labels)
    return float(torch.special.entr(p).sum())


def random_labels(samples: int, classes: int, seed: int) -> Tensor:
    """Labels of an unbalanced set: class shares uniform on the simplex, two samples at least."""
    stream = numpy_generator(seed, "labels")
    drawn = stream.choice(classes, samples, p=stream.dirichlet(np.ones(classes)))
    kept = np.concatenate([np.repeat(np.arange(classes), 2), drawn[2 * classes :]])
    return torch.from_numpy(kept)


def supervised_problem(labels: Tensor) -> Problem:
    """Theorem 7: a sample drawn uniformly, and its label; cells are samples x classes."""
    joint = torch.nn.functional.one_hot(labels).double() / len(labels)
    return of_joint(joint)


def benchmark_supervised_problem(labels: Tensor) -> Problem:
    """The two measures that SLB scores: true-label cells, and all samples x classes evenly."""
    joint = supervised_problem(labels).p
    return Problem(joint, torch.full_like(joint, 1 / joint.numel()))


def contrastive_problem(labels: Tensor) -> Problem:
    """Theorem 8: X drawn uniformly, X' uniformly among the samples with X's label (X included)."""
    same = (labels[:, None] == labels).double()
    return of_joint(same / same.sum(-1, keepdim=True) / len(labels))


def benchmark_contrastive_problem(labels: Tensor) -> Problem:
    """The two measures that CLB scores: same-label pairs of distinct samples, and all of them."""
    distinct = 1 - torch.eye(len(labels), dtype=torch.float64)
    same = (labels[:, None] == labels) * distinct
    return Problem(same / same.sum(), distinct / distinct.sum())


def pair_information(class_counts: Sequence[int]) -> float:
    """KL between same-label pairs of distinct samples and all of them: log(N (N-1) / J), nats.

    J = sum n (n-1) over classes; with n samples in every class it is log((N-1) / (n-1)).
    """
    total = sum(class_counts)
    return math.log(total * (total - 1) / sum(n * (n - 1) for n in class_counts))


def batch_law(class_counts: Sequence[int], batch: int) -> pd.DataFrame:
    """Exact law of J, the ordered same-label pairs of a batch drawn without replacement.

    Columns ``pairs`` (J), ``probability`` and ``reading``: what a perfect critic's DV reads of
    such a batch, log(B (B-1) / J), infinite at J = 0.  Numbers of one class in a batch that are
    rarer than 1e-16 are left out.
    """
    counts = [int(c) for c in class_counts]
    if not 2 <= batch <= sum(counts):
        raise ValueError(f"batch: {batch} is not allowed; from 2 to {sum(counts)}, the set's size")
    most = batch * (batch - 1) // 2
    # state[b, j]: probability that the classes so far gave b of the batch, with j unordered pairs.
    state = np.zeros((batch + 1, most + 1))
    state[0, 0] = 1.0
    left = sum(counts)
    for count in counts:
        left -= count
        reached = np.zeros_like(state)
        for taken in range(batch + 1):
            if not state[taken].any():
                continue
            weights = _hypergeometric(count, left, batch - taken)
            for c in np.flatnonzero(weights > 1e-16):
                pairs = c * (c - 1) // 2
                reached[taken + c, pairs:] += weights[c] * state[taken, : most + 1 - pairs]
        state = reached
    law = state[batch]
    kept = np.flatnonzero(law > 0)
    with np.errstate(divide="ignore"):
        reading = np.log(batch * (batch - 1)) - np.log(2.0 * kept)
    return pd.DataFrame({"pairs": 2 * kept, "probability": law[kept], "reading": reading})


def _hypergeometric(count: int, other: int, drawn: int) -> np.ndarray:
    """P(c of ``drawn`` come from ``count`` items and the rest from ``other``), c = 0 ... drawn."""
    c = np.arange(drawn + 1)
    possible = (c <= count) & (drawn - c <= other)

    def log_choose(n: int, k: np.ndarray) -> np.ndarray:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    total = log_choose(count + other, np.array(drawn))
    kept = c[possible]
    law = np.zeros(drawn + 1)
    law[kept] = np.exp(log_choose(count, kept) + log_choose(other, drawn - kept) - total)
    return law


class BatchReading(NamedTuple):
    """A perfect critic's CLB reading over batches that have a pair: mean, SD, and P(J = 0)."""

    mean: float
    sd: float
    empty: float


def batch_reading(law: pd.DataFrame) -> BatchReading:
    """Mean and SD of log(B (B-1) / J) given J > 0, and the probability of J = 0."""
    some = law[law["pairs"] > 0]
    share = some["probability"] / some["probability"].sum()
    mean = float((share * some["reading"]).sum())
    variance = float((share * (some["reading"] - mean) ** 2).sum())
    return BatchReading(mean, math.sqrt(variance), float(1 - some["probability"].sum()))
