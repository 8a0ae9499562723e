"""Images for runs whose plan matters, and not what they learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from remi_lib.images import ImageSet

READERS = ["tasks.images"] + [
    f"experiments.{module}"
    for module in (
        *("full_cifar10", "image_outputs", "image_results", "small_images", "small_outputs"),
        *("two_views", "verdicts.common", "verdicts.out_of_distribution", "view_runs"),
        "z_loss.report",
    )
]


@pytest.fixture
def random_images(monkeypatch) -> Callable[..., None]:
    """Modules load 24 random images to train on and 12 to test, whatever set they ask for."""

    def stand_in(name: str, classes: int = 2, side: int = 32, source: str = "") -> None:
        stream = torch.Generator().manual_seed(0)
        x = torch.randint(256, (36, 3, side, side), generator=stream, dtype=torch.uint8)
        y = torch.arange(36) % classes
        data = ImageSet(name, x[:24], y[:24], x[24:], y[24:], classes, source=source)
        for module in READERS:
            monkeypatch.setattr(f"remi_lib.{module}.load_images", lambda name: data)

    return stand_in
