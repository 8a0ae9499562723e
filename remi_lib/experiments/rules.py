"""What a parameter of this paper's notebooks may hold, in every notebook that declares it."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping
from typing import Any

import torch

from remi_lib.devices import resolve_device
from remi_lib.estimate.inputs import FEWEST
from remi_lib.losses import LOSSES, split_name
from remi_lib.replication.parameters import Rules


def _accepted_by(function: Callable[[str], object]) -> Callable[[str], bool]:
    def test(value: str) -> bool:
        try:
            function(value)
        except ValueError:
            return False
        return True

    return test


_LOSS = (
    _accepted_by(split_name),
    f"one of {', '.join(LOSSES)}, or name@module of one that the module registers",
)

RULES: Rules = {
    "losses": _LOSS,
    "loss": _LOSS,
    **dict.fromkeys(("weight", "weights"), (lambda v: 0 <= v < math.inf, "lambda >= 0")),
    "batch": (lambda v: v >= 2, "at least 2"),
    "batches": (lambda v: v >= 2, "at least 2"),
    "lr": (lambda v: 0 < v < math.inf, "positive and finite"),
    "chunk": (lambda v: v >= 0, "at least 0"),
    **dict.fromkeys(
        ("steps", "epochs", "slb_epochs", "clb_epochs", "short_epochs", "stack", "each", "span"),
        (lambda v: v >= 1, "at least 1"),
    ),
    "seeds": (lambda v: v >= 2, "at least 2, for an interval"),
    "repeats": (lambda v: v >= 2, "at least 2, for an interval"),
    "samples": (lambda v: v >= FEWEST, f"at least {FEWEST}, which estimate_mi needs"),
    "levels": (lambda v: 0 < v < math.inf, "a positive MI in nats"),
    "device": (_accepted_by(resolve_device), "a device of this machine, or auto"),
}


def device_of(values: Mapping[str, Any]) -> str:
    """What a notebook with these parameters runs on, in words: "cpu (x86_64)"."""
    device = resolve_device(values.get("device", "auto"))
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return f"{device.type} ({hardware})"
