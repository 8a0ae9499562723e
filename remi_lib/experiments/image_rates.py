"""Images per second of our loop and of the plain one that the paper describes, random images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, multiprocessing

from remi_lib.critics import ResNet18
from remi_lib.devices import tensor_float
from remi_lib.images import ImageSet
from remi_lib.losses import make_loss
from remi_lib.scores import same_label_pairs
from remi_lib.streams import generator
from remi_lib.tasks import ImageTask, Member
from remi_lib.training import train

WARM_UP = 5  # steps; a GPU records its graph at the fourth


@dataclass(frozen=True)
class Noise(ImageTask):
    """CLB with ResNet-18 on random images in CIFAR-10's format; ``clock`` has the time at which
    the first :data:`WARM_UP` steps were done, and all; ``gate`` is called in between.
    """

    net: str = "resnet18"
    benchmark: str = "clb"
    images: int = 1000
    clock: list[float] = field(default_factory=list, compare=False)
    gate: Callable[[], Any] = field(default=int, compare=False)

    def data(self, device: torch.device | str = "cpu") -> ImageSet:
        return noise(self.images, str(device))

    def batches(
        self, members: Sequence[Member], steps: int, device: torch.device
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Two blocks; a loop asks for the next one when the device has done the one before."""
        every = chain.from_iterable(super().batches(members, steps, device))
        for count in (WARM_UP, steps - WARM_UP):
            yield list(islice(every, count))
            if not self.clock:
                self.gate()
            self.clock.append(time.perf_counter())


@cache
def noise(count: int, device: str = "cpu") -> ImageSet:
    """``count`` random images of 3 x 32 x 32 with labels in turn; ten of them are the test set."""
    x = torch.randint(
        0, 256, (count, 3, 32, 32), generator=generator(0, "noise"), dtype=torch.uint8
    )
    y = torch.arange(count) % 10
    return ImageSet("noise", x, y, x[:10], y[:10], 10).to(device)


def our_loop(task: Noise, batch: int, steps: int, device: torch.device) -> float:
    """Images per second of :func:`~remi_lib.training.train`, its start left out."""
    task.clock.clear()
    with tensor_float(task.precision == "tf32"):
        train(task, [Member("mine", 0, batch)], WARM_UP + steps, 1e-3, "adam", device=str(device))
    started, ended = task.clock
    return steps * batch / (ended - started)


def at_once(processes: int, task: Noise, batch: int, steps: int, device: torch.device) -> float:
    """Images per second of all processes together that train on one device at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(processes, timeout=60), context.SimpleQueue()
    multiprocessing.spawn(_one_of, (barrier, found, task, batch, steps, device), processes)
    started, ended = zip(*(found.get() for _ in range(processes)), strict=True)
    return processes * steps * batch / (max(ended) - min(started))


def _one_of(
    rank: int, barrier: Any, found: Any, task: Noise, batch: int, steps: int, device: torch.device
) -> None:
    mine = replace(task, clock=[], gate=barrier.wait)
    our_loop(mine, batch, steps, device)
    found.put(tuple(mine.clock))


def plain_loop(size: int, batch: int, steps: int, device: torch.device) -> float:
    """Images per second as the paper describes it: PIL resize in a DataLoader, eager, float32.

    TF32 as torch has it by default: in convolutions.
    """
    net = ResNet18([0]).to(device)
    update = torch.optim.Adam(net.parameters())
    started, seen = 0.0, 0
    for step, (x, y) in enumerate(_plain_batches(size, batch, steps + 1, device)):
        if step == 1:
            wait(device)
            started = time.perf_counter()
        bound = make_loss("mine")(same_label_pairs(net(x.to(device)), y.to(device)))
        update.zero_grad()
        (-bound.objective).sum().backward()
        update.step()
        seen += batch * (step >= 1)
    wait(device)
    return seen / (time.perf_counter() - started)


def _plain_batches(
    size: int, batch: int, steps: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    from torch.utils.data import DataLoader

    from remi_lib._torchvision import v2

    data = noise(1000)
    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([v2.ToPILImage(), v2.Resize((size, size)), *to_tensor])
    pairs = list(zip(data.train_x, data.train_y.tolist(), strict=True))[: steps * batch]
    return iter(
        DataLoader(
            pairs,  # type: ignore[arg-type]
            batch,
            shuffle=True,
            drop_last=True,
            num_workers=4 if device.type == "cuda" else 0,
            collate_fn=lambda rows: (
                torch.stack([transform(x) for x, _ in rows]) * 2 - 1,
                torch.tensor([y for _, y in rows]),
            ),
        )
    )


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
