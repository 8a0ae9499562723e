"""Members trained side by side: a stacked MLP, and Adam with a rate for each member."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from remi_lib.critics import torch_default
from remi_lib.streams import generator


class StackedMLP(nn.Module):
    """M independent MLPs with ReLU and a linear output; initial parameters depend on the seed."""

    def __init__(self, seeds: Sequence[int], widths: Sequence[int], purpose: str) -> None:
        super().__init__()
        streams = [generator(seed, purpose) for seed in seeds]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n, m in pairwise(widths):
            weight = [torch_default(torch.empty(n, m), n, g) for g in streams]
            bias = [torch_default(torch.empty(1, m), n, g) for g in streams]
            self.weights.append(nn.Parameter(torch.stack(weight)))
            self.biases.append(nn.Parameter(torch.stack(bias)))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (M, n, m) of inputs (M or 1, n, inputs)."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias if i == 0 else torch.relu(x) @ weight + bias
        return x


class MemberAdam:
    """AdamW (Loshchilov & Hutter 2019) whose rate and decay (M,) differ between members."""

    betas, eps = (0.9, 0.999), 1e-8

    def __init__(self, parameters: Iterator[nn.Parameter], rates: Tensor, decays: Tensor) -> None:
        self.parameters = list(parameters)
        self.rates, self.decays, self.steps = rates, decays, 0
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter by its gradient, and forget the gradient."""
        self.steps += 1
        a, b = self.betas
        corrected = (1 - b**self.steps) ** 0.5
        for p, m, v in zip(self.parameters, self.first, self.second, strict=True):
            assert p.grad is not None
            rate, decay = (x.view(-1, *[1] * (p.dim() - 1)) for x in (self.rates, self.decays))
            m.lerp_(p.grad, 1 - a)
            v.mul_(b).addcmul_(p.grad, p.grad, value=1 - b)
            p.mul_(1 - rate * decay)
            p.sub_(rate / (1 - a**self.steps) * m / (v.sqrt() / corrected + self.eps))
            p.grad = None


def drawn(seeds: Sequence[int], of: int, steps: int, batch: int) -> Iterator[Tensor]:
    """Indices (M, batch) of each step's samples; members of one seed share them."""
    own = sorted(set(seeds))
    place = torch.tensor([own.index(seed) for seed in seeds])
    streams = [generator(seed, "batches") for seed in own]
    for _ in range(steps):
        yield torch.stack([torch.randint(of, (batch,), generator=g) for g in streams])[place]
