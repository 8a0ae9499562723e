"""The arguments of the estimator, checked, in one place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import torch

from remi_lib.checks import one_of
from remi_lib.devices import resolve_device
from remi_lib.estimate.columns import MARGINS, Margins
from remi_lib.estimate.inputs import whole, widths
from remi_lib.losses import make_loss, needs

METHODS = ("auto", "critics", "neighbours", "table")


@dataclass(frozen=True)
class Options:
    """Arguments of :func:`~remi_lib.estimate_mi` and their defaults; see there.

    Raises:
        ValueError: an argument that does not fit; the message begins with its name.
    """

    seed: int = 0
    method: str = "auto"
    loss: str | None = None
    weight: float | None = None
    tau: float | None = None
    margins: Margins = "both"
    categories: int = 32
    base: bool = True
    seeds: int = 1
    folds: int = 5
    steps: int = 1000
    patience: int = 3
    batch: int = 128
    partners: int = 4
    hidden: Sequence[int] = (64, 64)
    lr: float = 5e-3
    device: Any = "auto"  # a torch.device once checked
    label: str | None = "estimate_mi"
    bits: bool = False

    def __post_init__(self) -> None:
        least = {"seed": 0, "categories": 0, "seeds": 1, "folds": 2, "steps": 1, "patience": 1}
        for name, smallest in {**least, "batch": 2, "partners": 1}.items():
            object.__setattr__(self, name, whole(name, getattr(self, name), smallest))
        object.__setattr__(self, "hidden", widths("hidden", self.hidden))
        if not (isinstance(self.lr, Real) and 0 < self.lr < math.inf):
            raise ValueError(f"lr: {self.lr} is not allowed; must be positive and finite")
        one_of("margins", self.margins, MARGINS)
        one_of("method", self.method, METHODS)
        for name in ("weight", "tau"):
            if not isinstance(getattr(self, name), Real | None):
                raise ValueError(
                    f"{name}: {getattr(self, name)!r} is not allowed; must be a number"
                )
        make_loss(self.name, self.weight, tau=self.tau)
        if needs(self.name):
            raise ValueError(f"loss: {self.name} {needs(self.name)}, which is not made here")
        device = resolve_device("auto" if self.device is None else str(self.device))
        object.__setattr__(self, "device", device)

    @property
    def name(self) -> str:
        """Of the loss."""
        return "remine" if self.loss is None else self.loss

    def given(self) -> list[str]:
        """Arguments that only the critics know and that are not at their defaults."""
        known = {f.name: f.default for f in fields(self)}
        names = ("loss", "weight", "tau", "margins", "base")
        return [name for name in names if getattr(self, name) != known[name]]


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Training as it is alone: no switch of the caller reaches it, and it leaves none changed.

    Gradients are on and autocast off; new tensors are single, and on the CPU where nothing else is
    said.  On a CPU one thread: the products are too small for two, and on a busy machine waiting
    for the second one costs more than it does.
    """
    threads, kind = torch.get_num_threads(), torch.get_default_dtype()
    home = torch.device("cpu")  # entering a device makes every call a little slower
    elsewhere = nullcontext() if torch.get_default_device() == home else home
    torch.set_default_dtype(torch.float32)
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            elsewhere,
        ):
            yield
    finally:
        torch.set_default_dtype(kind)
        torch.set_num_threads(threads)
