"""Image sets: known entropies, fixed splits, archives in the true formats, clear errors."""

from __future__ import annotations

import gzip
import hashlib
import math
import pickle
import struct

import numpy as np
import pytest
import torch

from remi_lib import images as image_sets
from remi_lib._torchvision import datasets as tv
from remi_lib.images import load_images


@pytest.fixture(autouse=True)
def forget():
    load_images.cache_clear()
    yield
    load_images.cache_clear()


def test_digits():
    data = load_images("digits")
    assert data.train_x.shape == (1437, 1, 8, 8)
    assert len(data.test_y) == 360
    assert data.entropy == pytest.approx(math.log(10), abs=1e-3)
    assert load_images("digits") is data
    again = image_sets._digits()
    assert again.train_x.equal(data.train_x)
    shares = torch.bincount(data.test_y) / 360
    assert ((shares - 0.1).abs() < 0.02).all()
    x = data.normalized(data.train_x)
    assert x.min() == -1
    assert x.max() == 1


def test_resize_is_pillows_within_one_grey_level():
    from PIL import Image

    data = load_images("digits")
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    coloured = image_sets.ImageSet("x", images, data.train_y, images, data.test_y, 10)
    ours = (coloured.normalized(images, 224) + 1) * 127.5
    for image, mine in zip(images, ours, strict=True):
        pil = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((224, 224), Image.BILINEAR)
        theirs = torch.from_numpy(np.asarray(pil).copy()).permute(2, 0, 1).float()
        assert (mine - theirs).abs().max() <= 1


def _write_cifar(root, kind, coarse: bool, monkeypatch) -> None:
    """A tiny archive in CIFAR's format, with the loader's checksums set to its own."""
    generator = np.random.default_rng(0)
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    key = "fine_labels" if coarse else "labels"

    def write(name: str, n: int) -> str:
        batch = {
            "data": generator.integers(0, 256, (n, 3072), dtype=np.uint8),
            key: (np.arange(n) % 10).tolist(),
        }
        raw = pickle.dumps(batch)
        (folder / name).write_bytes(raw)
        return hashlib.md5(raw).hexdigest()

    monkeypatch.setattr(kind, "train_list", [[n, write(n, 20)] for n, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[n, write(n, 10)] for n, _ in kind.test_list])
    meta = pickle.dumps({kind.meta["key"]: [str(i) for i in range(100 if coarse else 10)]})
    (folder / kind.meta["filename"]).write_bytes(meta)
    monkeypatch.setitem(kind.meta, "md5", hashlib.md5(meta).hexdigest())


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_in_its_own_format(name, tmp_path, monkeypatch):
    kind = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[name]
    _write_cifar(tmp_path, kind, name == "cifar100", monkeypatch)
    data = load_images(name, tmp_path)
    train = 20 * len(kind.train_list)
    assert data.train_x.shape == (train, 3, 32, 32)
    assert data.train_x.dtype == torch.uint8
    assert data.test_x.shape == (10, 3, 32, 32)
    assert data.classes == (100 if name == "cifar100" else 10)
    assert data.entropy == pytest.approx(math.log(10))  # the labels of this archive
    assert data.normalized(data.train_x[:2], 48).shape == (2, 3, 48, 48)
    wide = data.train_x[:2, :, :20]
    assert data.normalized(wide, wide.shape[-1]).shape[-2:] == (wide.shape[-1],) * 2


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_damaged_cifar_is_named_and_left_alone(damage, tmp_path, monkeypatch):
    _write_cifar(tmp_path, tv.CIFAR10, False, monkeypatch)
    path = tmp_path / tv.CIFAR10.base_folder / "data_batch_3"
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(raw[:100] if damage == "truncated" else raw[:-1] + b"x")
    before = sorted((p.name, p.stat().st_size) for p in tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError, match=r"dataset: cifar10 is missing.*make data"):
        load_images("cifar10", tmp_path)
    assert sorted((p.name, p.stat().st_size) for p in tmp_path.rglob("*")) == before


def _write_mnist(root, monkeypatch) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    resources = []
    for archive, _ in tv.MNIST.resources:
        n = 12 if archive.startswith("train") else 6
        if "images" in archive:
            body = struct.pack(">IIII", 2051, n, 28, 28) + bytes(n * 28 * 28)
        else:
            body = struct.pack(">II", 2049, n) + bytes(i % 10 for i in range(n))
        (raw / archive.removesuffix(".gz")).write_bytes(body)
        packed = gzip.compress(body)
        (raw / archive).write_bytes(packed)
        resources.append((archive, hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(tv.MNIST, "resources", resources)


def test_mnist_in_its_own_format(tmp_path, monkeypatch):
    _write_mnist(tmp_path, monkeypatch)
    data = load_images("mnist", tmp_path)
    assert data.train_x.shape == (12, 1, 28, 28)
    archive = tmp_path / "MNIST" / "raw" / tv.MNIST.resources[0][0]
    archive.write_bytes(archive.read_bytes()[:-3])
    load_images.cache_clear()
    with pytest.raises(FileNotFoundError, match="does not match its checksum"):
        load_images("mnist", tmp_path)


def test_no_pickle_is_read_from_an_unchecked_file(tmp_path, monkeypatch):
    """CIFAR's archives are pickles: a file whose checksum is wrong must never be opened."""
    _write_cifar(tmp_path, tv.CIFAR10, False, monkeypatch)
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return (marker.touch, ())

    (tmp_path / tv.CIFAR10.base_folder / "data_batch_1").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FileNotFoundError):
        load_images("cifar10", tmp_path)
    assert not marker.exists()


def test_unknown_data_set():
    with pytest.raises(ValueError, match="no data set is called 'cifar11'; allowed: digits"):
        load_images("cifar11")
