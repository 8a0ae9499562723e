"""The one-hot problem of Section 3: its law, its critic, its batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from remi_lib.critics import ConcatCritic
from remi_lib.losses import BoundOf
from remi_lib.scores import (
    Scores,
    support_counts,
)
from remi_lib.streams import generator
from remi_lib.tasks.members import BLOCK, Member, Recorder, terms


@dataclass(frozen=True)
class OneHot:
    """X uniform on ``symbols`` letters and Y = X (Section 3); I(X; Y) = log symbols nats."""

    symbols: int = 16

    @property
    def mi(self) -> float:
        """I(X; Y), nats."""
        return math.log(self.symbols)

    def measures(self) -> tuple[Tensor, Tensor]:
        """The exact joint and product of marginals, (N, N) each."""
        n = self.symbols
        return torch.eye(n) / n, torch.full((n, n), 1 / n**2)

    def sample(self, generator: torch.Generator, steps: int, batch: int) -> tuple[Tensor, Tensor]:
        """``steps`` batches as counts on the N x N pairs: joint, product (steps, N, N) each.

        Product pairs are drawn independently of the joint pairs, as the authors do.
        """
        n = self.symbols
        drawn = torch.randint(n, (3, steps, batch), generator=generator)
        pairs = torch.stack([drawn[0] * n + drawn[0], drawn[1] * n + drawn[2]])
        counts = torch.zeros(2, steps, n * n).scatter_add_(-1, pairs, torch.ones(pairs.shape))
        joint, product = counts.view(2, steps, n, n)
        return joint, product


@dataclass(frozen=True)
class OneHotTask:
    """The one-hot problem of Section 3 with its 2N -> 64 -> 1 critic.

    The critic is evaluated once a step on all N x N symbol pairs and the batch enters as counts,
    which is the per-pair computation with repeated pairs merged.
    """

    symbols: int = 16
    hidden: int = 64

    @property
    def data(self) -> OneHot:
        """The law."""
        return OneHot(self.symbols)

    def critic(self, members: Sequence[Member]) -> ConcatCritic:
        """The members' networks, torch's default initialisation."""
        n = self.symbols
        return ConcatCritic([m.seed for m in members], n, n, (self.hidden,))

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Counts on the symbol pairs, joint and product, (M, N, N) each."""
        # A stream per (seed, batch size): losses that share both see the same data.
        keys = sorted({(m.seed, m.batch) for m in members})
        streams = [generator(seed, "data") for seed, _ in keys]
        index = torch.tensor([keys.index((m.seed, m.batch)) for m in members], device=device)
        for start in range(0, steps, BLOCK):
            drawn = [
                self.data.sample(stream, BLOCK, batch)
                for stream, (_, batch) in zip(streams, keys, strict=True)
            ]
            joint, product_ = (
                torch.stack(counts, 1).to(device) for counts in zip(*drawn, strict=True)
            )
            yield [(joint[i][index], product_[i][index]) for i in range(min(BLOCK, steps - start))]

    def table(self, critic: nn.Module) -> Tensor:
        """The critic on every symbol pair, (M, N, N)."""
        symbols = torch.eye(self.symbols, device=next(critic.parameters()).device).unsqueeze(0)
        return critic(symbols, symbols)

    def scores(self, critic: nn.Module, batch: Any, members: Sequence[Member]) -> Scores:
        """The critic on all symbol pairs (M, N, N) under the batch's counts."""
        return support_counts(self.table(critic), *batch)

    def exact(self, critic: nn.Module) -> Scores:
        """The critic under the exact joint and product of marginals."""
        table = self.table(critic)
        return support_counts(table, *(m.to(table.device) for m in self.data.measures()))

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        """The terms and nothing else."""
        return lambda scores, bound: terms(bound)

    def probe(self, critic: nn.Module, loss: BoundOf) -> Mapping[str, Tensor]:
        """The exact MI and second term of the critic, and the extremes of T on and off P."""
        scores = self.exact(critic)
        bound = loss(scores)
        on = scores.values.diagonal(dim1=-2, dim2=-1)
        off_mask = ~torch.eye(self.symbols, dtype=torch.bool, device=on.device)
        off = scores.values[..., off_mask]
        return {
            "exact_mi": bound.mi,
            "log_partition": scores.log_mean_exp(),
            "on_mean": on.mean(-1),
            "on_min": on.amin(-1),
            "on_max": on.amax(-1),
            "off_mean": off.mean(-1),
            "off_min": off.amin(-1),
            "off_max": off.amax(-1),
        }
