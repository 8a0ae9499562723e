"""The Gaussian staircase of Section 5.3: correlated Gaussians whose true MI climbs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from remi_lib.checks import at_least, one_of
from remi_lib.critics import ConcatCritic, normal_init
from remi_lib.losses import Bound, BoundOf
from remi_lib.scores import (
    Scores,
    all_pairs,
    cells,
    off_diagonal,
    with_head,
)
from remi_lib.streams import generator
from remi_lib.tasks.members import BLOCK, Ensemble, Member, Recorder, terms

MOST = 6.0  # nats a dimension
TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda y: y,
    "cubic": lambda y: y**3,
    "asinh": torch.asinh,
}


@dataclass(frozen=True)
class CorrelatedGaussian:
    """y = rho x + sqrt(1 - rho^2) e in ``dim`` dimensions (Appendix D.4).

    I(X; Y) = -dim/2 log(1 - rho^2) nats, whatever invertible ``transform`` y passes through.
    """

    dim: int = 20
    transform: str = "identity"

    def __post_init__(self) -> None:
        at_least("dim", self.dim, 1)
        one_of("transform", self.transform, TRANSFORMS)

    def rho(self, mi: float) -> float:
        """The correlation at which I(X; Y) is ``mi`` nats.

        Raises ValueError for a negative ``mi``, and for more than :data:`MOST` a dimension, from
        where on float32, which scores are in, takes x and y for the same.
        """
        if not 0 <= mi <= MOST * self.dim:
            raise ValueError(f"mi: {mi} nats is not allowed; from 0 to {MOST} x dim {self.dim}")
        return math.sqrt(-math.expm1(-2 * mi / self.dim))

    def sample(self, generator: torch.Generator, rho: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """(steps,) correlations -> x and untransformed y, (steps, batch, dim) each."""
        x, e = torch.randn(2, len(rho), batch, self.dim, generator=generator)
        r = rho[:, None, None]
        return x, r * x + (1 - r**2).sqrt() * e

    def seen(self, y: Tensor) -> Tensor:
        """y as the critic sees it."""
        return TRANSFORMS[self.transform](y)

    def log_ratio(self, x: Tensor, y: Tensor, rho: Tensor) -> Tensor:
        """log dP/dQ of all pairs, x (..., n, dim) with untransformed y (..., m, dim)."""
        squares = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
        return self._log_ratio(squares, x @ y.mT, rho)

    def log_ratio_of_pairs(self, x: Tensor, y: Tensor, rho: Tensor) -> Tensor:
        """log dP/dQ of x (..., n, dim) with the y beside it, (..., n)."""
        return self._log_ratio((x**2 + y**2).sum(-1), (x * y).sum(-1), rho)

    def _log_ratio(self, squares: Tensor, inner: Tensor, rho: Tensor) -> Tensor:
        quadratic = rho**2 * squares - 2 * rho * inner
        return -0.5 * self.dim * (1 - rho**2).log() - quadratic / (2 * (1 - rho**2))


class StairBatch(NamedTuple):
    """Samples of every stream at one step: x and untransformed y (M, B, d), and rho ()."""

    x: Tensor
    y: Tensor
    rho: Tensor


@dataclass(frozen=True)
class StaircaseTask:
    """Section 5.3: correlated Gaussians whose true MI climbs a step every ``each`` steps.

    All B x B pairs of a batch are scored: the diagonal is joint, the rest product; InfoNCE's
    product is all pairs, so that it is bounded by log B.  The critic is the concatenation MLP of
    Appendix D.4 with the authors' initialisation.
    """

    levels: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0, 10.0)
    each: int = 4000
    dim: int = 20
    width: int = 256
    init_std: float = 0.05
    transform: str = "identity"

    def __post_init__(self) -> None:
        for level in self.levels or (0.0,):
            if not level > 0:
                raise ValueError(
                    f"levels: {list(self.levels)} is not allowed; every MI must be > 0"
                )
        at_least("each", self.each, 1)
        at_least("width", self.width, 1)
        CorrelatedGaussian(self.dim, self.transform)

    @property
    def data(self) -> CorrelatedGaussian:
        """The law at every correlation."""
        return CorrelatedGaussian(self.dim, self.transform)

    @property
    def steps(self) -> int:
        """Steps of the whole staircase."""
        return self.each * len(self.levels)

    def true_mi(self, step: ArrayLike) -> np.ndarray:
        """The true MI at each step, nats."""
        return np.asarray(self.levels)[np.asarray(step) // self.each]

    def critic(self, members: Sequence[Member]) -> ConcatCritic:
        """The members' networks, which remember whose product is all pairs."""
        ensemble = Ensemble.of(members)
        hidden, init = (self.width, self.width), normal_init(self.init_std)
        critic = ConcatCritic(
            ensemble.seeds, self.dim, self.dim, hidden, True, init, ensemble.two_headed
        )
        # On the critic's device from the start: a captured step cannot copy from the host.
        critic.register_buffer("contrastive", ensemble.contrastive, persistent=False)
        return critic

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[StairBatch]]:
        """Samples of each member's own seed, a level after the other.

        Raises ValueError for members of different batch sizes.
        """
        if len({m.batch for m in members}) != 1:
            raise ValueError("members: a staircase ensemble shares one batch size")
        rho = torch.tensor([self.data.rho(float(mi)) for mi in self.true_mi(range(steps))])
        seeds = sorted({m.seed for m in members})
        streams = [generator(seed, "data") for seed in seeds]
        index = torch.tensor([seeds.index(m.seed) for m in members], device=device)
        for part in rho.split(BLOCK):
            drawn = [self.data.sample(stream, part, members[0].batch) for stream in streams]
            x, y = (torch.stack(side, 1).to(device) for side in zip(*drawn, strict=True))
            own = part.to(device)
            yield [StairBatch(x[i][index], y[i][index], own[i]) for i in range(len(part))]

    def scores(self, critic: nn.Module, batch: Any, members: Sequence[Member]) -> Scores:
        """All pairs of a batch scored (M, B, B), each member under its own measures."""
        assert isinstance(critic, ConcatCritic)
        t, second = critic.heads(batch.x, self.data.seen(batch.y))
        return self.table(t, critic.get_buffer("contrastive"), second)

    def table(self, t: Tensor, contrastive: Tensor, second: Tensor | None = None) -> Scores:
        """Scores (M, B, B) under each member's measures; ``contrastive`` (M,) marks InfoNCE's."""
        off, everything = off_diagonal(t), all_pairs(t)
        log_product = torch.where(cells(contrastive), everything.log_product, off.log_product)
        table = Scores(t, off.log_joint, log_product)
        return table if second is None else with_head(table, second)

    def exact(self, batch: StairBatch, members: Sequence[Member]) -> Scores:
        """The batch scored by each member's own optimal critic: log dP/dQ, or that + 1 for NWJ."""
        ratio = self.data.log_ratio(batch.x, batch.y, batch.rho)
        ensemble = Ensemble.of(members, ratio.device)
        second = -ratio if ensemble.two_headed else None
        return self.table(ratio + cells(ensemble.shifts), ensemble.contrastive, second)

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        """The terms, and the statistics from which JS is read in other ways."""

        def record(scores: Scores, bound: Bound) -> dict[str, Tensor]:
            joint, log_partition = scores.joint_mean(), scores.log_mean_exp()
            return {**terms(bound), "joint": joint, "log_partition": log_partition}

        return record

    def probe(self, critic: nn.Module, loss: BoundOf) -> Mapping[str, Tensor]:
        """Nothing: every batch says what there is to know."""
        return {}
