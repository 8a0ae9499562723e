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
from torch.nn.functional import relu_

from remi_lib.checks import one_of
from remi_lib.streams import as_global_stream, generator

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
        second_head: a second scalar on the last hidden layer (``scores.with_head``).
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
        second_head: bool = False,
    ) -> None:
        super().__init__()
        widths = [x_dim + y_dim, *hidden, 1]
        self.x_dim = x_dim
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        generators = [generator(seed, "critic") for seed in seeds]
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            with_bias = output_bias or layer < len(hidden)
            weight = [init(torch.empty(fan_in, fan_out), fan_in, g) for g in generators]
            bias = [init(torch.empty(fan_out), fan_in, g) for g in generators if with_bias]
            self.weights.append(nn.Parameter(torch.stack(weight)))
            if with_bias:
                self.biases.append(nn.Parameter(torch.stack(bias)))
        self.second: nn.Parameter | None = None
        if second_head:  # drawn last: the first head does not depend on whether there is one
            heads = [init(torch.empty(widths[-2], 1), widths[-2], g) for g in generators]
            self.second = nn.Parameter(torch.stack(heads))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores (M, n, m) of x (M or 1, n, x_dim) with y (M or 1, m, y_dim)."""
        return self.heads(x, y)[0]

    def heads(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """The scores, and the second head's output (M, n, m) or None."""
        first = self.weights[0]
        h_x = x @ first[:, : self.x_dim] + self.biases[0].unsqueeze(1)
        h_y = y @ first[:, self.x_dim :]
        h = relu_(h_x.unsqueeze(2) + h_y.unsqueeze(1))
        members, n, m, _ = h.shape
        h = h.view(members, n * m, -1)
        last = len(self.weights) - 1
        for layer in range(1, last):
            h = relu_(torch.baddbmm(self.biases[layer].unsqueeze(1), h, self.weights[layer]))
        scores = h @ self.weights[last]
        if last < len(self.biases):
            scores = scores + self.biases[last].unsqueeze(1)
        second = None if self.second is None else (h @ self.second).view(members, n, m)
        return scores.view(members, n, m), second


class StackedConvNet(nn.Module):
    """M small convolutional networks as one: 3x3/2, 3x3/2 and 1x1 convolutions, average pool.

    Each convolution is followed by batch norm and ReLU, so the features are non-negative, as
    those of ResNet-18 are.  Activations are kept channels-last and a convolution is one batched
    matrix product over patches, which on a CPU is several times faster than a grouped one.

    Args:
        seeds: one per member.
        size, channels: of the images.
        width: of the features; the two layers below have 16 and 32 channels.
    """

    momentum, eps = 0.1, 1e-5  # nn.BatchNorm2d's

    def __init__(
        self, seeds: Sequence[int], size: int = 8, channels: int = 1, width: int = 512
    ) -> None:
        super().__init__()
        generators = [generator(seed, "encoder") for seed in seeds]
        self.members = len(generators)
        self.weights, self.scales, self.shifts = (nn.ParameterList() for _ in range(3))
        for layer, (taps, fan_in, fan_out) in enumerate(
            ((9, channels, 16), (9, 16, 32), (1, 32, width))
        ):
            inputs = taps * fan_in
            weight = [torch_default(torch.empty(inputs, fan_out), inputs, g) for g in generators]
            self.weights.append(nn.Parameter(torch.stack(weight)))
            self.scales.append(nn.Parameter(torch.ones(self.members, 1, fan_out)))
            self.shifts.append(nn.Parameter(torch.zeros(self.members, 1, fan_out)))
            self.register_buffer(f"mean{layer}", torch.zeros(self.members, 1, fan_out))
            self.register_buffer(f"var{layer}", torch.ones(self.members, 1, fan_out))
        self.sizes = (size, -(-size // 2))
        for layer, side in enumerate(self.sizes):
            self.register_buffer(f"taps{layer}", _patch_index(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features (M, B, width) of images (B, C, size, size) shared by all members.

        Raises ValueError for images of another size.
        """
        side = self.sizes[0]
        needed = (self.weights[0].shape[1] // 9, side, side)
        if x.shape[1:] != needed:
            raise ValueError(
                f"x: needs images (B, {', '.join(map(str, needed))}), got {tuple(x.shape)}"
            )
        h = x.permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(0)  # (1, B, pixels, C)
        batch = x.shape[0]
        for layer in range(3):
            if layer < len(self.sizes):
                h = _patches(h, self.get_buffer(f"taps{layer}"))
            h = h.reshape(h.shape[0], -1, self.weights[layer].shape[1])
            h = relu_(self._batch_norm(h @ self.weights[layer], layer))
            h = h.view(self.members, batch, -1, h.shape[-1])
        return h.mean(2)

    def _batch_norm(self, x: Tensor, layer: int) -> Tensor:
        """Per member and channel, over the rows; batch statistics when training, else running."""
        mean, var = self.get_buffer(f"mean{layer}"), self.get_buffer(f"var{layer}")
        if not self.training:
            scale = (var + self.eps).rsqrt() * self.scales[layer]
            return torch.addcmul(self.shifts[layer] - mean * scale, x, scale)
        batch_mean = x.mean(1, keepdim=True)
        centred = x - batch_mean
        batch_var = centred.square().mean(1, keepdim=True)
        with torch.no_grad():
            unbiased = x.shape[1] / max(x.shape[1] - 1, 1)
            mean.lerp_(batch_mean, self.momentum)
            var.lerp_(batch_var * unbiased, self.momentum)
        scale = (batch_var + self.eps).rsqrt() * self.scales[layer]
        return torch.addcmul(self.shifts[layer], centred, scale)


def _patch_index(side: int) -> Tensor:
    """Pixels under each place of a 3x3/2 window, padding 1; ``side**2`` is the padding."""
    last = side * side
    pixels = torch.full((side + 2, side + 2), last)
    pixels[1:-1, 1:-1] = torch.arange(last).view(side, side)
    return pixels.unfold(0, 3, 2).unfold(1, 3, 2).reshape(-1)


def _patches(h: Tensor, index: Tensor) -> Tensor:
    """(M, B, pixels, C) -> (M, B * positions, 9 * C), zeros where the window leaves the image."""
    taken = nn.functional.pad(h, (0, 0, 0, 1)).index_select(2, index)
    return taken.view(h.shape[0], -1, 9 * h.shape[-1])


class ResNet18(nn.Module):
    """torchvision's ResNet-18 from scratch, up to its 512 average-pooled ReLU features.

    One network per process, in the shape of a stack of one.
    """

    width = 512

    def __init__(self, seeds: Sequence[int], channels: int = 3) -> None:
        super().__init__()
        from remi_lib._torchvision import models

        if len(seeds) != 1:
            raise ValueError(f"net: resnet18 trains one member at a time, got {len(seeds)}")
        with as_global_stream(seeds[0], "encoder"):
            self.net = models.resnet18(weights=None)
            if channels != 3:
                self.net.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.net.fc = nn.Identity()
        self.net.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Features (1, B, 512) of images (B, C, H, W)."""
        return self.net(x.contiguous(memory_format=torch.channels_last)).unsqueeze(0)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, each with batch norm, as in a basic ResNet block."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(fan_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or fan_in != fan_out:
            shortcut = nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to (B, C', H', W')."""
        return relu_(self.body(x) + self.shortcut(x))


class ResNet8(nn.Module):
    """A residual network of 8 layers for 32 pixels, up to 512 average-pooled ReLU features.

    A 3x3/2 stem of 32 channels, blocks of 32, 64 and 128, and a 1x1 convolution to ``width``: 13
    million multiply-adds an image.  Its features are non-negative averages of ReLU outputs, as
    ResNet-18's are, so that CLB keeps the paper's geometry.  One network, in the shape of a stack
    of one.
    """

    width = 512

    def __init__(self, seeds: Sequence[int], channels: int = 3) -> None:
        super().__init__()
        if len(seeds) != 1:
            raise ValueError(f"net: resnet8 trains one member at a time, got {len(seeds)}")
        with as_global_stream(seeds[0], "encoder"):
            self.net = nn.Sequential(
                *(nn.Conv2d(channels, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
                *(Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2)),
                *(nn.Conv2d(128, self.width, 1, bias=False), nn.BatchNorm2d(self.width)),
                *(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            )
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Features (1, B, 512) of images (B, C, H, W)."""
        return self.net(x.contiguous(memory_format=torch.channels_last)).unsqueeze(0)


SCALES = ("plain", "sqrt", "cosine")


class ImageCritic(nn.Module):
    """Features -> what the benchmark scores: class logits (SLB) or embeddings (CLB).

    Args:
        encoder: images -> features (M, B, d).
        seeds: one per member.
        width: d.
        outputs: of a linear head, K logits for SLB; None leaves the features as they are, which
            is the paper's CLB.
        scale: the inner product of two embeddings is T ("plain", the paper), T / sqrt(d)
            ("sqrt"), or the cosine divided by ``temperature`` ("cosine").
    """

    def __init__(
        self,
        encoder: nn.Module,
        seeds: Sequence[int],
        width: int,
        outputs: int | None = None,
        scale: str = "plain",
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        one_of("scale", scale, SCALES)
        self.encoder, self.scale, self.temperature = encoder, scale, temperature
        self.weight = self.bias = None
        if outputs is not None:
            # A purpose of its own, so that a head does not depend on the encoder's size.
            generators = [generator(seed, "head") for seed in seeds]
            shapes = ((width, outputs), (1, outputs))
            self.weight, self.bias = (
                nn.Parameter(
                    torch.stack([torch_default(torch.empty(shape), width, g) for g in generators])
                )
                for shape in shapes
            )

    def forward(self, images: Tensor) -> Tensor:
        """Logits or embeddings (M, B, outputs or d)."""
        return self.head(self.encoder(images))

    def head(self, features: Tensor) -> Tensor:
        """What is scored, in float32, of features (M, B, d) in any precision."""
        h = features.float()
        if self.weight is not None and self.bias is not None:
            h = torch.baddbmm(self.bias, h, self.weight)
        if self.scale == "sqrt":
            return h / h.shape[-1] ** 0.25
        if self.scale == "cosine":
            return nn.functional.normalize(h, dim=-1) / math.sqrt(self.temperature)
        return h
