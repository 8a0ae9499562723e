"""Finite problems: P and Q as tables, so that every expectation is a sum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from remi_lib.scores import Scores, support_counts
from remi_lib.streams import numpy_generator


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
