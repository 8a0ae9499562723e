"""The runs of an ensemble, and what a task has to know how to do with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import product
from typing import Any, Protocol, overload

import torch
from torch import Tensor, nn

from remi_lib.checks import at_least
from remi_lib.losses import (
    Bound,
    BoundOf,
    Clip,
    Loss,
    Variant,
    make_loss,
    optimal_shift,
    own_source,
    per_row,
    split_name,
)
from remi_lib.scores import Scores
from remi_lib.stacking import stack

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
        at_least("batch", self.batch, 2)
        self.make_loss()

    def make_loss(self) -> Loss:
        """The loss with those settings that belong to it; the others are ignored."""
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


def member_config(member: Member) -> dict[str, Any]:
    """A member as plain data, to file its results under; a registered loss brings its code."""
    own = own_source(member.loss)
    return asdict(member) | ({"code": own} if own else {})


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


class Ensemble(Sequence[Member]):
    """Members trained together, with everything that follows from them made once.

    A sequence of its members, so it goes wherever they do.

    Args:
        members: the runs, in any order.
        device: of the tensors.

    Raises ValueError without a member.
    """

    def __init__(self, members: Sequence[Member], device: torch.device | str = "cpu") -> None:
        if not members:
            raise ValueError("members: need at least one, got none")
        self.members = tuple(members)
        self.device = torch.device(device)

    @classmethod
    def of(cls, members: Sequence[Member], device: torch.device | str = "cpu") -> Ensemble:
        """``members`` itself where it is an ensemble on that device, or else one of them."""
        known = isinstance(members, Ensemble) and members.device == torch.device(device)
        return members if known else cls(members, device)  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> Member: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Member, ...]: ...

    def __getitem__(self, index: int | slice) -> Member | tuple[Member, ...]:
        return self.members[index]

    @cached_property
    def losses(self) -> tuple[Loss, ...]:
        """Each member's own loss."""
        return tuple(m.make_loss() for m in self.members)

    @cached_property
    def loss(self) -> BoundOf:
        """All losses as one function of a table with leading dimension M."""
        return stack(self.losses, self.device)

    @cached_property
    def limits(self) -> Tensor:
        """The threshold each loss clips its scores to (M,), inf where it does not clip."""
        limits = [math.inf if loss.tau is None else float(loss.tau) for loss in self.losses]
        return torch.tensor(limits, device=self.device)

    @cached_property
    def shifts(self) -> Tensor:
        """Each loss's optimal critic is log dP/dQ plus this (M,)."""
        return torch.tensor([optimal_shift(m.loss) for m in self.members], device=self.device)

    @cached_property
    def contrastive(self) -> Tensor:
        """Which losses take all pairs of a batch as its product (M,): those of InfoNCE."""
        return torch.tensor([per_row(m.loss) for m in self.members], device=self.device)

    @property
    def seeds(self) -> list[int]:
        """Each member's seed."""
        return [m.seed for m in self.members]

    @property
    def two_headed(self) -> bool:
        """Whether a loss needs a second output of the critic."""
        return any(m.loss == "flo" for m in self.members)


TERMS = ("joint_term", "product_term", "penalty", "mi")


def terms(bound: Bound) -> dict[str, Tensor]:
    """The terms of a batch's bound by name, what every training step records."""
    return {name: getattr(bound, name) for name in TERMS}


Recorder = Callable[[Scores, Bound], Mapping[str, Tensor]]


class Task(Protocol):
    """What a training loop needs to know, and what it records."""

    def critic(self, members: Sequence[Member]) -> nn.Module:
        """The members' networks as one module, on the CPU; each depends on its seed alone."""
        ...

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[Any]]:
        """Blocks of at most :data:`BLOCK` batches, ``steps`` batches in all."""
        ...

    def scores(self, critic: nn.Module, batch: Any, members: Sequence[Member]) -> Scores:
        """A batch scored: a table (M, R, K) under each member's two measures."""
        ...

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        """What to record of every batch: quantities (M,), :func:`terms` among them."""
        ...

    def probe(self, critic: nn.Module, loss: BoundOf) -> Mapping[str, Tensor]:
        """Quantities (M,) of the critic to record every so many steps; none if empty."""
        ...
