"""Where tensors live and how a CPU rounds; ground, which imports nothing of the library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def resolve_device(device: str = "auto") -> torch.device:
    """The torch device a name stands for; "auto" takes CUDA, then MPS, then the CPU.

    Raises ValueError for a device that does not exist here.
    """
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
    name, colon, index = device.partition(":")
    count = torch.cuda.device_count() if name == "cuda" else 1
    if not present.get(name, False) or (colon and not (index.isdigit() and int(index) < count)):
        here = ", ".join(name for name, there in present.items() if there)
        raise ValueError(f"device: {device!r} is not there; allowed here: auto, {here}")
    return torch.device(device)


@contextmanager
def current(device: torch.device) -> Iterator[torch.device]:
    """The device as torch's current one, as long as the block lasts.

    Whatever is made without naming a device (a stream, a graph, a library's workspace) is then
    made there, and not on the first GPU of the host.
    """
    if device.type != "cuda":
        yield device
        return
    with torch.cuda.device(device):
        yield device


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """Convolutions of a GPU in TF32 (10 bits of fraction) or in float32, as long as it lasts.

    Matrix products, of which scores are made, stay float32.  Without effect on a CPU.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """CPU arithmetic that rounds denormal numbers to 0, as long as the block lasts.

    Members that overfit or collapse have gradients in that range, where a CPU crawls.
    """
    before = bool((torch.tensor([1e-40]) * 1.0 == 0).all())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
