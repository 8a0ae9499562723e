"""From folders of JPEG files, as torchvision's ImageFolder has them, to batches on the device.

What a step sees depends on the seed, the step and the tree, never on how many workers or
processes brought it: the order is drawn per epoch, the augmentation per picture and epoch.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from remi_lib._torchvision import datasets, v2
from remi_lib.checks import one_of
from remi_lib.experiments.imagenet.textures import Textures, tree
from remi_lib.images import ImageSet
from remi_lib.paths import data_dir
from remi_lib.streams import as_global_stream, generator

IMAGENET_CLASSES, IMAGENET_IMAGES = 1000, 1_281_167  # of ILSVRC 2012's training split
TREES = ("textures", "imagenet", "folder")
AUGMENTS = ("resize", "crop")

Key = tuple[int, int]  # (epoch, number of the picture in its split)


@dataclass(frozen=True)
class Split:
    """Files of a split, class by class: paths relative to ``folder`` (n,) and labels (n,)."""

    folder: Path
    files: NDArray[np.bytes_]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, number: int) -> Path:
        return self.folder / os.fsdecode(self.files[number])

    def neighbours(self, number: int) -> Iterator[int]:
        """The other pictures of the same class, from ``number`` on and round to it."""
        label = self.labels[number]
        first = int(torch.searchsorted(self.labels, label))
        count = int(torch.searchsorted(self.labels, label, right=True)) - first
        for i in range(1, count):
            yield first + (number - first + i) % count


@dataclass(frozen=True)
class Tree:
    """A root of JPEG files, its classes in the order of their folders' names, and two splits."""

    name: str
    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split

    @property
    def fingerprint(self) -> str:
        """Digest of the files' names: where the root lies does not matter."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for split in (self.train, self.val):
            digest.update(split.files.tobytes())
        return digest.hexdigest()[:20]

    def image_set(self, size: int) -> ImageSet:
        """Labels, classes and entropy as :class:`ImageSet` has them; the pictures stay files."""
        none = torch.empty(0, 3, size, size, dtype=torch.uint8)
        stands_for = "ImageNet" if self.name == "textures" else None
        labels = self.train.labels, self.val.labels
        return ImageSet(
            self.name, none, labels[0], none, labels[1], len(self.classes), stand_in_for=stands_for
        )


def locate(name: str, data_root: str = "", textures: Textures | None = None) -> Path:
    """The root of a tree by its name: "textures" is generated, others are where the user says."""
    one_of("dataset", name, TREES)
    if name == "textures":
        return tree(textures or Textures())
    root = Path(data_root or os.environ.get("REMI_IMAGENET") or data_dir() / "imagenet")
    if not root.expanduser().is_dir():
        raise FileNotFoundError(
            f"data_root: {root} is no folder; give the folder that holds train/<class>/*.JPEG and "
            "val/<class>/*.JPEG, as a parameter or in REMI_IMAGENET"
        )
    return root.expanduser()


def open_tree(name: str, root: Path) -> Tree:
    """List a tree and check that a classifier can be trained and measured on it."""
    root = Path(root)
    classes = _class_folders(root / "train")
    if len(classes) < 2:
        raise ValueError(
            f"data_root: {root / 'train'} holds one class, {classes[0]!r}; needs at least two"
        )
    if name == "imagenet" and len(classes) != IMAGENET_CLASSES:
        raise ValueError(
            f"dataset: {root} has {len(classes)} classes and ImageNet {IMAGENET_CLASSES}; "
            "set dataset to 'folder' for another tree"
        )
    unknown = sorted(set(_class_folders(root / "val")) - set(classes))
    if unknown:
        raise ValueError(
            f"data_root: {root / 'val'} has {len(unknown)} classes that training lacks, e.g. "
            f"{unknown[0]!r}; allowed: the folders of {root / 'train'}"
        )
    labels = {c: i for i, c in enumerate(classes)}
    train, val = (_list(root / split, labels) for split in ("train", "val"))
    return Tree(name, root, tuple(classes), train, val)


def _class_folders(folder: Path) -> list[str]:
    try:
        return datasets.folder.find_classes(folder)[0]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"data_root: {folder} is missing or has no class folders; expected {folder}/<class>/"
            "*.JPEG (ILSVRC's flat validation folder must be sorted into classes first)"
        ) from None


def _list(folder: Path, labels: dict[str, int]) -> Split:
    own = {c: i for c, i in labels.items() if (folder / c).is_dir()}
    try:
        pairs = datasets.folder.make_dataset(str(folder), own, datasets.folder.IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"data_root: {folder}: {error}") from None
    # One array, not a million strings: forked workers would copy those page by page.
    files = np.array([os.fsencode(os.path.relpath(path, folder)) for path, _ in pairs])
    return Split(folder, files, torch.tensor([label for _, label in pairs]))


def picture_transform(size: int, augment: str, train: bool) -> v2.Transform:
    """A decoded picture -> ``size`` x ``size`` pixels.

    "resize" is the authors': both sides to ``size``, whatever the format.  "crop" is the usual
    recipe: random resized crop and flip in training, the middle in evaluation.
    """
    one_of("augment", augment, AUGMENTS)
    if augment == "resize":
        return v2.Resize((size, size), antialias=True)
    if train:
        return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
    return v2.Compose([v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)])


class Unreadable(NamedTuple):
    """A file that could not be decoded, and why."""

    file: str
    error: str


class Picture(NamedTuple):
    """One picture: pixels uint8 (3, size, size), None if no file could be read in its place."""

    key: Key
    pixels: Tensor | None
    label: int
    unreadable: tuple[Unreadable, ...]


class Pictures(Dataset[Picture]):
    """The pictures of a split by (epoch, number).

    A file that cannot be decoded is named in :attr:`Picture.unreadable`.  In training the next
    readable file of its class takes its place, so that a batch keeps its size and its labels; in
    evaluation the place stays empty.
    """

    def __init__(
        self, split: Split, size: int, augment: str = "resize", train: bool = True, seed: int = 0
    ) -> None:
        self.split, self.train, self.seed = split, train, seed
        self.transform = picture_transform(size, augment, train)
        self.random = train and augment == "crop"

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Key) -> Picture:
        number = key[1]
        label = int(self.split.labels[number])
        failed: list[Unreadable] = []
        others = self.split.neighbours(number) if self.train else ()
        for candidate in chain([number], others):
            path = self.split.path(candidate)
            try:
                with Image.open(path) as image:
                    pixels = self._cut(image.convert("RGB"), key)
                return Picture(key, pixels, label, tuple(failed))
            except (OSError, RuntimeError, SyntaxError, ValueError) as error:
                name = os.fsdecode(self.split.files[candidate])
                failed.append(Unreadable(name, f"{type(error).__name__}: {error}"))
        if self.train:
            raise OSError(f"no readable picture in {path.parent}: {failed[0].error}")
        return Picture(key, None, label, tuple(failed))

    def _cut(self, image: Image.Image, key: Key) -> Tensor:
        with as_global_stream(self.seed, "crop", *key) if self.random else nullcontext():
            return v2.functional.pil_to_tensor(self.transform(image))


class Batches(Sampler[list[Key]]):
    """Steps ``start`` to ``steps`` of an endless shuffled supply, epoch after epoch.

    What does not fill a batch at an epoch's end is dropped.  Of each batch this process gets the
    ``rank``-th of ``world`` equal slices.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        steps: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch > count:
            raise ValueError(f"batch: {batch} is larger than the training split, {count} pictures")
        if batch % world:
            raise ValueError(f"batch: {batch} is not a multiple of the {world} processes")
        self.count, self.batch, self.steps, self.seed = count, batch, steps, seed
        self.start, self.per_epoch = start, count // batch
        share = batch // world
        self.mine = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, torch.empty(0)
        for step in range(self.start, self.steps):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                order = torch.randperm(self.count, generator=generator(self.seed, "data", epoch))
            place = step % self.per_epoch * self.batch
            numbers = order[place : place + self.batch][self.mine].tolist()
            yield [(epoch, number) for number in numbers]


class InOrder(Sampler[list[Key]]):
    """Every picture of a split once, for evaluation."""

    def __init__(self, count: int, batch: int) -> None:
        self.count, self.batch = count, batch

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, self.count, self.batch):
            yield [(0, number) for number in range(start, min(start + self.batch, self.count))]


class Batch(NamedTuple):
    """Images uint8 (B, 3, size, size) and labels (B,) on the device; files that were skipped."""

    images: Tensor
    labels: Tensor
    unreadable: list[Unreadable]


def collate(pictures: list[Picture]) -> Batch:
    """Pictures as one batch; those without pixels are left out."""
    found = [(p.pixels, p.label) for p in pictures if p.pixels is not None]
    unreadable = [u for p in pictures for u in p.unreadable]
    if not found:
        raise OSError(f"none of {len(pictures)} pictures is readable: {unreadable[0].error}")
    pixels, labels = zip(*found, strict=True)
    return Batch(torch.stack(pixels), torch.tensor(labels), unreadable)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def feed(
    pictures: Pictures, order: Sampler[list[Key]], workers: int, device: torch.device
) -> Iterator[Batch]:
    """Batches on the device in the sampler's order, prepared ahead by ``workers`` processes."""
    supply: DataLoader = DataLoader(
        pictures,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        # A stream of its own: the process's must not depend on how often a loader was started.
        generator=torch.Generator(),
    )
    for batch in supply:
        images, labels = (x.to(device, non_blocking=True) for x in batch[:2])
        yield Batch(images, labels, batch.unreadable)
