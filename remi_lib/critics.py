"""Statistics networks T(x, y), stacked: M independent members as one batched module.

Every parameter carries the member as its leading dimension, so a batched matrix product trains
all members at once and nothing a member does reaches another.  The initial parameters of a
member depend on its seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

Init = Callable[[Tensor, int, torch.Generator], Tensor]


def torch_default(x: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases, as ``nn.Linear`` does."""
    bound = 1 / math.sqrt(fan_in)
    return x.uniform_(-bound, bound, generator=generator)


def normal_init(std: float = 0.05) -> Init:
    """Weights N(0, std^2), biases zero: the authors' Gaussian critic (std 0.05)."""

    def init(x: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
        return x.zero_() if x.dim() == 1 else x.normal_(0, std, generator=generator)

    return init


class ConcatCritic(nn.Module):
    """T(x, y) = MLP([x, y]) with ReLU, on all pairs of a batch.

    The first layer is split over x and y: W [x, y] = W_x x + W_y y, so a pair costs one addition
    instead of a product over the concatenated input.

    Args:
        seeds: one per member.
        x_dim, y_dim: input widths.
        hidden: widths of the hidden layers; (64,) in the one-hot problem, (256, 256) in Fig 7.
        output_bias: the one-hot critic has none.
        init: fills one member's parameter in place, see :func:`torch_default`.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        x_dim: int,
        y_dim: int,
        hidden: Sequence[int] = (64,),
        output_bias: bool = False,
        init: Init = torch_default,
    ) -> None:
        super().__init__()
        widths = [x_dim + y_dim, *hidden, 1]
        self.x_dim = x_dim
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            with_bias = output_bias or layer < len(hidden)
            weight = [init(torch.empty(fan_in, fan_out), fan_in, g) for g in generators]
            bias = [init(torch.empty(fan_out), fan_in, g) for g in generators if with_bias]
            self.weights.append(nn.Parameter(torch.stack(weight)))
            if with_bias:
                self.biases.append(nn.Parameter(torch.stack(bias)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores (M, n, m) of x (M or 1, n, x_dim) with y (M or 1, m, y_dim)."""
        first = self.weights[0]
        h_x = x @ first[:, : self.x_dim] + self.biases[0].unsqueeze(1)
        h_y = y @ first[:, self.x_dim :]
        h = relu(h_x.unsqueeze(2) + h_y.unsqueeze(1))
        members, n, m, _ = h.shape
        h = h.view(members, n * m, -1)
        for layer in range(1, len(self.weights)):
            if layer < len(self.biases):
                h = torch.baddbmm(self.biases[layer].unsqueeze(1), h, self.weights[layer])
            else:
                h = h @ self.weights[layer]
            if layer < len(self.weights) - 1:
                h = relu(h)
        return h.view(members, n, m)
