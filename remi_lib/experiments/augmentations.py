"""SimCLR's augmentations of small images, with torch alone and from one seeded stream.

Chen et al. 2020, arXiv 2002.05709: Appendix A, at the strengths that Appendix B.9 has for CIFAR-10,
which leaves out the blur.  Images are floats in [0, 1], (B, 3, H, W), and stay so.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

AREA = (0.3, 1.0)  # of the image that a crop keeps
RATIO = 4 / 3  # of the sides of a crop, at the most
STRENGTH = 0.4  # by which brightness and contrast change at the most
JITTERED, GREY, FLIPPED = 0.8, 0.2, 0.5  # shares of the images
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, torchvision's weights of red, green and blue


def augmented(images: Tensor, stream: torch.Generator) -> Tensor:
    """One view of each image: crop, flip, jitter, grey, each image by draws of its own."""
    return greyed(jittered(cropped(images, stream), stream), stream)


def cropped(images: Tensor, stream: torch.Generator) -> Tensor:
    """A random rectangle of each image at the image's size, half of them mirrored.

    One that is longer than the image is cut to it, where torchvision would draw again.
    """
    n = len(images)
    area, bend = _uniform(n, *AREA, stream), _uniform(n, -1, 1, stream) * math.log(RATIO)
    wide, high = ((area.sqrt() * (sign * bend / 2).exp()).clamp(max=1) for sign in (1, -1))
    x, y = (_uniform(n, -1, 1, stream) * (1 - side) for side in (wide, high))
    mirror = 1 - 2 * (_uniform(n, 0, 1, stream) < FLIPPED).float()
    none = torch.zeros(n)
    places = torch.stack([wide * mirror, none, x, none, high, y], -1).view(n, 2, 3)
    grid = affine_grid(places, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def jittered(images: Tensor, stream: torch.Generator) -> Tensor:
    """Brightness, then contrast around the mean grey, times 1 - 0.4 to 1 + 0.4 in most images."""
    n = len(images)
    moved = _uniform(n, 0, 1, stream) < JITTERED
    ends = (1 - STRENGTH, 1 + STRENGTH)
    brightness, contrast = (
        torch.where(moved, _uniform(n, *ends, stream), 1.0).view(n, 1, 1, 1) for _ in range(2)
    )
    images = (images * brightness).clamp(0, 1)
    middle = _luma(images).mean((-2, -1), keepdim=True)
    return (middle + contrast * (images - middle)).clamp(0, 1)


def greyed(images: Tensor, stream: torch.Generator) -> Tensor:
    """A few images without their colour."""
    chosen = _uniform(len(images), 0, 1, stream) < GREY
    return torch.where(chosen.view(-1, 1, 1, 1), _luma(images), images)


def _luma(images: Tensor) -> Tensor:
    """Grey (B, 1, H, W)."""
    return (images * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def _uniform(n: int, low: float, high: float, stream: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=stream)
