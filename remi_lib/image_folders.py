"""Image sets that lie as folders of files, ``<split>/<class>/<file>``, PNG or JPEG.

They are decoded once into uint8 arrays under the cache, with a checksum of what was decoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from remi_lib.paths import atomic, cache_dir

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Layout:
    """What a complete copy holds: (folder, images in each class) of both splits."""

    classes: int
    train: tuple[str, int | None]  # None: any number, as long as it is the same for every class
    test: tuple[str, int | None]
    channels: int = 3


# MNIST is not balanced, so only its totals are known.
LAYOUTS: dict[str, Layout] = {
    "cifar10": Layout(10, ("train", 5000), ("test", 1000)),
    "cifar100": Layout(100, ("train", 500), ("test", 100)),
    "mnist": Layout(10, ("train", None), ("test", None), 1),
    "tinyimagenet": Layout(200, ("train", 150), ("val", 25)),
}
TOTALS = {"mnist": (60_000, 10_000)}


class Folders(NamedTuple):
    """Decoded images (n, C, H, W) and labels (n,) of both splits, and what they were decoded of.

    ``checksum``: sha256 of the decoded arrays.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    kind: str
    checksum: str


def find(name: str, root: Path) -> Path | None:
    """The folder of an image set below ``root``, if somebody unpacked one there."""
    folder = root / name
    known = LAYOUTS.get(name)
    return folder if known and (folder / known.train[0]).is_dir() else None


def read(name: str, folder: Path) -> Folders:
    """The images of a folder, from the cache if files of these paths and sizes were decoded before.

    Classes are numbered in the order of their folders' names.

    Raises:
        FileNotFoundError: a class or an image is missing; the message says where and how many.
        ValueError: an image cannot be decoded; the message names its file.
    """
    layout = LAYOUTS[name]
    splits = [_listed(name, folder / split, layout.classes) for split, _ in _splits(layout)]
    for files, (split, each), total in zip(
        splits, _splits(layout), TOTALS.get(name, (None, None)), strict=True
    ):
        _complete(name, folder / split, files, each, total)
    if [*splits[0]] != [*splits[1]]:
        raise FileNotFoundError(f"dataset: {name}: {folder}: its two splits have other classes")
    kept = cache_dir() / "images" / f"{name}-{_listing(folder, splits)}.npz"
    found = _kept(kept)
    if found is None:
        found = _decoded(splits, layout.channels)
        with atomic(kept) as temporary:
            np.savez(temporary, **found._asdict())
    return found


def _splits(layout: Layout) -> tuple[tuple[str, int | None], tuple[str, int | None]]:
    return layout.train, layout.test


def _listed(name: str, folder: Path, classes: int) -> dict[str, list[Path]]:
    """The image files of each class, sorted."""
    found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if len(found) != classes:
        raise FileNotFoundError(
            f"dataset: {name}: {folder} has {len(found)} class folders of {classes}; "
            "unpack its archive again"
        )
    return {p.name: sorted(f for f in p.iterdir() if f.suffix.lower() in SUFFIXES) for p in found}


def _complete(
    name: str, folder: Path, files: dict[str, list[Path]], each: int | None, total: int | None
) -> None:
    here = sum(map(len, files.values()))
    wanted = each * len(files) if each else total
    short = [c for c, own in files.items() if (each and len(own) != each) or not own]
    if here != wanted or short:
        raise FileNotFoundError(
            f"dataset: {name}: {folder} holds {here} of {wanted} images"
            f"{f' (see {short[0]}/)' if short else ''}; unpack its archive again"
        )


def _listing(folder: Path, splits: list[dict[str, list[Path]]]) -> str:
    """A key of which files are there and how long they are."""
    key = hashlib.sha256()
    for files in splits:
        for path in (path for own in files.values() for path in own):
            key.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
    return key.hexdigest()[:20]


def _decoded(splits: list[dict[str, list[Path]]], channels: int) -> Folders:
    mode = "L" if channels == 1 else "RGB"
    arrays: list[np.ndarray] = []
    for files in splits:
        paths = [path for own in files.values() for path in own]
        images = np.stack([_pixels(path, mode) for path in paths])
        images = images[:, None] if channels == 1 else images.transpose(0, 3, 1, 2)
        labels = np.repeat(np.arange(len(files)), [len(own) for own in files.values()])
        arrays += [np.ascontiguousarray(images), labels]
    kinds = {SUFFIXES[p.suffix.lower()] for files in splits for own in files.values() for p in own}
    train_x, train_y, test_x, test_y = arrays
    kind = " and ".join(sorted(kinds))
    return Folders(train_x, train_y, test_x, test_y, kind, _checksum(arrays))


def _pixels(path: Path, mode: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except (OSError, SyntaxError) as error:  # PIL raises the latter for a damaged PNG
        raise ValueError(
            f"dataset: {path}: cannot be decoded ({error}); unpack its archive again"
        ) from error


def _checksum(arrays: list[np.ndarray]) -> str:
    key = hashlib.sha256()
    for array in arrays:
        key.update(str((array.shape, array.dtype)).encode())
        key.update(np.ascontiguousarray(array).data)
    return key.hexdigest()


def _kept(path: Path) -> Folders | None:
    """What was decoded before; None if it is not there or no longer what it was."""
    try:
        with np.load(path) as stored:
            train_x, train_y, test_x, test_y = (stored[name] for name in Folders._fields[:4])
            kind, checksum = str(stored["kind"]), str(stored["checksum"])
    except Exception:  # absent, truncated, or not an archive at all
        return None
    same = _checksum([train_x, train_y, test_x, test_y]) == checksum
    return Folders(train_x, train_y, test_x, test_y, kind, checksum) if same else None
