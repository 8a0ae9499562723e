"""The supervised and the contrastive image benchmark of Section 5.2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from remi_lib.checks import one_of
from remi_lib.critics import ImageCritic, ResNet8, ResNet18, StackedConvNet
from remi_lib.evaluation import batch_statistics
from remi_lib.images import ImageSet, load_images
from remi_lib.losses import BoundOf
from remi_lib.scores import (
    Scores,
    class_pairs,
    same_label_pairs,
)
from remi_lib.streams import generator
from remi_lib.tasks.members import BLOCK, Ensemble, Member, Recorder, terms

BENCHMARKS = ("slb", "clb")
# The residual networks: of one width, and one member at a time.
RESIDUAL: dict[str, type[ResNet8] | type[ResNet18]] = {"resnet8": ResNet8, "resnet18": ResNet18}
NETS = ("convnet", *RESIDUAL)
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
        one_of("benchmark", self.benchmark, BENCHMARKS)
        one_of("net", self.net, NETS)
        one_of("precision", self.precision, PRECISIONS)
        known = RESIDUAL.get(self.net)
        if known and self.width != known.width:
            raise ValueError(f"width: {self.width} is not allowed; {self.net} has {known.width}")

    @property
    def stacks(self) -> bool:
        """Whether several members train as one batched network."""
        return self.net not in RESIDUAL

    def data(self, device: torch.device | str = "cpu") -> ImageSet:
        """The image set, on a device."""
        return load_images(self.dataset).to(device)

    def encoder(self, seeds: Sequence[int], channels: int, side: int) -> nn.Module:
        """Images (B, C, H, W) of this many channels and pixels a side -> features (M, B, width)."""
        if self.net in RESIDUAL:
            return RESIDUAL[self.net](seeds, channels)
        return StackedConvNet(seeds, side, channels, self.width)

    def critic(self, members: Sequence[Member]) -> ImageCritic:
        """The members' encoders, with a linear head of K logits for SLB."""
        data, seeds = self.data(), [m.seed for m in members]
        channels, side = data.train_x.shape[1], data.train_x.shape[-1]
        encoder = self.encoder(seeds, channels, self.size or side)
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
        """Logits (M, B, K) or embeddings (M, B, d) with labels (B,) or (M, B) as a table."""
        make = class_pairs if self.benchmark == "slb" else same_label_pairs
        return make(outputs, labels)

    def scores(self, critic: nn.Module, batch: Any, members: Sequence[Member]) -> Scores:
        """A batch of images and labels scored by every member."""
        images, labels = batch
        return self.table(self.outputs_of(critic, images, self.data()), labels)

    def recorder(self, members: Sequence[Member], device: torch.device) -> Recorder:
        """The terms, and the statistics of the batch as its loss reads it: clipped or not."""
        tau = Ensemble.of(members, device).limits
        return lambda scores, bound: {
            **terms(bound),
            **batch_statistics(scores.clip(tau))._asdict(),
        }

    def probe(self, critic: nn.Module, loss: BoundOf) -> Mapping[str, Tensor]:
        """Nothing: every batch says what there is to know."""
        return {}
