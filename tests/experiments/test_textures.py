"""The generated stand-in for ImageNet: the same files every time, and no class by its colour."""

from __future__ import annotations

import numpy as np
from PIL import Image

from remi_lib.experiments.imagenet.textures import NAMES, SPLITS, Textures, tree, write_tree
from tests.conftest import refuses

SMALL = Textures(classes=4, train=3, val=2)


def test_sixty_classes():
    assert len(set(NAMES)) == 60
    assert Textures(classes=10).names == NAMES[:10]


def test_layout(tmp_path):
    write_tree(SMALL, tmp_path)
    for split, count in zip(SPLITS, (3, 2), strict=True):
        folders = sorted(p.name for p in (tmp_path / split).iterdir())
        assert folders == sorted(SMALL.names)
        for folder in folders:
            assert len(list((tmp_path / split / folder).glob("*.jpg"))) == count
    pictures = [Image.open(path) for path in tmp_path.rglob("*.jpg")]
    assert all(p.format == "JPEG" and p.mode == "RGB" for p in pictures)
    assert len({p.size for p in pictures}) > 10  # formats differ
    for picture in pictures:
        picture.load()


def test_the_same_bytes_in_any_order_and_company(tmp_path):
    write_tree(SMALL, tmp_path / "a")
    write_tree(Textures(classes=2, train=2, val=1), tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.jpg"):
        twin = tmp_path / "a" / path.relative_to(tmp_path / "b")
        assert path.read_bytes() == twin.read_bytes()
    last, first = (SMALL.picture("train", SMALL.names[0], n)[0] for n in (2, 0))
    assert last.shape != first.shape or (last != first).any()
    other = Textures(seed=1).picture("train", SMALL.names[0], 0)[0]
    assert other.shape != first.shape or (other != first).any()


def test_average_pictures_say_little():
    """The nearest class mean is a linear classifier: far above 1/60 it would be trivial."""
    textures = Textures()

    def pictures(split, count):
        found = []
        for label, name in enumerate(textures.names):
            for number in range(count):
                pixels = Image.fromarray(textures.picture(split, name, number)[0])
                small = np.asarray(pixels.resize((16, 16), Image.BILINEAR), float)
                found.append((small.ravel(), label))
        x, y = zip(*found, strict=True)
        return np.stack(x), np.array(y)

    x, y = pictures("train", 12)
    held_out, truth = pictures("val", 4)
    means = np.stack([x[y == c].mean(0) for c in range(60)])
    guess = ((held_out[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (guess == truth).mean() < 0.2


def test_a_tree_is_drawn_once(capsys):
    root = tree(SMALL)
    assert "20 JPEG files of 4 classes" in capsys.readouterr().out
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.jpg")}
    assert len(before) == 20
    assert tree(SMALL) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.jpg")} == before
    assert capsys.readouterr().out == ""
    assert [p for p in root.parent.iterdir() if p.is_dir()] == [root]  # no leftovers


test_bad_settings = refuses(
    (lambda: Textures(classes=61), "classes: 61 is not allowed; 2 to 60"),
    (lambda: Textures(classes=1), "classes: 1 is not allowed"),
    (lambda: Textures(train=0), "train: 0 is not allowed; must be at least 1"),
    (lambda: Textures(side=8), "side: 8 is not allowed; must be at least 16"),
)
