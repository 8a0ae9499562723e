"""Samplers that know their true MI, and image sets that know H(Y).

Images stay uint8 tensors until a batch is taken; nothing is downloaded unless asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from remi_lib import image_folders
from remi_lib.paths import data_dir


@dataclass(frozen=True)
class OneHot:
    """X uniform on ``symbols`` letters and Y = X (Section 3); I(X; Y) = log symbols nats."""

    symbols: int = 16

    @property
    def mi(self) -> float:
        return math.log(self.symbols)

    def measures(self) -> tuple[Tensor, Tensor]:
        """The exact joint and product of marginals, (N, N) each."""
        n = self.symbols
        return torch.eye(n) / n, torch.full((n, n), 1 / n**2)

    def sample(self, generator: torch.Generator, steps: int, batch: int) -> tuple[Tensor, Tensor]:
        """``steps`` batches as counts on the N x N pairs: joint, product (steps, N, N) each.

        Product pairs are drawn independently of the joint pairs, as the authors do.
        """
        n = self.symbols
        drawn = torch.randint(n, (3, steps, batch), generator=generator)
        pairs = torch.stack([drawn[0] * n + drawn[0], drawn[1] * n + drawn[2]])
        counts = torch.zeros(2, steps, n * n).scatter_add_(-1, pairs, torch.ones(pairs.shape))
        joint, product = counts.view(2, steps, n, n)
        return joint, product


TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda y: y,
    "cubic": lambda y: y**3,
    "asinh": torch.asinh,
}


@dataclass(frozen=True)
class CorrelatedGaussian:
    """y = rho x + sqrt(1 - rho^2) e in ``dim`` dimensions (Appendix D.4).

    I(X; Y) = -dim/2 log(1 - rho^2) nats, whatever invertible ``transform`` y passes through.
    """

    dim: int = 20
    transform: str = "identity"

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim: {self.dim} is not allowed; must be at least 1")
        if self.transform not in TRANSFORMS:
            raise ValueError(
                f"transform: {self.transform!r} is not allowed; one of {', '.join(TRANSFORMS)}"
            )

    def rho(self, mi: float) -> float:
        """The correlation at which I(X; Y) is ``mi`` nats."""
        return math.sqrt(-math.expm1(-2 * mi / self.dim))

    def sample(self, generator: torch.Generator, rho: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """(steps,) correlations -> x and untransformed y, (steps, batch, dim) each."""
        x, e = torch.randn(2, len(rho), batch, self.dim, generator=generator)
        r = rho[:, None, None]
        return x, r * x + (1 - r**2).sqrt() * e

    def seen(self, y: Tensor) -> Tensor:
        """y as the critic sees it."""
        return TRANSFORMS[self.transform](y)

    def log_ratio(self, x: Tensor, y: Tensor, rho: Tensor) -> Tensor:
        """log dP/dQ of all pairs, x (..., n, dim) with untransformed y (..., m, dim)."""
        squares = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
        return self._log_ratio(squares, x @ y.mT, rho)

    def log_ratio_of_pairs(self, x: Tensor, y: Tensor, rho: Tensor) -> Tensor:
        """log dP/dQ of x (..., n, dim) with the y beside it, (..., n)."""
        return self._log_ratio((x**2 + y**2).sum(-1), (x * y).sum(-1), rho)

    def _log_ratio(self, squares: Tensor, inner: Tensor, rho: Tensor) -> Tensor:
        quadratic = rho**2 * squares - 2 * rho * inner
        return -0.5 * self.dim * (1 - rho**2).log() - quadratic / (2 * (1 - rho**2))


@dataclass(frozen=True)
class ImageSet:
    """Labelled images as uint8 tensors (n, C, H, W); ``peak`` is the value of white."""

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int
    peak: int = 255
    stand_in_for: str | None = None
    source: str = ""  # what was read, "JPEG copy": a copy that is not the published archive
    checksum: str = ""  # sha256 of the decoded copy

    @property
    def printed(self) -> str:
        """The name with what was read: "CIFAR-10 (JPEG copy)"."""
        name = PRINTED.get(self.name, self.name)
        return f"{name} ({self.source})" if self.source else name

    def about(self) -> dict[str, str | int | float]:
        """What was read, as plain data to be kept with results."""
        return {
            "name": self.printed,
            "train": len(self.train_y),
            "test": len(self.test_y),
            "classes": self.classes,
            "entropy": round(self.entropy, 6),
            "checksum": self.checksum,
        }

    @property
    def entropy(self) -> float:
        """H(Y) of the training labels in nats: the true MI of SLB and CLB (Theorems 7, 8)."""
        p = torch.bincount(self.train_y, minlength=self.classes).double() / len(self.train_y)
        return float(torch.special.entr(p).sum())

    def to(self, device: torch.device | str) -> ImageSet:
        names = ("train_x", "train_y", "test_x", "test_y")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def normalized(self, images: Tensor, size: int | None = None) -> Tensor:
        """uint8 images (n, C, H, W) as floats in [-1, 1], bilinearly resized to ``size``."""
        x = images.float()
        if size is not None and size != x.shape[-1]:
            x = torch.nn.functional.interpolate(
                x, (size, size), mode="bilinear", antialias=True, align_corners=False
            )
        return x / (self.peak / 2) - 1


PRINTED = {
    "digits": "scikit-learn's digits",
    "cifar10": "CIFAR-10",
    "cifar10_10k": "CIFAR-10, 10,000 training images",
    "cifar100": "CIFAR-100",
    "mnist": "MNIST",
    "tinyimagenet": "Tiny ImageNet",
}
IMAGE_SETS = tuple(PRINTED)
PARTS = {"cifar10_10k": ("cifar10", 1000)}  # of which set, and how many images of each class


@cache
def load_images(name: str, root: Path | None = None) -> ImageSet:
    """An image set by name, read once per process, from ``root`` (:func:`data_dir` if None).

    Folders ``<root>/<name>/train/<class>/*`` of PNG or JPEG files are taken where they are, else
    torchvision's archives.  CIFAR's archives are verified by checksum before they are read,
    MNIST's before they are unpacked; folders are counted (:mod:`remi_lib.image_folders`).

    ``digits`` ships with scikit-learn: 1797 real 8 x 8 images of 10 classes, split 1437/360 once
    and for all, stratified.  It stands in for CIFAR-10 where CIFAR-10 cannot be had.
    ``cifar10_10k`` is CIFAR-10 with the first 1000 training images of each class.

    Raises:
        ValueError: the name is none of :data:`IMAGE_SETS`.
        FileNotFoundError: the set is missing, truncated or altered; it is left as it is.
    """
    if name == "digits":
        return _digits()
    if name not in IMAGE_SETS:
        raise ValueError(
            f"dataset: no data set is called {name!r}; allowed: {', '.join(IMAGE_SETS)}"
        )
    if name in PARTS:
        whole, each = PARTS[name]
        return _part(load_images(whole, root), name, each)
    where = Path(root or data_dir())
    folder = image_folders.find(name, where)
    return _torchvision(name, where) if folder is None else _folders(name, folder)


def _folders(name: str, folder: Path) -> ImageSet:
    found = image_folders.read(name, folder)
    x, y = (
        [torch.from_numpy(a) for a in pair]
        for pair in ((found.train_x, found.test_x), (found.train_y, found.test_y))
    )
    classes = image_folders.LAYOUTS[name].classes
    source = f"{found.kind} copy"
    checksum = found.checksum
    return ImageSet(name, x[0], y[0], x[1], y[1], classes, source=source, checksum=checksum)


def _part(whole: ImageSet, name: str, each: int) -> ImageSet:
    """The first ``each`` training images of every class, and the whole test split."""
    labels = whole.train_y
    order = [(labels == c).nonzero().flatten()[:each] for c in range(whole.classes)]
    kept = torch.cat(order)
    return replace(whole, name=name, train_x=whole.train_x[kept], train_y=labels[kept])


def _digits() -> ImageSet:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(
        torch.arange(len(labels)).numpy(), test_size=360, stratify=digits.target, random_state=0
    )
    return ImageSet(
        "digits", images[train], labels[train], images[test], labels[test], 10, 16, "CIFAR-10"
    )


def _torchvision(name: str, root: Path) -> ImageSet:
    from remi_lib._torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "mnist": datasets.MNIST}
    if name not in kind:
        raise FileNotFoundError(
            f"dataset: {name} is missing; unpack train/<class>/ and val/<class>/ to {root / name}"
        )
    try:
        parts = [kind[name](str(root), train=train) for train in (True, False)]
        if name == "mnist":
            _verify_mnist(parts[0])
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise FileNotFoundError(_advice(name, kind[name], root, error)) from error
    x, y = zip(*((torch.as_tensor(p.data), torch.as_tensor(p.targets)) for p in parts), strict=True)
    train_x, test_x = (i.unsqueeze(1) if i.dim() == 3 else i.permute(0, 3, 1, 2) for i in x)
    return ImageSet(
        name, train_x.contiguous(), y[0], test_x.contiguous(), y[1], len(parts[0].classes)
    )


def _verify_mnist(dataset) -> None:
    """MNIST's loader checks that its files exist; this checks the archives they came from."""
    from remi_lib._torchvision import check_integrity

    for archive, md5 in dataset.resources:
        path = Path(dataset.raw_folder) / archive
        if not check_integrity(str(path), md5):
            raise RuntimeError(f"{path} does not match its checksum {md5}")


def _advice(name: str, kind, root: Path, error: Exception) -> str:
    if name == "mnist":
        where = root / "MNIST" / "raw"
        files = ", ".join(archive for archive, _ in kind.resources)
    else:
        where, files = (
            root,
            f"{kind.filename} (md5 {kind.tgz_md5}), unpacked to {kind.base_folder}/",
        )
    return (
        f"dataset: {name} is missing, truncated or altered in {where}: {error}. "
        f"Run `make data`, or place by hand {files} in {where}, or image folders in "
        f"{root / name}/train/<class>/. Nothing was changed there."
    )
