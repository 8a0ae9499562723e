"""Images for runs whose plan matters, and not what they learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType

import pytest
import torch

from remi_lib.images import ImageSet


@pytest.fixture
def random_images(monkeypatch) -> Callable[..., None]:
    """Modules load 24 random images to train on and 12 to test, whatever set they ask for."""

    def stand_in(
        modules: Iterable[ModuleType], name: str, classes: int = 2, side: int = 32, source: str = ""
    ) -> None:
        stream = torch.Generator().manual_seed(0)
        x = torch.randint(256, (36, 3, side, side), generator=stream, dtype=torch.uint8)
        y = torch.arange(36) % classes
        data = ImageSet(name, x[:24], y[:24], x[24:], y[24:], classes, source=source)
        for module in modules:
            monkeypatch.setattr(module, "load_images", lambda name: data)

    return stand_in
