"""The modules of :mod:`remi_lib.nn` beside what they replace: memory and time, in one run.

Part of `make bench`.  The peers are the formulas of their libraries, and the libraries themselves
where the extra ``metric`` is installed.  Ours and theirs take turns, so that whatever else the
machine does meets both; a time is the least of a few, and a memory is the most that a forward and
a backward pass held at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from remi_lib import (
    LOSSES,
    _torchvision,  # noqa: F401  (lightly and open_clip import torchvision)
)
from remi_lib.nn import ContrastiveLoss, PairLoss, TwoViewLoss

BATCH, DIM, CLASSES, TAU = 4096, 256, 100, 0.1
TURNS = 3
MIB = 2**20
Step = Callable[[], Tensor]


def supcon(z: Tensor, labels: Tensor) -> Tensor:
    """SupCon as one cross-entropy with several targets."""
    z = normalize(z, dim=-1)
    eye = torch.eye(len(z), dtype=torch.bool, device=z.device)
    joint = ((labels[:, None] == labels) & ~eye).to(z.dtype)
    logits = (z @ z.T / TAU).masked_fill(eye, -1e9)
    return cross_entropy(logits, joint / joint.sum(1, keepdim=True))


def simclr(first: Tensor, second: Tensor) -> Tensor:
    """SimCLR's NT-Xent as one cross-entropy."""
    z, n = normalize(torch.cat([first, second]), dim=-1), len(first)
    eye = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    logits = (z @ z.T / TAU).masked_fill(eye, -torch.inf)
    return cross_entropy(logits, torch.arange(2 * n, device=z.device).roll(n))


def clip(image: Tensor, text: Tensor) -> Tensor:
    """CLIP's loss as two cross-entropies of one table."""
    logits = normalize(image, dim=-1) / TAU @ normalize(text, dim=-1).T
    own = torch.arange(len(image), device=image.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def info_nce(query: Tensor, key: Tensor) -> Tensor:
    """InfoNCE of queries and keys as one cross-entropy."""
    logits = normalize(query, dim=-1) / TAU @ normalize(key, dim=-1).T
    return cross_entropy(logits, torch.arange(len(query), device=query.device))


def library(module: str, name: str, *arguments: float) -> Callable[..., Tensor] | None:
    """A loss of another library; None where it is not installed."""
    try:
        return getattr(import_module(module), name)(*arguments)
    except ImportError:
        return None


def open_clip(image: Tensor, text: Tensor) -> Tensor:
    """What open_clip's ClipLoss is given: normalised features and a scale."""
    loss = library("open_clip.loss", "ClipLoss")
    assert loss is not None
    return loss(normalize(image, dim=-1), normalize(text, dim=-1), 1 / TAU)


def cases(device: torch.device) -> Iterator[tuple[str, Step, Step]]:
    """Name, our step and the peer's, on the same batch."""
    a, b = torch.randn(2, BATCH, DIM, device=device)
    labels = torch.arange(BATCH, device=device) % CLASSES
    views = a[: BATCH // 2], b[: BATCH // 2]
    anchors = ContrastiveLoss(temperature=TAU, positives="anchors")
    simple, both, one = (
        TwoViewLoss(temperature=TAU),
        PairLoss(temperature=TAU),
        PairLoss(temperature=TAU, symmetric=False),
    )
    metric = library("pytorch_metric_learning.losses", "SupConLoss", TAU)
    lightly = library("lightly.loss", "NTXentLoss", TAU)
    nce = library("info_nce", "InfoNCE", TAU)
    everything = [
        ("SupCon", anchors, supcon, (a, labels)),
        ("SimCLR", simple, simclr, views),
        ("CLIP", both, clip, (a, b)),
        ("InfoNCE", one, info_nce, (a, b)),
        ("pytorch-metric-learning SupConLoss", anchors, metric, (a, labels)),
        ("lightly NTXentLoss", simple, lightly, views),
        ("open_clip ClipLoss", both, library("open_clip.loss", "ClipLoss") and open_clip, (a, b)),
        ("info-nce-pytorch InfoNCE", one, nce, (a, b)),
    ]
    for name, ours, theirs, inputs in everything:
        if theirs is not None:
            given = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
            yield name, partial(ours, *given), partial(theirs, *given)


def held(device: torch.device, *, reset: bool = False) -> float:
    """The most memory held since the last reset, in bytes; NaN where nobody counts it."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:  # Linux only
        return float("nan")
    return float(status.split("VmHWM:")[1].split()[0]) * 1024


def measured(step: Step, device: torch.device) -> tuple[float, float]:
    """Seconds and bytes of a forward and a backward pass."""
    before, started = held(device, reset=True), time.perf_counter()
    step().backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, held(device) - before


def compare(name: str, ours: Step, theirs: Step, device: torch.device, turns: int) -> None:
    """A line: our time and memory, theirs, and the ratios."""
    seen = [(measured(ours, device), measured(theirs, device)) for _ in range(turns)]
    t, their_t = (min(x[who][0] for x in seen) for who in (0, 1))
    most, their_most = (max(x[who][1] for x in seen) / MIB for who in (0, 1))
    print(
        f"{name:36s} {t:6.2f} s / {their_t:6.2f} s = {t / their_t:4.2f}, "
        f"{most:5.0f} MiB / {their_most:5.0f} MiB = {most / their_most:4.2f}"
    )


def module_bench(device: torch.device) -> None:
    """A line for each peer, and one for each loss in the place of CLIP's."""
    print(f"\nReInfoNCE of {BATCH} rows of {DIM}, forward and backward; ours / theirs")
    for name, ours, theirs in cases(device):
        compare(name, ours, theirs, device, TURNS)
    print("every loss of image and text / two cross-entropies of one table")
    a, b = (x.requires_grad_() for x in torch.randn(2, BATCH, DIM, device=device))
    for name in LOSSES:
        module = PairLoss(name, temperature=TAU)
        compare(name, partial(module, a, b), partial(clip, a, b), device, 1)


if __name__ == "__main__":
    from remi_lib.devices import resolve_device

    torch.set_num_threads(1)
    module_bench(resolve_device("auto"))
