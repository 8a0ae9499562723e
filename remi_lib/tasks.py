"""What an ensemble is trained on: a critic, its data, and the table the two make.

A task knows how to build the critic of its members, to draw each member's batches from the
member's own random stream, and to turn a batch into :class:`~remi_lib.scores.Scores`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from remi_lib.critics import ConcatCritic, ImageCritic, ResNet18, StackedConvNet, normal_init
from remi_lib.evaluation import batch_statistics
from remi_lib.images import CorrelatedGaussian, ImageSet, OneHot, load_images
from remi_lib.losses import (
    Bound,
    BoundOf,
    Clip,
    Loss,
    Variant,
    make_loss,
    optimal_shift,
    own_source,
    split_name,
)
from remi_lib.scores import (
    Scores,
    all_pairs,
    class_pairs,
    off_diagonal,
    same_label_pairs,
    support_counts,
    with_head,
)
from remi_lib.streams import generator

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


TERMS = ("joint_term", "product_term", "penalty", "mi")


def terms(bound: Bound) -> dict[str, Tensor]:
    """The terms of a batch's bound by name, what every training step records."""
    return {name: getattr(bound, name) for name in TERMS}


Recorder = Callable[[Scores, Bound], Mapping[str, Tensor]]


def clip_limits(members: Sequence[Member], device: torch.device | str) -> Tensor:
    """The threshold each member's loss clips its scores to (M,), inf where it does not clip."""
    limits = [m.make_loss().tau for m in members]
    return torch.tensor([math.inf if t is None else float(t) for t in limits], device=device)


class Task(Protocol):
    """What a training loop needs to know, and what it records."""

    def critic(self, members: Sequence[Member]) -> nn.Module: ...

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[Any]]:
        """Blocks of at most :data:`BLOCK` batches, ``steps`` batches in all."""
        ...

    def scores(self, critic: nn.Module, batch: Any, members: Sequence[Member]) -> Scores: ...

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        """What to record of every batch: quantities (M,), :func:`terms` among them."""
        ...

    def probe(self, critic: nn.Module, loss: BoundOf) -> Mapping[str, Tensor]:
        """Quantities (M,) of the critic to record every so many steps; none if empty."""
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
        return support_counts(self.table(critic), *batch)

    def exact(self, critic: nn.Module) -> Scores:
        """The critic under the exact joint and product of marginals."""
        table = self.table(critic)
        return support_counts(table, *(m.to(table.device) for m in self.data.measures()))

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
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
        if self.each < 1 or self.width < 1:
            raise ValueError(f"each, width: {self.each}, {self.width}; both must be at least 1")
        CorrelatedGaussian(self.dim, self.transform)

    @property
    def data(self) -> CorrelatedGaussian:
        return CorrelatedGaussian(self.dim, self.transform)

    @property
    def steps(self) -> int:
        return self.each * len(self.levels)

    def true_mi(self, step: ArrayLike) -> np.ndarray:
        """The true MI at each step, nats."""
        return np.asarray(self.levels)[np.asarray(step) // self.each]

    def critic(self, members: Sequence[Member]) -> ConcatCritic:
        second_head = _two_headed(members)
        hidden, init = (self.width, self.width), normal_init(self.init_std)
        seeds = [m.seed for m in members]
        critic = ConcatCritic(seeds, self.dim, self.dim, hidden, True, init, second_head)
        # On the critic's device from the start: a captured step cannot copy from the host.
        critic.register_buffer("contrastive", _contrastive(members), persistent=False)
        return critic

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[StairBatch]]:
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
        assert isinstance(critic, ConcatCritic)
        t, second = critic.heads(batch.x, self.data.seen(batch.y))
        return self.table(t, critic.get_buffer("contrastive"), second)

    def table(self, t: Tensor, contrastive: Tensor, second: Tensor | None = None) -> Scores:
        """Scores (M, B, B) under each member's measures; ``contrastive`` (M,) marks InfoNCE's."""
        off, everything = off_diagonal(t), all_pairs(t)
        log_product = torch.where(
            contrastive[:, None, None], everything.log_product, off.log_product
        )
        table = Scores(t, off.log_joint, log_product)
        return table if second is None else with_head(table, second)

    def exact(self, batch: StairBatch, members: Sequence[Member]) -> Scores:
        """The batch scored by each member's own optimal critic: log dP/dQ, or that + 1 for NWJ."""
        ratio = self.data.log_ratio(batch.x, batch.y, batch.rho)
        shift = torch.tensor([optimal_shift(m.loss) for m in members], device=ratio.device)
        second = -ratio if _two_headed(members) else None
        contrastive = _contrastive(members).to(ratio.device)
        return self.table(ratio + shift[:, None, None], contrastive, second)

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        """The terms, and the statistics from which JS is read in other ways."""

        def record(scores: Scores, bound: Bound) -> dict[str, Tensor]:
            joint, log_partition = scores.joint_mean(), scores.log_mean_exp()
            return {**terms(bound), "joint": joint, "log_partition": log_partition}

        return record

    def probe(self, critic: nn.Module, loss: BoundOf) -> Mapping[str, Tensor]:
        return {}


def _contrastive(members: Sequence[Member]) -> Tensor:
    return torch.tensor([m.family == "infonce" for m in members])


def _two_headed(members: Sequence[Member]) -> bool:
    return any(m.loss == "flo" for m in members)


BENCHMARKS = ("slb", "clb")
NETS = ("convnet", "resnet18")
PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class ImageTask:
    """A cell of Table 2: the supervised (SLB) or contrastive (CLB) benchmark on an image set.

    SLB: T(x, y) is the logit of class y.  CLB: T(x, x') is the inner product of two embeddings,
    which are the network's features themselves unless ``outputs`` adds a linear head.  ``scale``
    and ``temperature`` as in :class:`~remi_lib.critics.ImageCritic`.  ``size`` is the side that
    images are resized to, None leaves them as they are.
    """

    dataset: str = "digits"
    benchmark: str = "slb"
    net: str = "convnet"
    size: int | None = None
    width: int = 512
    outputs: int | None = None
    scale: str = "plain"
    temperature: float = 0.1
    precision: str = "float32"

    def __post_init__(self) -> None:
        for key, allowed in (
            ("benchmark", BENCHMARKS),
            ("net", NETS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"{key}: {getattr(self, key)!r} is not allowed; one of {', '.join(allowed)}"
                )
        if self.net == "resnet18" and self.width != ResNet18.width:
            raise ValueError(f"width: {self.width} is not allowed; ResNet-18 has {ResNet18.width}")

    def data(self, device: torch.device | str = "cpu") -> ImageSet:
        return load_images(self.dataset).to(device)

    def critic(self, members: Sequence[Member]) -> ImageCritic:
        data = self.data()
        seeds = [m.seed for m in members]
        channels = data.train_x.shape[1]
        if self.net == "resnet18":
            encoder: nn.Module = ResNet18(seeds, channels)
        else:
            side = self.size or data.train_x.shape[-1]
            encoder = StackedConvNet(seeds, side, channels, self.width)
        outputs = data.classes if self.benchmark == "slb" else self.outputs
        return ImageCritic(encoder, seeds, self.width, outputs, self.scale, self.temperature)

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Epochs of shuffled batches, the last incomplete one dropped; all members share them."""
        if len({(m.seed, m.batch) for m in members}) != 1:
            raise ValueError("members: an image ensemble shares one seed and one batch size")
        seed, batch = members[0].seed, members[0].batch
        data = self.data(device)
        stream = generator(seed, "data")
        images, labels = data.train_x, data.train_y
        per_epoch = len(labels) // batch
        if per_epoch < 1:
            raise ValueError(f"batch: {batch} is larger than {data.name}, {len(labels)} images")
        done = 0
        while done < steps:
            order = torch.randperm(len(labels), generator=stream)[: per_epoch * batch]
            chosen = order.view(per_epoch, batch)[: steps - done].to(device)
            for block in chosen.split(BLOCK):
                yield [(images[i], labels[i]) for i in block]
            done += len(chosen)

    def outputs_of(self, critic: nn.Module, images: Tensor, data: ImageSet) -> Tensor:
        """Logits or embeddings (M, B, .) of uint8 images; only the encoder is in ``precision``."""
        assert isinstance(critic, ImageCritic)
        half = self.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            features = critic.encoder(data.normalized(images, self.size))
        return critic.head(features)

    def table(self, outputs: Tensor, labels: Tensor) -> Scores:
        make = class_pairs if self.benchmark == "slb" else same_label_pairs
        return make(outputs, labels)

    def scores(self, critic: nn.Module, batch: Any, members: Sequence[Member]) -> Scores:
        images, labels = batch
        return self.table(self.outputs_of(critic, images, self.data()), labels)

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        """The terms, and the statistics of the batch as its loss reads it: clipped or not."""
        tau = clip_limits(members, device)
        return lambda scores, bound: {
            **terms(bound),
            **batch_statistics(scores.clip(tau))._asdict(),
        }

    def probe(self, critic: nn.Module, loss: BoundOf) -> Mapping[str, Tensor]:
        return {}
