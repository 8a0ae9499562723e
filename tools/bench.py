"""`make bench`: the batched engines against one run at a time, both measured here, now.

Prints member-steps per second and their ratio, after checking that both compute the same.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import numpy as np
import torch

from remi_lib import LOSSES, make_loss, same_label_pairs
from remi_lib.critics import ResNet18
from remi_lib.devices import resolve_device
from remi_lib.images import ImageSet
from remi_lib.tasks import ImageTask, Member, OneHotTask, StaircaseTask, Task, grid
from remi_lib.training import train


def compare(
    name: str, task: Task, members: Sequence[Member], steps: int, sample: int, **settings
) -> float:
    """All members as one model against the first ``sample`` of them one by one.

    Returns the member-steps per second of the former.
    """
    train(task, members[:1], 2, **settings)  # warm up
    started = time.perf_counter()
    together = train(task, members, steps, **settings).history.terms
    batched = len(members) * steps / (time.perf_counter() - started)
    started = time.perf_counter()
    single = [train(task, [m], steps, **settings).history.terms for m in members[:sample]]
    alone = sample * steps / (time.perf_counter() - started)
    for i, history in enumerate(single):
        own = together.loc[together["member"] == i, "mi"].to_numpy()
        np.testing.assert_allclose(own[:5], history["mi"].to_numpy()[:5], rtol=1e-3)
    print(
        f"{name:28s} {len(members):4d} members together {batched:9.0f} member-steps/s, "
        f"one at a time {alone:8.0f}, ratio {batched / alone:5.1f}"
    )
    return batched


def peak_flops(device: torch.device, n: int = 1024, repeats: int = 20) -> float:
    """Floating-point operations per second of a square float32 matrix product, measured."""
    a = torch.randn(n, n, device=device)
    for timed in (False, True):
        started = time.perf_counter()
        for _ in range(repeats):
            a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        if timed:
            return repeats * 2 * n**3 / (time.perf_counter() - started)
    raise AssertionError


def staircase_flops(task: StaircaseTask, batch: int) -> float:
    """Multiply-adds, twice, of a forward and backward pass over all pairs (the floor of a step)."""
    pairs, width = batch**2, task.width
    hidden, first = pairs * (width**2 + width), 2 * batch * task.dim * width
    return 3 * 2 * (hidden + first)


@dataclass(frozen=True)
class Noise(ImageTask):
    """CLB with ResNet-18 on random images in CIFAR-10's format: the data set costs nothing."""

    net: str = "resnet18"
    benchmark: str = "clb"
    images: int = 1000

    def data(self, device: torch.device | str = "cpu") -> ImageSet:
        return _noise(self.images, str(device))


@cache
def _noise(count: int, device: str) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    y = torch.arange(count) % 10
    return ImageSet("noise", x, y, x[:10], y[:10], 10).to(device)


def plain_loop(size: int, batch: int, steps: int, device: torch.device) -> float:
    """Images per second as the paper describes it: PIL resize in a DataLoader, eager, float32."""
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    data = _noise(1000, "cpu")
    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([v2.ToPILImage(), v2.Resize((size, size)), *to_tensor])
    pairs = list(zip(data.train_x, data.train_y.tolist(), strict=True))[: (steps + 1) * batch]
    loader = DataLoader(
        pairs,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=4 if device.type == "cuda" else 0,
        collate_fn=lambda rows: (
            torch.stack([transform(x) for x, _ in rows]) * 2 - 1,
            torch.tensor([y for _, y in rows]),
        ),
    )
    net = ResNet18([0]).to(device)
    update = torch.optim.Adam(net.parameters())
    started, seen = 0.0, 0
    for step, (x, y) in enumerate(loader):
        if step == 1:
            _wait(device)
            started = time.perf_counter()
        bound = make_loss("mine")(same_label_pairs(net(x.to(device)), y.to(device)))
        update.zero_grad()
        (-bound.objective).sum().backward()
        update.step()
        seen += batch * (step >= 1)
    _wait(device)
    return seen / (time.perf_counter() - started)


def our_loop(size: int, batch: int, steps: int, device: torch.device) -> float:
    """Images per second of the benchmark's own loop, its warm-up left out."""
    task = Noise(size=size, precision="bfloat16" if device.type == "cuda" else "float32")
    member = [Member("mine", 0, batch)]
    times = []
    for count in (5, steps + 5):
        started = time.perf_counter()
        train(task, member, count, 1e-3, "adam", device=str(device))
        times.append(time.perf_counter() - started)
    return steps * batch / (times[1] - times[0])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def table2_cost(device: torch.device) -> None:
    """The image loop beside the plain one, and the hours that all of Table 2 would take."""
    gpu = device.type == "cuda"
    size, steps = (224, 90) if gpu else (64, 8)
    rates = {}
    for batch in (10, 100) if gpu else (10,):
        rates[batch] = our_loop(size, batch, min(steps, 900 // batch), device)
        plain = plain_loop(size, batch, min(steps, 900 // batch), device)
        print(
            f"ResNet-18 at {size}, batch {batch:3d}: {rates[batch]:7.1f} images/s, plain loop "
            f"{plain:7.1f}, ratio {rates[batch] / plain:4.1f}"
        )
    images = {10: 140 * 50_000 * 60, 100: 250 * 50_000 * 60}  # epochs x images x (losses x seeds)
    floor = 2 * 3 * 1.82e9 * sum(images.values())  # forward and backward at 224 pixels
    print(f"Table 2: {sum(images.values()):.2e} images, floor {floor:.1e} FLOP", end="")
    if gpu:
        hours = sum(n / rates[batch] for batch, n in images.items()) / 3600
        print(f"; {hours:.1f} hours at these rates on one GPU, one run at a time")
    else:
        print("; hours are for a GPU to measure (run `make bench` there)")


def main() -> None:
    torch.set_num_threads(1)
    device = resolve_device("auto")
    print(
        f"{platform.machine()}, torch {torch.__version__}, {device}, one thread, "
        f"{date.today().isoformat()}; the first steps of both are checked to agree"
    )
    one_hot = grid(loss=["mine", "nwj", "remine", "renwj"], seed=range(10), batch=100)
    compare("one-hot, 4 losses x 10", OneHotTask(), one_hot, 300, 8)
    stairs = StaircaseTask((2.0, 4.0), 40, 20, 64, 0.1)
    gaussian = grid(loss=LOSSES, seed=range(2), batch=32, weight=1.0)
    options = {"lr": 2e-3, "optimizer": "adam", "probe_every": 80}
    rate = compare("Gaussian 20-D, 12 losses x 2", stairs, gaussian, stairs.steps, 12, **options)
    floor, peak = staircase_flops(stairs, 32), peak_flops(device)
    print(
        f"{'':28s} floor {floor / 1e6:.0f} MFLOP a member-step, "
        f"{rate * floor / peak:.0%} of this machine's {peak / 1e9:.0f} GFLOP/s"
    )
    images = [Member(loss, 0, 10) for loss in LOSSES]
    for benchmark in ("slb", "clb"):
        task = ImageTask(benchmark=benchmark)
        options = {"lr": 1e-3, "optimizer": "adam"}
        compare(f"digits {benchmark}, 12 losses", task, images, 143, 12, **options)
    table2_cost(device)


if __name__ == "__main__":
    main()
