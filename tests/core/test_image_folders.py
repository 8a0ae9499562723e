"""Image sets as folders of files: what is read, what is refused, what is remembered."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from remi_lib import image_folders
from remi_lib.images import load_images

LAYOUTS = {
    "cifar10": image_folders.Layout(3, ("train", 4), ("test", 2)),
    "mnist": image_folders.Layout(2, ("train", None), ("test", None), 1),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(image_folders, "LAYOUTS", LAYOUTS)
    monkeypatch.setattr(image_folders, "TOTALS", {"mnist": (5, 3)})
    load_images.cache_clear()
    yield
    load_images.cache_clear()


def picture(value, channels):
    shape = (6, 5) if channels == 1 else (6, 5, 3)
    pixels = np.full(shape, value, dtype=np.uint8)
    pixels[0, 0] = 200  # so that rows, columns and channels cannot be mixed up unseen
    if channels == 3:
        pixels[..., 2] = 7
    return Image.fromarray(pixels)


def write(root, name, counts, suffix, channels):
    """Folders ``a``, ``b``, ... whose pictures have the value 10 * class + number."""
    for split, each in counts.items():
        for c, many in enumerate(each):
            folder = root / name / split / "abcdef"[c]
            folder.mkdir(parents=True)
            for i in range(many):
                picture(10 * c + i, channels).save(folder / f"{i}.{suffix}")


def cifar(root, suffix="png"):
    write(root, "cifar10", {"train": (4, 4, 4), "test": (2, 2, 2)}, suffix, 3)


def test_pictures_and_labels_are_those_of_the_files(tmp_path):
    cifar(tmp_path)
    data = load_images("cifar10", tmp_path)
    assert data.train_x.shape == (12, 3, 6, 5)
    assert data.train_x.dtype == torch.uint8
    assert data.train_y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.train_x[:, 0, 3, 3].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert data.train_x[5, :, 3, 3].tolist() == [11, 11, 7]
    assert data.train_x[5, 0, 0, 0] == 200
    assert data.test_y.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.entropy == pytest.approx(math.log(3))


def test_what_was_read_is_in_the_name(tmp_path):
    cifar(tmp_path, "jpg")
    assert load_images("cifar10", tmp_path).printed == "CIFAR-10 (JPEG copy)"


def test_grey_pictures_of_an_unbalanced_set(tmp_path):
    write(tmp_path, "mnist", {"train": (3, 2), "test": (1, 2)}, "png", 1)
    data = load_images("mnist", tmp_path)
    assert data.train_x.shape == (5, 1, 6, 5)
    assert data.printed == "MNIST (PNG copy)"
    p = 3 / 5
    assert data.entropy == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))


def test_decoded_once(tmp_path, monkeypatch):
    cifar(tmp_path)
    first = image_folders.read("cifar10", tmp_path / "cifar10")
    monkeypatch.setattr(image_folders, "_decoded", None)  # a second decoding would be an error
    again = image_folders.read("cifar10", tmp_path / "cifar10")
    assert again.checksum == first.checksum
    (kept,) = (tmp_path / "cache" / "images").glob("*.npz")
    assert kept.stat().st_mode & 0o044  # a shared cache is read by others
    np.testing.assert_array_equal(again.train_x, first.train_x)


@pytest.mark.parametrize("damage", [b"", b"not an archive"])
def test_a_damaged_cache_is_made_again(tmp_path, damage):
    cifar(tmp_path)
    first = image_folders.read("cifar10", tmp_path / "cifar10")
    (kept,) = (tmp_path / "cache" / "images").glob("*.npz")
    kept.write_bytes(damage)
    assert image_folders.read("cifar10", tmp_path / "cifar10").checksum == first.checksum


def test_a_cache_whose_pictures_were_altered_is_made_again(tmp_path):
    cifar(tmp_path)
    first = image_folders.read("cifar10", tmp_path / "cifar10")
    (kept,) = (tmp_path / "cache" / "images").glob("*.npz")
    altered = first._replace(train_x=first.train_x + 1)
    np.savez(kept, **altered._asdict())
    again = image_folders.read("cifar10", tmp_path / "cifar10")
    np.testing.assert_array_equal(again.train_x, first.train_x)


def test_a_new_file_is_another_set(tmp_path):
    cifar(tmp_path)
    first = image_folders.read("cifar10", tmp_path / "cifar10")
    path = tmp_path / "cifar10" / "train" / "a" / "0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)
    assert image_folders.read("cifar10", tmp_path / "cifar10").checksum != first.checksum


def test_half_unpacked_folders_are_one_clear_error(tmp_path):
    cifar(tmp_path)
    missing = tmp_path / "cifar10" / "train" / "b" / "2.png"
    missing.unlink()
    with pytest.raises(FileNotFoundError, match=r"cifar10.*train holds 11 of 12 images \(see b/\)"):
        load_images("cifar10", tmp_path)
    for file in (tmp_path / "cifar10" / "train" / "c").iterdir():
        file.unlink()
    (tmp_path / "cifar10" / "train" / "c").rmdir()
    with pytest.raises(FileNotFoundError, match="train has 2 class folders of 3; unpack"):
        load_images("cifar10", tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_damaged_picture_is_named(tmp_path, suffix):
    cifar(tmp_path, suffix)
    damaged = tmp_path / "cifar10" / "train" / "b" / f"1.{suffix}"
    damaged.write_bytes(damaged.read_bytes()[:-60])
    with pytest.raises(ValueError, match=rf"dataset: .*b/1\.{suffix}: cannot be decoded"):
        load_images("cifar10", tmp_path)


def test_a_split_that_is_not_there(tmp_path):
    cifar(tmp_path)
    (tmp_path / "cifar10" / "test").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="test has 0 class folders of 3"):
        load_images("cifar10", tmp_path)


def test_splits_with_other_classes(tmp_path):
    cifar(tmp_path)
    (tmp_path / "cifar10" / "test" / "c").rename(tmp_path / "cifar10" / "test" / "z")
    with pytest.raises(FileNotFoundError, match="its two splits have other classes"):
        load_images("cifar10", tmp_path)


def test_an_unbalanced_set_is_counted_as_a_whole(tmp_path):
    write(tmp_path, "mnist", {"train": (3, 2), "test": (1, 2)}, "png", 1)
    (tmp_path / "mnist" / "train" / "a" / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match="train holds 4 of 5 images"):
        load_images("mnist", tmp_path)


def test_a_part_of_a_set_is_balanced(tmp_path, monkeypatch):
    cifar(tmp_path)
    monkeypatch.setattr("remi_lib.images.PARTS", {"cifar10_10k": ("cifar10", 3)})
    data = load_images("cifar10_10k", tmp_path)
    assert data.train_y.bincount().tolist() == [3, 3, 3]
    assert data.train_x[:, 0, 3, 3].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert len(data.test_y) == 6
    assert data.printed == "CIFAR-10, 10,000 training images (PNG copy)"
