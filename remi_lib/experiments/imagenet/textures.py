"""A generated tree of labelled JPEG files: the stand-in where ImageNet cannot be had.

A class is one of ten textures in one of six palettes; shape, place, size, turn, phase, pitch,
colours, background, patches, light, noise, format and JPEG's loss are nuisance.  A picture depends
on (seed, split, class, number) alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from colorsys import hsv_to_rgb
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remi_lib.checks import at_least
from remi_lib.paths import cache_dir
from remi_lib.progress import progress, say
from remi_lib.replication.store import atomic_folder, config_key, locked
from remi_lib.streams import numpy_generator

Field = NDArray[np.float32]
SPLITS = ("train", "val")


def _wave(u: Field) -> Field:
    return 0.5 + 0.5 * np.sin(2 * np.pi * u)


def _hash(*cells: Field) -> Field:
    """A value in [0, 1) for each cell of a lattice, in integers: the same on every machine."""
    mixed = np.zeros(cells[0].shape, np.int64)
    for cell, prime in zip(cells, (73856093, 19349663), strict=False):
        mixed ^= cell.astype(np.int64) * prime
    return ((mixed ^ (mixed >> 7)) % 251 / 251).astype(np.float32)


# Brightness in [0, 1] over a plane whose unit is one period.
TEXTURES: Mapping[str, Callable[[Field, Field], NDArray[Any]]] = {
    "stripes": lambda u, v: _wave(u),
    "zigzag": lambda u, v: _wave(u + np.abs(np.mod(v, 1) - 0.5)),
    "checks": lambda u, v: np.mod(np.floor(2 * u) + np.floor(2 * v), 2),
    "dots": lambda u, v: np.hypot(np.mod(u, 1) - 0.5, np.mod(v, 1) - 0.5) < 0.3,
    "rings": lambda u, v: np.mod(2 * np.hypot(np.mod(u, 2) - 1, np.mod(v, 2) - 1), 1) < 0.5,
    "bricks": lambda u, v: (
        (np.mod(u + 0.5 * np.floor(2 * v), 1) > 0.15) & (np.mod(2 * v, 1) > 0.25)
    ),
    "plaid": lambda u, v: 0.5 * _wave(u) + 0.5 * _wave(v),
    "bars": lambda u, v: np.mod(u + v, 1) < 0.2,
    "tiles": lambda u, v: _hash(np.floor(2 * u), np.floor(2 * v)),
    "strata": lambda u, v: _hash(np.floor(3 * u)),
}


def _polygon(x: Field, y: Field, corners: int, depth: float) -> NDArray[np.bool_]:
    """A star with ``corners`` points whose notches reach in by ``depth``; 0 is the polygon."""
    angle = np.mod(np.arctan2(y, x) * corners / (2 * np.pi), 1) - 0.5
    flat = np.cos(np.pi / corners) / np.cos(2 * np.pi * angle / corners)
    return np.hypot(x, y) < flat * (1 - depth) + depth * 2 * np.abs(angle)


# Where the texture shows, on a plane where the shape is about one unit in radius.
SHAPES: Mapping[str, Callable[[Field, Field], NDArray[np.bool_]]] = {
    "disc": lambda x, y: np.hypot(x, y) < 0.9,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.8,
    "triangle": lambda x, y: _polygon(x, y, 3, 0.0),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.7) < 0.3,
    "cross": lambda x, y: (np.minimum(np.abs(x), np.abs(y)) < 0.35) & (np.hypot(x, y) < 1.05),
    "star": lambda x, y: _polygon(x, y, 5, 0.5),
}

# Hues (0 to 1, red at 0) of a texture's bright and dark parts.
PALETTES: Mapping[str, tuple[float, float]] = {
    "fire": (0.08, 0.00),
    "moss": (0.22, 0.38),
    "reef": (0.50, 0.05),
    "dusk": (0.75, 0.60),
    "rose": (0.92, 0.80),
    "sand": (0.13, 0.58),
}

NAMES = tuple(f"{palette}_{texture}" for palette in PALETTES for texture in TEXTURES)


@dataclass(frozen=True)
class Textures:
    """``train`` and ``val`` files for each of ``classes`` classes, ``side`` pixels in the mean."""

    classes: int = 60
    train: int = 40
    val: int = 10
    side: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= len(NAMES):
            raise ValueError(f"classes: {self.classes} is not allowed; 2 to {len(NAMES)}")
        for key, least in (("train", 1), ("val", 1), ("side", 16)):
            at_least(key, getattr(self, key), least)

    @property
    def names(self) -> tuple[str, ...]:
        """The class folders: every texture in the first palette, then in the next."""
        return NAMES[: self.classes]

    def picture(self, split: str, name: str, number: int) -> tuple[NDArray[np.uint8], int]:
        """One picture (H, W, 3) and the JPEG quality to store it with."""
        rng = numpy_generator(self.seed, f"texture {name} {split}", number)
        palette, texture = name.split("_")
        shape = SHAPES[rng.choice(list(SHAPES))]
        stretch = rng.uniform(0.8, 1.25)
        height, width = (round(self.side * s) for s in (stretch**0.5, stretch**-0.5))
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        size = rng.uniform(0.7, 1.1)
        place = rng.uniform(-0.3, 0.3, 2)
        sx, sy = _turned((x - place[0]) / size, (y - place[1]) / size, rng.uniform(-np.pi, np.pi))
        pitch = rng.uniform(0.5, 0.75)
        u, v = _turned(x / pitch, y / pitch, rng.uniform(-0.4, 0.4))
        drawn = TEXTURES[texture](u + rng.uniform(0, 6), v + rng.uniform(0, 6))[..., None]
        bright, dark = (_colour(rng, hue) for hue in PALETTES[palette])
        behind, beyond, patch = (_colour(rng) for _ in range(3))
        slope = rng.uniform(-1, 1, 2)
        ramp = np.clip(0.5 + 0.5 * (slope[0] * x + slope[1] * y), 0, 1)[..., None]
        image = behind * ramp + beyond * (1 - ramp)
        image = np.where(shape(sx, sy)[..., None], bright * drawn + 0.5 * dark * (1 - drawn), image)
        for cx, cy, radius in rng.uniform((-1, -1, 0.08), (1, 1, 0.2), (3, 3)):
            image = np.where((np.hypot(x - cx, y - cy) < radius)[..., None], patch, image)
        image = image * rng.uniform(0.7, 1.1) + rng.normal(0, 0.06, image.shape)
        return (255 * np.clip(image, 0, 1)).astype(np.uint8), int(rng.integers(60, 96))


def _turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x - s * y, s * x + c * y


def _colour(rng: np.random.Generator, hue: float | None = None) -> Field:
    """A colour near a hue, or of any."""
    own = rng.uniform() if hue is None else hue + rng.normal(0, 0.05)
    return np.array(hsv_to_rgb(own % 1, *rng.uniform((0.4, 0.6), 1)), np.float32)


def write_tree(textures: Textures, root: Path, label: str | None = None) -> None:
    """``root/<split>/<class>/<number>.jpg`` for every picture."""
    from PIL import Image

    total = textures.classes * (textures.train + textures.val)
    with progress(total, label, "file") as bar:
        for split in SPLITS:
            for name in textures.names:
                folder = root / split / name
                folder.mkdir(parents=True)
                for number in range(getattr(textures, split)):
                    pixels, quality = textures.picture(split, name, number)
                    Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=quality)
                bar.update(getattr(textures, split))


def tree(textures: Textures) -> Path:
    """The root of a generated tree, made once and kept in the cache; it appears as a whole."""
    root = cache_dir() / f"textures-{config_key(asdict(textures), __name__)}"
    with locked(root):
        if root.is_dir():
            return root
        with atomic_folder(root) as fresh:
            write_tree(textures, fresh, "drawing textures")
    count = textures.classes * (textures.train + textures.val)
    say(f"textures: {count} JPEG files of {textures.classes} classes drawn into {root.name}")
    return root
