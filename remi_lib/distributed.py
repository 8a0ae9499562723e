"""One batch over several processes: what is scored spans them all, gradients included.

The engine is PyTorch's own: ``torchrun`` starts the processes, on one host or several, and
DistributedDataParallel averages the gradients.  Here stands only what the losses need on top: a
pair table over the whole batch.  Every process scores the gathered outputs, so all of them hold
the same loss, and the mean over processes of the gradients is its gradient exactly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from remi_lib.devices import current


class World(NamedTuple):
    """This process's number and how many there are."""

    rank: int
    size: int


def world() -> World:
    """0 of 1 where no process group was started."""
    if not distributed.is_initialized():
        return World(0, 1)
    return World(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """This process as a member of torchrun's group, on a device of its own; alone without it.

    Communicates by NCCL between CUDA devices and by gloo between CPUs.
    """
    if "WORLD_SIZE" not in os.environ or distributed.is_initialized():
        with current(device):
            yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    with current(device):
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield device
        finally:
            distributed.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        shares = [torch.empty_like(x) for _ in range(world().size)]
        distributed.all_gather(shares, x)
        ctx.dim, ctx.count = dim, x.shape[dim]
        return torch.cat(shares, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.narrow(ctx.dim, world().rank * ctx.count, ctx.count), None


def gather(x: Tensor, dim: int = 0) -> Tensor:
    """The processes' equal shares (..., b, ...) as one (..., world * b, ...), in order of ranks.

    Differentiable: a share's gradient is the sum of what every process's loss says of it.
    """
    return x if world().size == 1 else _Gather.apply(x.contiguous(), dim)


def parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """The module as DistributedDataParallel; itself in a world of one.

    On CUDA torch's batch norms see the whole batch too (SyncBatchNorm, which has no CPU form);
    elsewhere the batch norm of a process sees its own share.
    """
    if world().size == 1:
        return module
    if device.type == "cuda":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return DistributedDataParallel(module, [device] if device.type == "cuda" else None)


def share(value: Any) -> list[Any]:
    """Every process's value, in the order of ranks, known to all of them."""
    found = [value] * world().size
    if world().size > 1:
        distributed.all_gather_object(found, value)
    return found
