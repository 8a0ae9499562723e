"""Image sets that know H(Y), their true MI in both benchmarks.

Images stay uint8 tensors until a batch is taken; nothing is downloaded unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from remi_lib import image_folders
from remi_lib.paths import data_dir


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

    @property
    def printed(self) -> str:
        """The name with what was read: "CIFAR-10 (JPEG copy)"."""
        name = PRINTED.get(self.name, self.name)
        return f"{name} ({self.source})" if self.source else name

    @property
    def entropy(self) -> float:
        """H(Y) of the training labels in nats: the true MI of SLB and CLB (Theorems 7, 8)."""
        p = torch.bincount(self.train_y, minlength=self.classes).double() / len(self.train_y)
        return float(torch.special.entr(p).sum())

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with its tensors on a device."""
        names = ("train_x", "train_y", "test_x", "test_y")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def normalized(self, images: Tensor, size: int | None = None) -> Tensor:
        """uint8 images (n, C, H, W) as floats in [-1, 1], bilinearly resized to ``size``."""
        x = images.float()
        if size is not None and x.shape[-2:] != (size, size):
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
        ValueError: the name is none of :data:`IMAGE_SETS`, or a file in a folder is damaged.
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
    return ImageSet(name, x[0], y[0], x[1], y[1], classes, source=f"{found.kind} copy")


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
