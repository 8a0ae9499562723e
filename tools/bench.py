"""`make bench`: the batched engines against one run at a time, both measured here, now.

Prints member-steps per second and their ratio, after checking that both compute the same; then
the modules of :mod:`remi_lib.nn` beside the losses they replace (:mod:`tools.bench_modules`).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from datetime import date

import numpy as np
import torch
from torch.utils.benchmark import Timer

from remi_lib import LOSSES
from remi_lib.devices import resolve_device
from remi_lib.experiments.gpu_check import measure
from remi_lib.experiments.gpu_hours import staircase_flop
from remi_lib.tasks import ImageTask, Member, OneHotTask, StaircaseTask, Task, grid
from remi_lib.training import train
from tools.bench_modules import module_bench


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
    square = torch.randn(1024, 1024, device=device)
    peak = 2 * 1024**3 / Timer("a @ a", globals={"a": square}).timeit(20).mean
    floor = staircase_flop(20, 64, 32)
    print(
        f"{'':28s} floor {floor / 1e6:.0f} MFLOP a member-step, "
        f"{rate * floor / peak:.0%} of this machine's {peak / 1e9:.0f} GFLOP/s"
    )
    images = [Member(loss, 0, 10) for loss in LOSSES]
    for benchmark in ("slb", "clb"):
        task = ImageTask(benchmark=benchmark)
        options = {"lr": 1e-3, "optimizer": "adam"}
        compare(f"digits {benchmark}, 12 losses", task, images, 143, 12, **options)
    gpu = device.type == "cuda"
    size, count = (224, 900) if gpu else (64, 80)
    for batch in (10, 100) if gpu else (10,):
        print(measure(size, batch, "tf32", device, count))
    module_bench(device)


if __name__ == "__main__":
    main()
