"""The networks of Fig 8, the foreign images, and what the critics say of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from remi_lib.checks import one_of
from remi_lib.critics import ImageCritic
from remi_lib.devices import resolve_device
from remi_lib.experiments.image_runs import Run, execute, file, outputs
from remi_lib.images import ImageSet, load_images
from remi_lib.losses import optimal_shift, split_name
from remi_lib.replication.store import cached
from remi_lib.replication.workers import unordered
from remi_lib.streams import generator
from remi_lib.tasks import ImageTask, Member, member_config

FOREIGN = ("photos", "inverted", "shuffled", "mnist", "cifar10", "cifar100")


def foreign_images(name: str, like: ImageSet, count: int = 1000, seed: int = 0) -> Tensor:
    """At most ``count`` images of another kind in the format of ``like``, uint8 (n, C, H, W).

    "photos": patches of scikit-learn's two sample photographs.  "inverted", "shuffled": the test
    images with ink and paper exchanged, or their pixels permuted.  Other names are image sets.
    """
    one_of("foreign", name, FOREIGN)
    stream = generator(seed, "foreign images")
    channels, side = like.test_x.shape[1], like.test_x.shape[-1]
    if name == "photos":
        return _photo_patches(like, count, stream)
    if name == "inverted":
        return like.peak - like.test_x[:count]
    if name == "shuffled":
        order = torch.randperm(channels * side * side, generator=stream)
        return like.test_x[:count].flatten(1)[:, order].view_as(like.test_x[:count])
    other = load_images(name)
    x = other.test_x[:count].float().expand(-1, max(channels, other.test_x.shape[1]), -1, -1)
    x = torch.nn.functional.interpolate(x[:, :channels], (side, side), mode="bilinear")
    return (x * like.peak / other.peak).round().to(torch.uint8)


def _photo_patches(like: ImageSet, count: int, stream: torch.Generator) -> Tensor:
    """Random square patches of the sample photographs, 4 pixels to one."""
    from sklearn.datasets import load_sample_images

    channels, side = like.test_x.shape[1], like.test_x.shape[-1]
    photos = [
        torch.from_numpy(np.array(p)).permute(2, 0, 1).float() for p in load_sample_images().images
    ]
    patches, large = [], 4 * side
    for i in range(count):
        photo = photos[i % len(photos)]
        top = int(torch.randint(photo.shape[1] - large, (1,), generator=stream))
        left = int(torch.randint(photo.shape[2] - large, (1,), generator=stream))
        patches.append(photo[:, top : top + large, left : left + large])
    x = torch.nn.functional.avg_pool2d(torch.stack(patches), 4)
    x = x.mean(1, keepdim=True) if channels == 1 else x
    return (x * like.peak / 255).round().to(torch.uint8)


def critic_outputs(
    task: ImageTask,
    losses: Sequence[str],
    foreign: Sequence[str],
    *,
    seeds: int | Iterable[int],
    batch: int,
    epochs: int,
    weight: float,
    lr: float = 1e-3,
    device: str = "auto",
) -> pd.DataFrame:
    """Each loss trained on SLB at each seed; T(x, y) of every image and label, remembered.

    T is shifted so that it estimates log dP/dQ for every loss (NWJ: minus 1); foreign images have
    the ``label`` -1.
    """
    jobs: list[tuple[Any, ...]] = []
    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        members = [Member(n, seed, batch, weight if split_name(n)[1] else None) for n in losses]
        # A stack of one network per process where networks do not stack.
        parts = [members] if task.stacks else [[m] for m in members]
        jobs += [(len(jobs) + i, task, p, foreign, epochs, lr, device) for i, p in enumerate(parts)]
    found = dict(unordered(_remembered, jobs, 1 if resolve_device(device).type != "cpu" else None))
    return pd.concat([found[i] for i in range(len(jobs))], ignore_index=True)


def config_of(
    task: ImageTask, members: Sequence[Member], foreign: Sequence[str], epochs: int, lr: float
) -> dict[str, Any]:
    """What the outputs of one stack of networks are filed under."""
    return {
        "task": vars(task),
        "members": [member_config(m) for m in members],
        "foreign": list(foreign),
        "epochs": epochs,
        "lr": lr,
    }


def _remembered(
    number: int,
    task: ImageTask,
    members: Sequence[Member],
    foreign: Sequence[str],
    epochs: int,
    lr: float,
    device: str,
) -> tuple[int, pd.DataFrame]:
    config = config_of(task, members, foreign, epochs, lr)
    label = f"outputs seed {members[0].seed} ({len(members)} runs)"

    found: dict[str, pd.DataFrame] = {}

    def look(critic: ImageCritic, data: ImageSet) -> None:
        sets = {"train": (data.train_x, data.train_y), "test": (data.test_x, data.test_y)}
        for name in foreign:
            images = foreign_images(name, data.to("cpu")).to(data.train_y.device)
            sets[name] = (images, torch.full((len(images),), -1))
        found["outputs"] = _rows(task, critic, members, data, sets)

    def compute() -> dict[str, pd.DataFrame]:
        runs = [Run(task, member, epochs, lr) for member in members]
        results = execute(runs, device, label, look)
        # Alone, a network is the one that Table 2 asks for, and is not trained again.  In a stack
        # the company decides how sums are rounded: Table 2 trains its own.
        if not task.stacks:
            file(runs, results)
        return found

    return number, cached("outputs", config, __name__, compute)["outputs"]


@torch.no_grad()
def _rows(
    task: ImageTask,
    critic: ImageCritic,
    members: Sequence[Member],
    data: ImageSet,
    sets: Mapping[str, tuple[Tensor, Tensor]],
) -> pd.DataFrame:
    parts = []
    for name, (images, labels) in sets.items():
        t = outputs(task, critic, images, data).cpu().numpy()
        for member, table in zip(members, t, strict=True):
            frame = pd.DataFrame(table - optimal_shift(member.loss))
            frame.columns = [str(c) for c in frame.columns]
            about = {"loss": member.loss, "seed": member.seed, "set": name}
            parts.append(frame.assign(**about, label=labels.cpu().numpy()))
    return pd.concat(parts, ignore_index=True)
