"""`make bench`: the batched engines against one run at a time, both measured here, now.

Prints member-steps per second and their ratio, after checking that both compute the same.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from datetime import date

import numpy as np
import torch

from remi_lib import LOSSES
from remi_lib.tasks import ImageTask, Member, OneHotTask, Task, grid
from remi_lib.training import resolve_device, train


def compare(
    name: str, task: Task, members: Sequence[Member], steps: int, sample: int, **settings
) -> None:
    """All members as one model against the first ``sample`` of them one by one."""
    train(task, members[:1], 2, **settings)  # warm up
    started = time.perf_counter()
    together = train(task, members, steps, **settings).history.terms
    batched = len(members) * steps / (time.perf_counter() - started)
    started = time.perf_counter()
    single = [train(task, [m], steps, **settings).history.terms for m in members[:sample]]
    alone = sample * steps / (time.perf_counter() - started)
    for i, history in enumerate(single):
        own = together.loc[together["member"] == i, "joint_term"].to_numpy()
        np.testing.assert_allclose(own[:5], history["joint_term"].to_numpy()[:5], rtol=1e-3)
    print(
        f"{name:28s} {len(members):4d} members together {batched:9.0f} member-steps/s, "
        f"one at a time {alone:8.0f}, ratio {batched / alone:5.1f}"
    )


def main() -> None:
    torch.set_num_threads(1)
    device = resolve_device("auto")
    print(
        f"{platform.machine()}, torch {torch.__version__}, {device}, one thread, "
        f"{date.today().isoformat()}; the first steps of both are checked to agree"
    )
    one_hot = grid(loss=["mine", "nwj", "remine", "renwj"], seed=range(10), batch=100)
    compare("one-hot, 4 losses x 10", OneHotTask(), one_hot, 300, 8)
    images = [Member(loss, 0, 10) for loss in LOSSES]
    for benchmark in ("slb", "clb"):
        task = ImageTask(benchmark=benchmark)
        options = {"lr": 1e-3, "optimizer": "adam"}
        compare(f"digits {benchmark}, 12 losses", task, images, 143, 12, **options)


if __name__ == "__main__":
    main()
