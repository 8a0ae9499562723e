"""`make gpu-check`: whether the GPU profile can be believed, checked where it is to run.

Each check compares what only a GPU does (graphs, bfloat16, NCCL, its own resize) with what a CPU
is tested to do; each rate is measured beside the plain loop's.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from remi_lib.devices import current, resolve_device, tensor_float
from remi_lib.experiments import gpu_hours
from remi_lib.experiments.image_rates import Noise, at_once, noise, our_loop, plain_loop
from remi_lib.graphs import Backend, CudaGraphs, Recording, recorded_by
from remi_lib.losses import LOSSES, make_loss
from remi_lib.paths import figures_dir
from remi_lib.progress import say
from remi_lib.replication.store import write_json
from remi_lib.tasks import ImageTask, Member, OneHotTask, StaircaseTask, Task, grid
from remi_lib.training import train

STEPS = 30  # of a comparison of two trainings
LIMIT = 120.0  # seconds that all of it may take


@dataclass(frozen=True)
class Check:
    """A measured difference and the largest that is allowed; NaN is not allowed."""

    name: str
    value: float
    limit: float
    note: str

    @property
    def passed(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        return f"{verdict}: {self.name}: {self.value:.2g}, allowed {self.limit:.2g} ({self.note})"


class Counting:
    """A backend that counts the replays of another."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.replays = backend, 0

    def eager(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        return self.backend.eager(step)

    def record(self, step: Callable[[], torch.Tensor]) -> Recording:
        recording = self.backend.record(step)

        def replay() -> None:
            self.replays += 1
            recording.replay()

        return Recording(replay, recording.output)


GRAPH_TASKS: dict[str, tuple[Task, list[Member], str]] = {
    "one-hot": (OneHotTask(), grid(loss=["mine", "nwj", "remine"], seed=[0, 1], batch=32), "sgd"),
    "staircase": (StaircaseTask((2.0,), STEPS, 5, 32), grid(loss=LOSSES, batch=16), "adam"),
    "images": (Noise(size=64), [Member("remine", 0, 10)], "adam"),
}


def graph_equality(name: str, device: torch.device, backend: Backend | None = None) -> Check:
    """Replays against eager steps: largest difference of a term over 1 + its size; inf if none."""
    task, members, optimizer = GRAPH_TASKS[name]
    counting = Counting(backend or CudaGraphs(device))

    def terms(choice: Backend | None) -> np.ndarray:
        with recorded_by(lambda where: choice):
            history = train(task, members, STEPS, 1e-3, optimizer, device=str(device)).history
        return history.terms[["joint_term", "product_term", "penalty"]].to_numpy()

    eager, replayed = terms(None), terms(counting)
    gap = np.abs(replayed - eager) / (1 + np.abs(eager))
    gap[np.isnan(replayed) & np.isnan(eager)] = 0
    value = float(gap.max()) if counting.replays > 1 else float("inf")
    note = f"{STEPS} steps, {counting.replays} of them replayed"
    return Check(f"graph against eager steps, {name}", value, 1e-2, note)


@torch.no_grad()
def half_precision(device: torch.device, size: int = 224) -> Check:
    """Embeddings in bfloat16 and in float32: ||difference|| / ||them||, 0.008 on a CPU."""
    task = Noise(size=size)
    data = task.data(device)
    critic = task.critic([Member("mine")]).to(device)
    with tensor_float(False):
        exact, half = (
            replace(task, precision=precision).outputs_of(critic, data.train_x[:10], data)
            for precision in ("float32", "bfloat16")
        )
    value = ((half - exact).norm() / exact.norm()).item()
    return Check("bfloat16 encoder against float32", value, 0.03, f"ResNet-18 at {size} pixels")


def half_precision_cell(
    device: torch.device, size: int = 64, steps: int = 3 * STEPS, net: str = "resnet18"
) -> Check:
    """A training with a bfloat16 encoder against the same in float32: ReMINE in SLB on digits.

    The difference of the mean estimate of the last third of the steps, in standard deviations of
    a float32 step in that third: single steps part by chaos, their mean must not.
    """
    late = {}
    for precision in ("float32", "bfloat16"):
        task = ImageTask("digits", net=net, size=size, precision=precision)
        with current(device), tensor_float(False):
            found = train(task, [Member("remine", 0, 10)], steps, 1e-3, "adam", device=str(device))
        late[precision] = found.history.terms["mi"].tail(steps // 3)
    exact, half = late["float32"], late["bfloat16"]
    value = float(abs(half.mean() - exact.mean()) / exact.std())
    note = f"the estimate's mean over {steps // 3} steps, in deviations of one, at {size} pixels"
    return Check("bfloat16 training against float32", value, 1.0, note)


def resize(device: torch.device, size: int = 224) -> Check:
    """The loop's resize against torchvision's, in grey levels."""
    from remi_lib._torchvision import v2

    data = noise(20)
    theirs = v2.functional.resize(data.train_x, [size, size], antialias=True).float()
    ours = data.to(device).normalized(data.train_x.to(device), size).cpu()
    value = (((ours + 1) * data.peak / 2).round() - theirs).abs().max().item()
    return Check("resize against torchvision's", value, 1.0, f"grey levels, 32 to {size} pixels")


def one_process_ddp(device: torch.device, size: int = 64) -> Check:
    """Gradients through DistributedDataParallel in a world of one against those without it."""
    task = Noise(size=size)
    data = task.data(device)
    gpu = device.type == "cuda"

    def gradient(wrap: Callable[[nn.Module], nn.Module]) -> torch.Tensor:
        critic = task.critic([Member("infonce")]).to(device)
        outputs = wrap(critic)(data.normalized(data.train_x[:20], size))
        table = task.table(outputs, data.train_y[:20].expand(outputs.shape[:2]))
        (-make_loss("infonce")(table).objective).sum().backward()
        return torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])

    def shared(critic: nn.Module) -> nn.Module:
        if gpu:
            critic = nn.SyncBatchNorm.convert_sync_batchnorm(critic)
        return DistributedDataParallel(critic, [device] if gpu else None)

    backend = "nccl" if gpu else "gloo"
    with current(device), tensor_float(False):
        alone = gradient(lambda critic: critic)
        distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
        try:
            together = gradient(shared)
        finally:
            distributed.destroy_process_group()
    value = ((together - alone).norm() / alone.norm()).item()
    return Check(f"one process under DDP ({backend})", value, 1e-3, "gradients of one batch")


@dataclass(frozen=True)
class Rate:
    """Images per second of both loops at one size, batch and precision of ours."""

    size: int
    batch: int
    precision: str
    ours: float
    plain: float

    def __str__(self) -> str:
        return (
            f"ResNet-18 at {self.size}, batch {self.batch}, {self.precision}: {self.ours:.0f} "
            f"images/s, plain loop {self.plain:.0f}, ratio {self.ours / self.plain:.1f}"
        )


CELLS = (
    (224, 10, "tf32"),
    (224, 10, "bfloat16"),
    (224, 10, "float32"),
    (224, 100, "tf32"),
    (32, 10, "tf32"),
)


def measure(size: int, batch: int, precision: str, device: torch.device, images: int = 900) -> Rate:
    """Both loops over ``images`` images."""
    steps = max(images // batch, 1)
    ours = our_loop(Noise(size=size, precision=precision), batch, steps, device)
    return Rate(size, batch, precision, ours, plain_loop(size, batch, steps, device))


def sharing(
    alone: Rate, device: torch.device, images: int = 900, counts: Sequence[int] = (2, 4)
) -> dict[int, float]:
    """Images per second of one process and of several together, in the cell of a measured rate."""
    task = Noise(size=alone.size, precision=alone.precision)
    steps = max(images // alone.batch, 1)
    shared = {count: at_once(count, task, alone.batch, steps, device) for count in counts}
    return {1: alone.ours} | shared


def rates_of(measured: Sequence[Rate]) -> gpu_hours.Rates:
    """Measured rates in the place of the stated ones: operations a second at the paper's size.

    Of several batch sizes the slowest, so that the projection is not too small; the time of a step
    is that of the smallest images, which are nearly nothing but the start of kernels.
    """
    rates = gpu_hours.Rates()
    for precision in {rate.precision for rate in measured}:
        own = [rate for rate in measured if rate.precision == precision]
        large = [rate for rate in own if rate.size == max(r.size for r in own)]
        network = gpu_hours.Network("resnet18", large[0].size, 3, 512, 0)
        slowest = min(rate.ours for rate in large)
        rates = replace(rates, **{precision: slowest * gpu_hours.training_flop(network)})
    small = min(measured, key=lambda rate: (rate.size, rate.batch))
    return replace(rates, step=small.batch / small.ours)


def report(
    checks: Sequence[Check],
    measured: Sequence[Rate],
    shared: dict[int, float],
    device: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    """What check.json holds; hours are projected from the rates of the same run."""
    rates = rates_of(measured)
    return {
        "device": device,
        "seconds": round(seconds, 1),
        "passed": all(check.passed for check in checks),
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
        "images per second": [asdict(rate) for rate in measured],
        "images per second, by processes": shared,
        "REMI_PER_GPU, fastest": max(shared, key=lambda count: shared[count]),
        "rates": asdict(rates),
        "GPU-hours, projected": {
            profile: {
                row.artifact: round(row.hours, 2)
                for row in gpu_hours.table(gpu_hours.costs(profile, rates)).itertuples()
            }
            for profile in gpu_hours.PROFILES
        },
    }


def about(device: torch.device) -> dict[str, str]:
    """Device, driver ("unknown" where it says nothing), versions and day."""
    driver = Path("/proc/driver/nvidia/version")
    known = driver.is_file()
    return {
        "name": torch.cuda.get_device_name(device),
        "driver": driver.read_text(encoding="utf-8").splitlines()[0] if known else "unknown",
        "cuda": str(torch.version.cuda),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }


def main() -> int:
    """Run everything; 1 if a check failed."""
    if not torch.cuda.is_available():
        say("gpu-check: skipped, there is no CUDA device here")
        return 0
    started = time.perf_counter()
    device = resolve_device("cuda:0")
    checks = [graph_equality(name, device) for name in GRAPH_TASKS]
    checks += [half_precision(device), half_precision_cell(device)]
    checks += [resize(device), one_process_ddp(device)]
    for check in checks:
        say(str(check))
    measured = []
    for cell in CELLS:
        measured.append(measure(*cell, device))
        say(str(measured[-1]))
    shared = sharing(measured[-1], device)
    say(", ".join(f"{n} at once: {rate:.0f} images/s" for n, rate in shared.items()))
    seconds = time.perf_counter() - started
    checks.append(Check("time of this check", seconds, LIMIT, "seconds"))
    say(str(checks[-1]))
    found = report(checks, measured, shared, about(device), seconds)
    target = figures_dir("gpu") / "check.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(found, target)
    for profile, hours in found["GPU-hours, projected"].items():
        say(f"PROFILE={profile}: {hours['all']:.0f} GPU-hours at these rates, one run at a time")
    say(f"written to {target.parent.name}/{target.name}")
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
