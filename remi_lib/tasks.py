"""What an ensemble is trained on: a critic, its data, and the table the two make.

A task knows how to build the critic of its members, to draw each member's batches from the
member's own random stream, and to turn a batch into :class:`~remi_lib.scores.Scores`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from remi_lib.critics import ConcatCritic
from remi_lib.datasets import OneHot
from remi_lib.losses import Bound, Clip, Loss, Variant, make_loss, split_name
from remi_lib.scores import Scores, support_counts

BLOCK = 250  # steps drawn at once; part of the random stream's definition


@dataclass(frozen=True)
class Member:
    """One run of an ensemble: a loss, a seed and the batch size.

    ``weight`` and ``target`` belong to the penalty and are ignored for an unregularised loss, so
    that a grid over losses can share them.
    """

    loss: str
    seed: int = 0
    batch: int = 100
    weight: float | None = None
    target: float | None = None
    tau: float | None = None
    variant: Variant = "paper"
    clip: Clip = "both"
    mi_shift: float = 0.0

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise ValueError(f"batch: {self.batch} is not allowed; must be at least 2")
        self.make_loss()

    @property
    def family(self) -> str:
        return split_name(self.loss)[0]

    def make_loss(self) -> Loss:
        family, regularized = split_name(self.loss)
        return make_loss(
            self.loss,
            self.weight if regularized else None,
            self.target if regularized else None,
            self.tau,
            variant=self.variant,
            clip=self.clip if family == "smile" else "both",
            mi_shift=self.mi_shift if family == "js" else 0.0,
        )


def grid(**choices: Any) -> list[Member]:
    """Members over the product of choices: ``grid(loss=["mine", "nwj"], seed=range(10))``.

    A string or a number stands for itself; anything iterable is a list of choices.
    """
    unknown = set(choices) - {f.name for f in fields(Member)}
    if unknown:
        raise ValueError(f"grid: unknown member setting {sorted(unknown)}")
    lists = [
        list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        for value in choices.values()
    ]
    return [Member(**dict(zip(choices, values, strict=True))) for values in product(*lists)]


class Task(Protocol):
    """The three things a training loop needs to know, and what it may record on the side."""

    def critic(self, members: Sequence[Member]) -> nn.Module: ...

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[Any]]:
        """Blocks of at most :data:`BLOCK` batches, ``steps`` batches in all."""
        ...

    def scores(self, critic: nn.Module, batch: Any, members: Sequence[Member]) -> Scores: ...

    def probe(self, critic: nn.Module, loss: Any) -> Mapping[str, Tensor]:
        """Quantities (M,) to record beside the batch's terms every so many steps."""
        ...


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
        return OneHot(self.symbols)

    def critic(self, members: Sequence[Member]) -> ConcatCritic:
        n = self.symbols
        return ConcatCritic([m.seed for m in members], n, n, (self.hidden,))

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        # A stream per (seed, batch size): losses that share both see the same data.
        keys = sorted({(m.seed, m.batch) for m in members})
        streams = [torch.Generator().manual_seed(seed) for seed, _ in keys]
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
        return support_counts(self.table(critic), *batch)

    def exact(self, critic: nn.Module) -> Scores:
        """The critic under the exact joint and product of marginals."""
        table = self.table(critic)
        return support_counts(table, *(m.to(table.device) for m in self.data.measures()))

    def probe(self, critic: nn.Module, loss: Any) -> Mapping[str, Tensor]:
        """The exact MI and second term of the critic, and the extremes of T on and off P."""
        scores = self.exact(critic)
        bound: Bound = loss(scores)
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
