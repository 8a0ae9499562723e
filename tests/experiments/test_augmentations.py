"""SimCLR's augmentations: seeded, in range, and what each does to an image."""

from __future__ import annotations

import pytest
import torch

from remi_lib.experiments import augmentations
from remi_lib.experiments.augmentations import augmented, cropped, greyed, jittered
from remi_lib.streams import generator


def pictures() -> torch.Tensor:
    """Random images in [0, 1], (64, 3, 8, 8)."""
    return torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("change", [augmented, cropped, jittered, greyed])
def test_an_augmentation_is_its_streams_alone_and_keeps_shape_and_range(change):
    x = pictures()
    once, again, other = (change(x, generator(0, "views", i)) for i in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert not torch.equal(once, x)
    assert once.shape == x.shape
    assert 0 <= once.min() <= once.max() <= 1


def test_a_crop_of_the_whole_image_is_the_image_or_its_mirror_image(monkeypatch):
    monkeypatch.setattr(augmentations, "AREA", (1.0, 1.0))
    monkeypatch.setattr(augmentations, "RATIO", 1.0)
    x = pictures()
    found = cropped(x, generator(0, "views"))
    same, mirrored = ((found - like).abs().amax((1, 2, 3)) < 1e-5 for like in (x, x.flip(-1)))
    assert (same ^ mirrored).all()
    assert 16 < same.sum() < 48


def test_a_crop_stays_inside_the_image():
    """Of one colour it is that colour: nothing is taken from beyond the edge."""
    flat = torch.full((64, 3, 8, 8), 0.7)
    torch.testing.assert_close(cropped(flat, generator(0, "views")), flat)


def test_few_images_are_grey_and_most_are_jittered():
    x = pictures()
    grey = greyed(x, generator(0, "views"))
    without = (grey[:, :1] == grey).all(1).all(-1).all(-1)
    assert 4 <= without.sum() <= 24
    assert torch.equal(grey[~without], x[~without])
    kept = (jittered(x, generator(0, "views")) - x).abs().amax((1, 2, 3)) < 1e-6
    assert 4 <= kept.sum() <= 24
