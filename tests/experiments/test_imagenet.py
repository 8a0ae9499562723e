"""Folders of JPEG files to batches: every picture once, the same whoever brings it, bad files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from remi_lib._torchvision import datasets, v2
from remi_lib.experiments.imagenet.textures import Textures, write_tree
from remi_lib.experiments.imagenet.trees import (
    Batches,
    InOrder,
    Pictures,
    collate,
    feed,
    locate,
    open_tree,
    picture_transform,
)
from tests.conftest import refuses

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    write_tree(Textures(classes=5, train=6, val=3, side=40), root)
    return root


@pytest.fixture
def root(sound, tmp_path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "tree"))


def names(split) -> list[str]:
    return [str(split.path(i).relative_to(split.folder)) for i in range(len(split))]


def test_lists_what_torchvisions_image_folder_lists(sound):
    tree = open_tree("folder", sound)
    for split, own in (("train", tree.train), ("val", tree.val)):
        theirs = datasets.ImageFolder(str(sound / split))
        assert [str(own.path(i)) for i in range(len(own))] == [p for p, _ in theirs.samples]
        assert own.labels.tolist() == theirs.targets
        assert list(tree.classes) == theirs.classes
    data = tree.image_set(16)
    assert data.entropy == pytest.approx(np.log(5))
    assert data.stand_in_for is None
    assert open_tree("textures", sound).image_set(16).stand_in_for == "ImageNet"


def test_validation_labels_are_trainings_where_classes_are_missing(root):
    first = open_tree("folder", root).classes[0]
    shutil.rmtree(root / "val" / first)
    tree = open_tree("folder", root)
    assert set(tree.val.labels.tolist()) == {1, 2, 3, 4}
    assert all(tree.classes[c] in str(tree.val.path(i)) for i, c in enumerate(tree.val.labels))


def test_fingerprint_is_of_the_names_not_the_place(sound, root):
    assert open_tree("folder", sound).fingerprint == open_tree("folder", root).fingerprint
    (root / "train" / "fire_stripes" / "0000.jpg").rename(root / "train" / "fire_stripes" / "x.jpg")
    assert open_tree("folder", sound).fingerprint != open_tree("folder", root).fingerprint


def test_plain_resize_is_pillows(sound):
    tree = open_tree("folder", sound)
    picture = Pictures(tree.train, 24)[0, 7]
    image = Image.open(tree.train.path(7)).convert("RGB").resize((24, 24), Image.BILINEAR)
    assert picture.pixels.equal(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1))
    assert picture.label == 1
    x = tree.image_set(24).normalized(picture.pixels[None])
    torch.testing.assert_close(x[0], picture.pixels / 127.5 - 1)


def test_crop_evaluates_on_the_middle():
    wide = Image.new("RGB", (600, 300), "red")
    wide.paste("blue", (200, 0, 400, 300))
    out = v2.functional.pil_to_tensor(picture_transform(224, "crop", train=False)(wide))
    assert out.shape == (3, 224, 224)
    assert (out[2, :, 40:-40] > 200).all()  # the middle is blue, the ends were cut off
    assert (out[0, :, 0] > 200).all()


def test_an_epoch_has_every_picture_once():
    order = list(Batches(count=23, batch=5, steps=10, seed=3))
    assert [len(b) for b in order] == [5] * 10
    for epoch in (0, 1):
        keys = [key for b in order[4 * epoch : 4 * epoch + 4] for key in b]
        assert {e for e, _ in keys} == {epoch}
        numbers = [n for _, n in keys]
        assert len(set(numbers)) == 20  # 3 of 23 fill no batch
    assert order[:4] != order[4:8]
    assert list(Batches(23, 5, 10, seed=4)) != order


def test_order_goes_on_anywhere_and_is_cut_between_processes():
    whole = list(Batches(40, 8, 12, seed=0))
    for start in (1, 5, 6, 11, 12):
        assert list(Batches(40, 8, 12, 0, start)) == whole[start:]
    shares = [list(Batches(40, 8, 12, 0, 0, rank, 4)) for rank in range(4)]
    for step, batch in enumerate(whole):
        assert [key for share in shares for key in share[step]] == batch
    assert [k for b in InOrder(7, 3) for k in b] == [(0, i) for i in range(7)]


@pytest.mark.parametrize("augment", ["resize", "crop"])
def test_batches_do_not_depend_on_the_number_of_workers(sound, augment):
    tree = open_tree("folder", sound)

    def batches(workers):
        pictures = Pictures(tree.train, 16, augment, seed=5)
        return list(feed(pictures, Batches(30, 10, 5, seed=5), workers, CPU))

    state = torch.get_rng_state()
    alone, one, two = (batches(workers) for workers in (0, 1, 2))
    assert torch.get_rng_state().equal(state)
    for a, b, c in zip(alone, one, two, strict=True):
        assert a.images.equal(b.images)
        assert a.images.equal(c.images)
        assert a.labels.equal(b.labels)
        assert a.labels.equal(c.labels)


def test_augmentation_differs_between_epochs_and_seeds_only(sound):
    tree = open_tree("folder", sound)
    first, again = (Pictures(tree.train, 16, "crop", seed=0) for _ in range(2))
    assert first[0, 3].pixels.equal(again[0, 3].pixels)
    assert not first[0, 3].pixels.equal(first[1, 3].pixels)
    assert not first[0, 3].pixels.equal(Pictures(tree.train, 16, "crop", seed=1)[0, 3].pixels)
    held_out = Pictures(tree.val, 16, "crop", train=False)
    assert held_out[0, 3].pixels.equal(held_out[1, 3].pixels)


def truncate(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def test_truncated_file_is_skipped_counted_and_reported(root):
    for split in ("train", "val"):
        truncate(root / split / "fire_zigzag" / "0002.jpg")
    before = sorted((p, p.stat().st_size) for p in root.rglob("*.jpg"))
    tree = open_tree("folder", root)
    bad = names(tree.train).index("fire_zigzag/0002.jpg")
    picture = Pictures(tree.train, 16)[0, bad]
    assert picture.unreadable[0].file == "fire_zigzag/0002.jpg"
    assert "truncated" in picture.unreadable[0].error.lower()
    assert picture.label == tree.train.labels[bad]
    assert picture.pixels.equal(
        Pictures(tree.train, 16)[0, bad + 1].pixels
    )  # the next of its class
    (batch,) = feed(Pictures(tree.train, 16), Batches(30, 30, 1, 0), 2, CPU)
    assert len(batch.images) == 30
    assert [u.file for u in batch.unreadable] == ["fire_zigzag/0002.jpg"]
    (held_out,) = feed(Pictures(tree.val, 16, train=False), InOrder(15, 15), 0, CPU)
    assert len(held_out.labels) == 14
    assert torch.bincount(held_out.labels).tolist().count(2) == 1
    assert [u.file for u in held_out.unreadable] == ["fire_zigzag/0002.jpg"]
    assert sorted((p, p.stat().st_size) for p in root.rglob("*.jpg")) == before


def test_the_last_file_of_a_class_gives_way_to_its_first(root):
    truncate(root / "train" / "fire_stripes" / "0005.jpg")
    tree = open_tree("folder", root)
    bad = names(tree.train).index("fire_stripes/0005.jpg")
    assert list(tree.train.neighbours(bad)) == [bad - 5 + i for i in range(5)]
    picture, first = (Pictures(tree.train, 16)[0, i] for i in (bad, bad - 5))
    assert picture.pixels.equal(first.pixels)


def test_a_class_without_a_readable_file_is_an_error(root):
    for path in (root / "train" / "fire_checks").iterdir():
        truncate(path)
    tree = open_tree("folder", root)
    where = names(tree.train).index("fire_checks/0000.jpg")
    with pytest.raises(OSError, match=r"no readable picture in .*fire_checks"):
        Pictures(tree.train, 16)[0, where]
    nothing = [Pictures(tree.train, 16, train=False)[0, where]]
    with pytest.raises(OSError, match="none of 1 pictures is readable"):
        collate(nothing)


def test_a_file_of_another_format_is_read_whatever_it_is_called(root):
    folder = root / "train" / "fire_stripes"
    Image.new("RGB", (30, 30), "green").save(folder / "0001.jpg", "PNG")
    truncate(folder / "0003.jpg")
    tree = open_tree("folder", root)
    batches = list(feed(Pictures(tree.train, 16), Batches(30, 15, 2, 0), 0, CPU))
    assert [len(b.images) for b in batches] == [15, 15]
    assert [u.file for b in batches for u in b.unreadable] == ["fire_stripes/0003.jpg"]
    images = torch.cat([b.images for b in batches])
    green = torch.tensor([0, 128, 0], dtype=torch.uint8).view(3, 1, 1)
    assert (images == green).all(-1).all(-1).all(-1).sum() == 1


def test_where_trees_are(tmp_path, monkeypatch, sound):
    with pytest.raises(FileNotFoundError, match=r"data_root: .*nowhere is no folder; give the"):
        locate("imagenet", str(tmp_path / "nowhere"))
    monkeypatch.setenv("REMI_IMAGENET", str(sound))
    assert locate("imagenet") == sound
    assert locate("folder", str(tmp_path)) == tmp_path
    assert locate("textures", textures=Textures(2, 1, 1)).is_dir()
    with pytest.raises(ValueError, match="'imagenette' is not allowed; choose one of textures"):
        locate("imagenette")


def _no_train(root):
    shutil.rmtree(root / "train")


def _one_class(root):
    for folder in sorted((root / "train").iterdir())[1:]:
        shutil.rmtree(folder)


def _empty_class(root):
    for path in (root / "train" / "fire_checks").iterdir():
        path.unlink()


def _unknown_validation_class(root):
    (root / "val" / "fire_checks").rename(root / "val" / "n01440764")


def _flat_validation(root):
    for folder in list((root / "val").iterdir()):
        shutil.move(folder / "0000.jpg", root / "val" / f"{folder.name}.jpg")
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (_no_train, FileNotFoundError, r"data_root: .*train is missing or has no class folders"),
        (_one_class, ValueError, r"train holds one class, 'fire_\w+'; needs"),
        (_empty_class, FileNotFoundError, r"data_root: .*train: Found no valid file.*fire_checks"),
        (_unknown_validation_class, ValueError, r"1 classes that training lacks.*'n01440764'"),
        (_flat_validation, FileNotFoundError, r"val is missing or has no class.*must be sorted"),
    ],
)
def test_bad_trees_are_named_and_left_alone(root, damage, kind, message):
    damage(root)
    before = sorted(root.rglob("*"))
    with pytest.raises(kind, match=message):
        open_tree("folder", root)
    assert sorted(root.rglob("*")) == before


def test_what_is_called_imagenet_has_its_classes(sound):
    with pytest.raises(ValueError, match=r"has 5 classes and ImageNet 1000; set dataset to 'fold"):
        open_tree("imagenet", sound)


test_bad_settings = refuses(
    (lambda: picture_transform(16, "mixup", True), "augment: 'mixup' is not allowed"),
    (lambda: Batches(10, 11, 1, 0), "batch: 11 is larger than the training split, 10"),
    (lambda: Batches(10, 9, 1, 0, 0, 0, 2), "batch: 9 is not a multiple of the 2 processes"),
)
